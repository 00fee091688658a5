"""Cascade Studio's front door: joins the settings, the engine, the pictures and the page, and serves them.

    python app.py

The page answers before torch is imported; the engine loads behind it. This is the only file that knows all parts.
A hosted Space runs it as it is.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from cascade_app import stubs
from cascade_app.catalogue import called
from cascade_app.errors import GalleryError, SettingsError
from cascade_app.logs import event, set_up
from cascade_app.settings import Settings
from cascade_app.temporary import SWEEP_S, Temporary, every

if TYPE_CHECKING:
    from gradio import Blocks
    from starlette.routing import Route

    from cascade_app.gallery.gallery import Gallery
    from cascade_app.serving.backend import Backend
    from cascade_app.serving.fair import Fair
    from cascade_app.serving.mcp_server import Tools
    from cascade_app.serving.metrics import Metrics
    from cascade_app.serving.stopping import Stopping

SIGNALS = (signal.SIGINT, signal.SIGTERM)
LOOK_UP_S = 0.2  # how late a signal may be heard that came just before the wait for it
_log = logging.getLogger("cascade_app.app")


def main() -> int:
    """Serve until asked to stop. Returns the exit status: 0, or 2 for a user's mistake."""
    try:
        settings = hosted(Settings.from_env())
        settings = replace(settings, checkpoint=called(settings.checkpoint))
    except SettingsError as error:
        return _refuse(error.message)
    set_up(settings)
    stubs.leave_alone()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read while gradio is imported
    # Else Gradio tabulates its last 10,000 events anew after every one, for a page of numbers that is closed here.
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**9)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Gradio imports it before and after every call; where it is not there, Python would search all folders for it each time.
    if find_spec("matplotlib") is None:
        sys.modules["matplotlib"] = None  # type: ignore[assignment]
    for number in SIGNALS:  # until there is something to end in order
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        temporary = Temporary.begin()  # before gradio is imported, which looks for its folder then
    except OSError as error:
        return _refuse(f"Temporary files cannot be written: {error.strerror}. Set GRADIO_TEMP_DIR to a folder that can be.")
    try:
        return serve(settings, temporary)
    finally:
        temporary.end()


def serve(settings: Settings, temporary: Temporary) -> int:
    """Serve until a signal comes. Returns the exit status."""
    from cascade_app.gallery.gallery import Gallery
    from cascade_app.gallery.limits import Limits
    from cascade_app.gallery.reading import UploadLimits
    from cascade_app.serving import unread
    from cascade_app.serving.front import front
    from cascade_app.serving.metrics import Metrics
    from cascade_app.serving.pictures import app_options
    from cascade_app.serving.stopping import Stopping
    from cascade_app.serving.zero_gpu import make_backend
    from cascade_app.ui.blocks import build_ui, launch_options
    from cascade_app.ui.notice import acceptable_use

    engine = make_backend(settings)
    metrics = Metrics(engine, queue_size=settings.queue_size)
    gallery = Gallery((settings.data_dir / "pictures").resolve(), Limits.of(settings))
    queue = queued(engine, gallery, settings)
    backend = Stopping(surrounded(queue, settings, metrics))
    try:
        before = front(settings)
        gallery.open()
    except (GalleryError, SettingsError) as error:
        return _refuse(error.message)
    called = tools(backend, gallery, settings)
    options = app_options(gallery, UploadLimits.of(settings), front=before.middleware)
    options["routes"] += [*watching(backend, metrics, settings), *called.routes]
    options["lifespan"] = called.lifespan
    blocks = build_ui(
        backend, gallery, checkpoint=settings.checkpoint, queue_size=settings.queue_size, acceptable_use=acceptable_use(settings)
    )
    try:
        _app, address, _share = blocks.launch(
            server_name=settings.host,
            server_port=settings.port,
            prevent_thread_lock=True,
            quiet=True,
            max_file_size=settings.upload_bytes,
            app_kwargs=options,
            **launch_options(settings.queue_size),
        )
    except OSError:
        return _refuse(
            f"Port {settings.port} on {settings.host} cannot be used, another program may have it. "
            "Close that program or set CASCADE_PORT to another number."
        )
    before.launched()
    stop = _stop_on_signals()
    print(f"Cascade Studio is at {address}", flush=True)
    backend.start()
    sweeping = every(SWEEP_S, temporary.sweep, gallery.clear_abandoned), every(unread.SWEEP_S, unread.Unread(blocks).sweep)
    stop()
    for swept in sweeping:
        swept.set()
    end(backend, blocks)
    gallery.close()
    return 0


