"""The one lock: whoever computes holds it, and those who wait are served in the order they came.

Gradio frees a queue slot while the old step still runs, so its concurrency limit is no mutual exclusion; this is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from cascade_app.events import Waiting


class Turnstile:
    """First come, first served. Taking and leaving may happen in different threads."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._line: deque[object] = deque()  # the first one holds the lock

    @contextmanager
    def ticket(self) -> Iterator[object]:
        """A place in the line, left on exit whether or not its turn ever came."""
        ticket = object()
        with self._condition:
            self._line.append(ticket)
        try:
            yield ticket
        finally:
            with self._condition:
                self._line.remove(ticket)
                self._condition.notify_all()

    def wait(self, ticket: object, *, every_s: float = 0.25) -> Iterator[Waiting]:
        """Yield `Waiting` until it is the ticket's turn; at once empty if it is."""
        while True:
            with self._condition:
                ahead = self._line.index(ticket)
                if ahead == 0:
                    return
            yield Waiting("Another picture is being made." if ahead == 1 else f"{ahead} runs are ahead of yours.", ahead)
            with self._condition:
                self._condition.wait_for(lambda: self._line[0] is ticket, timeout=every_s)

    @property
    def busy(self) -> bool:
        with self._condition:
            return bool(self._line)
