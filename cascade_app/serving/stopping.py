"""The end of a server: what runs is finished or ended within seconds, and whoever waits is told, not cut off.

    stopping.stop()        from now on nothing new begins; who waits is told at once, what runs has GRACE_S to finish
    stopping.wait(s)       until nothing runs any more, or the seconds are over

A run is asked between two of its events, so a picture that is finished is saved before its run ends. Knows nothing of the web
server; `app.py` closes that afterwards.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from cascade_app.errors import ShuttingDown
from cascade_app.events import Event, ImageReady, Waiting
from cascade_app.request import GenerationRequest
from cascade_app.serving.around import Around
from cascade_app.serving.backend import Backend, BackendStatus
from cascade_app.work import WHOLE, Work

GRACE_S = 5.0  # for what runs to finish by itself
TELL_S = 3.0  # for the last words to be sent; while torch is being imported they wait
CLOSE_S = 10.0  # in all, until the process ends; service managers kill what takes longer
SENTENCE = "The server is being shut down; what was finished is kept. Try again in a minute."


class Stopping(Around):
    """A backend that can be brought to an end."""

    def __init__(self, inner: Backend, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(inner)
        self._clock = clock
        self._running = 0
        self._until_s: float | None = None
        self._changed = threading.Condition()

    def stop(self, *, grace_s: float = GRACE_S) -> None:
        """Begin to stop; returns at once."""
        with self._changed:
            self._until_s = self._clock() + grace_s
            self._changed.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Whether all runs have ended within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._running, timeout_s)

    def status(self) -> BackendStatus:
        return BackendStatus("failed", SENTENCE) if self._until_s is not None else self.inner.status()

    def generate(self, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
        with self._changed:
            if self._until_s is not None:
                raise ShuttingDown(SENTENCE)
            self._running += 1
        try:
            with closing(self.inner.generate(request, work)) as events:
                for event in events:
                    if self._ends_at(event):
                        raise ShuttingDown(SENTENCE)
                    yield event
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _ends_at(self, event: Event) -> bool:
        if self._until_s is None or isinstance(event, ImageReady):  # a finished picture goes on to be saved
            return False
        return isinstance(event, Waiting) or self._clock() >= self._until_s