def end(backend: Stopping, blocks: Blocks) -> None:
    """Finish or end what runs, tell whoever waits, and close the page; whatever holds that up, the process ends in time."""
    from cascade_app.serving.stopping import CLOSE_S, GRACE_S, TELL_S
    from cascade_app.ui.closing import wait_until_told

    last_resort = threading.Timer(CLOSE_S, os._exit, (0,))
    last_resort.daemon = True
    last_resort.start()
    event(_log, "server is stopping")
    backend.stop()
    ended = backend.wait(GRACE_S + 1)
    told = wait_until_told(blocks, timeout_s=TELL_S)
    blocks.close(verbose=False)
    event(_log, "server has stopped", runs_ended=ended, everyone_told=told)


def queued(engine: Backend, gallery: Gallery, settings: Settings) -> Fair:
    """The engine behind its queue."""
    from cascade_app.serving import zero_gpu
    from cascade_app.serving.fair import Fair
    from cascade_app.serving.quotas import Allowance

    lanes = zero_gpu.RUNS_AT_ONCE if zero_gpu.is_here() else 1
    return Fair(
        engine, size=settings.queue_size, allowance=Allowance.of(settings), job_s=settings.job_seconds, lanes=lanes,
        room=gallery.check_room,
    )  # fmt: skip


def surrounded(engine: Backend, settings: Settings, metrics: Metrics) -> Backend:
    """Everything that stands between a caller and the engine, the innermost first."""
    from cascade_app.serving.logged import Logged
    from cascade_app.serving.metrics import Counted
    from cascade_app.serving.safe import Safe

    return Counted(Logged(Safe(engine, settings), prompts=settings.log_prompts), metrics)


def watching(backend: Backend, metrics: Metrics, settings: Settings) -> list[Route]:
    """The addresses for whoever looks after the server: `/health` and `/metrics`."""
    from cascade_app.serving.health import Disk, Health, health_route, queue_check
    from cascade_app.serving.metrics import metrics_route

    checks = (
        Disk((settings.data_dir / "pictures").resolve(), floor_bytes=settings.disk_free_bytes),
        queue_check(metrics.queue_length, settings.queue_size),
    )
    return [health_route(Health(backend, checks)), metrics_route(metrics)]


def tools(backend: Backend, gallery: Gallery, settings: Settings) -> Tools:
    """The API's functions for programs that speak MCP."""
    from gradio.utils import get_upload_folder

    from cascade_app.serving.api import gradio_request
    from cascade_app.serving.endpoints import endpoints
    from cascade_app.serving.mcp_server import Tools
    from cascade_app.ui.blocks import spec_of

    return Tools(
        endpoints(backend, spec_of(backend, settings.checkpoint)), backend, gallery, asking=gradio_request,
        cache=lambda: Path(get_upload_folder()), picture_bytes=settings.upload_bytes,
    )  # fmt: skip


def hosted(settings: Settings) -> Settings:
    """On a hosted Space the page must be reachable from outside the container."""
    if "CASCADE_HOST" in os.environ or not (os.environ.get("SPACE_ID") or os.environ.get("GRADIO_SERVER_NAME")):
        return settings
    return replace(settings, host=os.environ.get("GRADIO_SERVER_NAME") or "0.0.0.0")


def _stop_on_signals() -> Callable[[], int]:
    """From now on a signal ends the server in order; what is returned waits for one.

    Not by a threading.Event: its lock is held for a moment where it is waited for, and a handler that runs just then waits for
    that lock in the very thread that holds it, for ever. Nor without looking up: a signal that comes just before the wait is
    noted, and Python runs its handler when the wait is over.
    """
    asked: SimpleQueue[int] = SimpleQueue()  # may be put into from within itself
    begun: list[int] = []

    def ask(number: int, _frame: object) -> None:
        if begun:  # a second time: at once
            os._exit(128 + number)
        begun.append(number)
        asked.put(number)

    for number in SIGNALS:
        signal.signal(number, ask)

    def wait() -> int:
        while True:
            with suppress(Empty):
                return asked.get(timeout=LOOK_UP_S)

    return wait


def _refuse(sentence: str) -> int:
    print(sentence, file=sys.__stderr__)  # as it is: the error stream proper has become the log's
    return 2


if __name__ == "__main__":
    status = main()
    with suppress(OSError):  # whoever read it may be gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)  # all is closed; taking down torch and its threads in order took longer than ending may
