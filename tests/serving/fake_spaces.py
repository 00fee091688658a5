"""Stands in for the `spaces` library on a ZeroGPU Space: a forked worker, pickles both ways, a worker that runs ahead.

Only what a caller can notice: arguments and results are pickled; of an exception the caller hears the name of its class, of a
worker that is killed that its task was aborted; closing stops the worker at its next result; the duration is asked for before
the worker starts.
"""

from __future__ import annotations

import multiprocessing
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


class WorkerError(Exception):
    """As gradio's Error: a message for the page, and a title."""

    def __init__(self, message: str, title: str) -> None:
        super().__init__(message)
        self.message, self.title = message, title


@dataclass
class FakeSpaces:
    """The module. `refusal` is raised instead of lending a card; `durations` are those asked for."""

    refusal: Exception | None = None
    durations: list[float] = field(default_factory=list)

    def GPU(self, *, duration: Callable[..., float]) -> Callable[[Any], Any]:
        def decorate(task: Any) -> Any:
            def lent(*arguments: Any) -> Iterator[Any]:
                self.durations.append(duration(*arguments))
                if self.refusal:
                    raise self.refusal
                yield from _in_fork(task, pickle.dumps(arguments))

            return lent

        return decorate


def _in_fork(task: Any, arguments: bytes) -> Iterator[Any]:
    context = multiprocessing.get_context("fork")
    results, stop = context.SimpleQueue(), context.Event()
    worker = context.Process(target=_work, args=(task, arguments, results, stop), daemon=True)
    worker.start()
    try:
        while True:
            kind, value = _next(results, worker)
            if kind == "end":
                return
            if kind == "error":
                raise WorkerError(value, "ZeroGPU worker error")
            yield value
    finally:
        stop.set()
        while worker.is_alive():  # a full pipe would hold it up
            while not results.empty():
                results.get()
            worker.join(0.01)


def _next(results: Any, worker: Any) -> tuple[str, Any]:
    while results.empty():
        if not worker.is_alive() and results.empty():
            return "error", "GPU task aborted"
        time.sleep(0.01)
    return pickle.loads(results.get())


def _work(task: Any, arguments: bytes, results: Any, stop: Any) -> None:
    try:
        steps = task(*pickle.loads(arguments))
        for value in steps:
            if stop.is_set():
                steps.close()
                break
            results.put(pickle.dumps(("value", value)))
    except Exception as error:
        results.put(pickle.dumps(("error", type(error).__name__)))
    else:
        results.put(pickle.dumps(("end", None)))
