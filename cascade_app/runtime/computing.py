"""The one thread that computes, for all who wait.

torch keeps scratch memory and a team of workers, one a core, for every thread it was ever called from, until that thread ends:
4.5 MB and a worker each on two cores. With 200 visitors a server has as many threads, and whichever is free takes a run's
next step, so in the end all of them had computed and kept as much. Knows nothing of what is computed, nor of whose turn it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")
_NOTHING: Any = object()


class ComputingThread:
    """Takes what it is handed one after the other, each in its caller's context, who waits for it.

    The thread starts with the first that is handed over from another than the main one. That lasts too, and computes itself:
    the command line can be interrupted within a step, and a fork, as ZeroGPU makes, loses no thread.
    """

    def __init__(self, name: str) -> None:
        self._own: threading.Thread | None = None
        self._pool = ThreadPoolExecutor(1, name, initializer=self._begin)

    def _begin(self) -> None:
        self._own = threading.current_thread()

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """What `function` returns or raises; to be called from anywhere, itself included."""
        if threading.current_thread() in (threading.main_thread(), self._own):
            return function(*arguments)
        return self._pool.submit(copy_context().run, function, *arguments).result()

    def steps(self, events: Iterator[T]) -> Iterator[T]:
        """`events`, a generator, each of whose steps is taken here; closed with this one."""
        try:
            while (event := self.call(next, events, _NOTHING)) is not _NOTHING:
                yield event
        finally:
            self.call(events.close)
