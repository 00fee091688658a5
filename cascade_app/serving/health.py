"""GET /health: whether a picture can be made and kept here now, for whoever looks after this server.

    {"state": "ready" | "loading" | "degraded", "reasons": ["a sentence", ...]}

200 for ready, for loading (the page is up, and a run asked for now waits), and for a degraded server that will be well again
by itself, because its queue is full; 503 where somebody has to see to it. So it serves as docker's health check and as a
readiness probe; a liveness probe should ask for the page instead, since starting again makes no disk emptier.

Each reason is a sentence of ours: no path, no prompt, no message of an error. Anyone may ask, behind a login too, so what
costs something is looked at once in a while only.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cascade_app.gallery.limits import size
from cascade_app.serving.backend import Backend

DISK_EVERY_S = 5.0


@dataclass(frozen=True)
class Trouble:
    """Something that is wrong, in a sentence anyone may read. `passing`: it goes by itself."""

    sentence: str
    passing: bool = False


Check = Callable[[], Iterable[Trouble]]


class Health:
    """The engine's state, and what the checks find. One that fails itself is a trouble too."""

    def __init__(self, backend: Backend, checks: Sequence[Check] = ()) -> None:
        self._backend, self._checks = backend, tuple(checks)

    def report(self) -> tuple[int, dict[str, Any]]:
        """The status and the body of the answer."""
        status = self._backend.status()
        state, troubles = status.state, []
        if state == "failed":
            troubles.append(Trouble(status.open_reason or "The engine could not be loaded; the log says why."))
        for check in self._checks:
            try:
                troubles += check()
            except Exception:
                troubles.append(Trouble("A part of this server could not be looked at; the log may say why."))
        if troubles:
            state = "degraded"
        code = 200 if all(one.passing for one in troubles) else 503
        return code, {"state": state, "reasons": [one.sentence for one in troubles]}


class Disk:
    """Whether a picture can be written where pictures are kept, tried at most every few seconds."""

    def __init__(self, folder: Path, *, floor_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._floor_bytes, self._clock = folder, floor_bytes, clock
        self._lock = threading.Lock()
        self._looked, self._found = -DISK_EVERY_S, ()

    def __call__(self) -> tuple[Trouble, ...]:
        with self._lock:
            if self._clock() - self._looked >= DISK_EVERY_S:
                self._found, self._looked = tuple(self._look()), self._clock()
            return self._found

    def _look(self) -> Iterable[Trouble]:
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:  # has no name there, so that nothing can be left
                file.write(b"?" * 4096)
            free = shutil.disk_usage(self._folder).free
        except OSError:
            yield Trouble("Pictures cannot be written: their folder is gone, full, or not open to writing.")
            return
        if free < self._floor_bytes:
            yield Trouble(f"The disk is nearly full: {size(free)} free, of {size(self._floor_bytes)} that should be.")


def queue_check(waiting: Callable[[], float], queue_size: int) -> Check:
    """A full queue, told from how many are `waiting` now."""

    def check() -> Iterable[Trouble]:
        if waiting() >= max(1, queue_size):
            yield Trouble(f"The queue is full: {queue_size} are waiting.", passing=True)

    return check


def health_route(health: Health) -> Route:
    """`GET /health`. It waits for no thread that runs may hold."""
    own = anyio.CapacityLimiter(1)

    async def answer(request: Request) -> Response:
        status, body = await anyio.to_thread.run_sync(health.report, limiter=own)
        return JSONResponse(body, status, headers={"Cache-Control": "no-store"})

    return Route("/health", answer)
