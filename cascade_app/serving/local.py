"""The engine in this process. torch and the model libraries are imported by `load`, never before."""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cascade_app.catalogue import CheckpointSpec, find_checkpoint
from cascade_app.errors import CascadeError, NotReady
from cascade_app.events import Event, Waiting
from cascade_app.licenses import accept_license, accepted
from cascade_app.plan import GenerationPlan, draw_seed, make_plan
from cascade_app.request import GenerationRequest
from cascade_app.serving.backend import BackendStatus
from cascade_app.settings import Settings
from cascade_app.system import SystemReport
from cascade_app.wordbook import Wordbook
from cascade_app.work import WHOLE, Work

if TYPE_CHECKING:
    from cascade_app.runtime.manager import PipelineManager

_log = logging.getLogger(__name__)


class LocalBackend:
    """A `Backend` around one PipelineManager. Construct, then `load` (waits) or `start` (returns at once)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._manager: PipelineManager | None = None
        self._status = BackendStatus("loading", "Starting.")
        self._lock = threading.Lock()
        self._browser_here = False

    def start(self) -> None:
        """Load in the background, for a page; `status` tells how it goes."""
        self._browser_here = _is_loopback(self._settings.host)
        threading.Thread(target=self._load_or_say_why, name="cascade-load", daemon=True).start()

    def load(self) -> None:
        """Import the engine and read the default checkpoint, once.

        Raises:
            CascadeError: it cannot be loaded; `status` is then "failed" with the same message.
        """
        with self._lock:
            if self._status.state == "ready":
                return
            try:
                self._load()
            except CascadeError as error:
                self._status = BackendStatus("failed", error.message)
                raise
            self._status = BackendStatus("ready", "Ready.")

    def _load(self) -> None:
        self._status = BackendStatus("loading", "Loading PyTorch.")
        from cascade_app.runtime.fetching import fetch
        from cascade_app.runtime.torch_start import prepare

        prepare(shared=self._browser_here)
        from cascade_app.runtime.manager import PipelineManager

        # Kept even if the default checkpoint cannot be loaded: another one may be chosen.
        manager = self._manager = self._manager or PipelineManager(self._settings)
        spec = find_checkpoint(self._settings.checkpoint)
        for waiting in fetch(spec, self._settings):
            self._status = BackendStatus("loading", waiting.reason)
        self._status = BackendStatus("loading", f"Loading {spec.title}.")
        manager.checkpoint(find_checkpoint(self._settings.checkpoint))

    def _load_or_say_why(self) -> None:
        try:
            self.load()
        except CascadeError as error:
            _log.error("The checkpoint could not be loaded: %s", error.message)
        except Exception:
            _log.exception("Loading failed")
            self._status = BackendStatus("failed", "The engine could not be loaded; the log says why.")

    def status(self) -> BackendStatus:
        return self._status

    def system(self) -> SystemReport | None:
        return self._manager.report() if self._manager and self._status.state != "loading" else None

    def checkpoint(self, name: str) -> CheckpointSpec:
        return find_checkpoint(name)

    def license_accepted(self, name: str) -> bool:
        return accepted(name, by_setting=self._settings.accept_license, data_dir=self._settings.data_dir)

    def accept_license(self, name: str) -> None:
        if not _is_loopback(self._settings.host):
            raise CascadeError(
                "This page is open to others, so only whoever runs it can accept the licence: set CASCADE_ACCEPT_LICENSE "
                f"to {name[:60]} and start it again."
            )
        accept_license(name, data_dir=self._settings.data_dir)
        if self._status.state == "failed":  # perhaps for want of just this
            self._status = BackendStatus("loading", "Starting.")
            self.start()

    def plan(self, request: GenerationRequest, work: Work = WHOLE) -> GenerationPlan:
        book = Wordbook.of(self._settings.data_dir)
        return make_plan(draw_seed(request), find_checkpoint(request.checkpoint), work, book=book)

    def unread(self, plan: GenerationPlan) -> str:
        return self._manager.unread(plan) if self._manager else ""

    def generate(self, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
        request = self.plan(request, work).request  # refuses what cannot be made before anyone waits for it
        while (status := self._status).state == "loading":
            yield Waiting(status.message)
            time.sleep(0.2)
        if self._manager is None:
            raise NotReady(status.message)
        from cascade_app.runtime.generate import generate

        yield from generate(self._manager, request, work)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
