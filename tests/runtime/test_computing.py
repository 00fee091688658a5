"""One thread computes, whoever asks: its steps, its errors, whose context it has, and what a whole run does in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
import torch

from cascade_app.events import Finished, ImageReady
from cascade_app.runtime.checker import ImageChecker
from cascade_app.runtime.computing import ComputingThread
from cascade_app.runtime.generate import generate

WHO: ContextVar[str] = ContextVar("who", default="nobody")


@pytest.fixture
def computing() -> ComputingThread:
    return ComputingThread("computing")


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns or raises in a thread of its own."""
    told: list[Any] = []

    def work() -> None:
        try:
            told.append((function(*arguments), None))
        except BaseException as error:
            told.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    assert told, "it did not end"
    result, error = told[0]
    if error is not None:
        raise error
    return result


def name() -> str:
    return threading.current_thread().name


def test_every_step_is_taken_in_one_thread_whoever_asks(computing):
    seen = []

    def talk() -> Iterator[int]:
        try:
            for number in range(5):
                seen.append(name())
                yield number
        finally:
            seen.append(name())

    steps = computing.steps(talk())
    assert [elsewhere(next, steps) for _ in range(3)] == [0, 1, 2]
    elsewhere(steps.close)
    assert len(seen) == 4 and len(set(seen)) == 1 and seen[0] != name()
    assert list(computing.steps(iter_of(3))) == elsewhere(list, computing.steps(iter_of(3))) == [0, 1, 2]


def iter_of(count: int) -> Iterator[int]:
    yield from range(count)


def test_the_main_thread_computes_itself_and_so_does_this_one(computing):
    assert computing.call(name) == threading.main_thread().name
    assert elsewhere(computing.call, name).startswith("computing")
    assert elsewhere(computing.call, computing.call, name).startswith("computing"), "it would wait for itself"


def test_errors_and_contexts_are_the_callers(computing):
    def fail() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    steps = computing.steps(fail())
    assert elsewhere(next, steps) == 1
    with pytest.raises(ValueError, match="no more"):
        elsewhere(next, steps)

    def asked_by(who: str) -> str:
        WHO.set(who)
        return computing.call(WHO.get)

    assert [elsewhere(asked_by, who) for who in ("ann", "bob")] == ["ann", "bob"]
    assert elsewhere(computing.call, WHO.get) == "nobody"


def test_a_run_whose_steps_come_from_many_threads_computes_in_one(manager, ask, monkeypatch):
    """A thread that has computed keeps torch's scratch memory and a team of workers."""
    computed = []
    kept = torch.nn.Module.__call__

    def call(module: torch.nn.Module, *arguments: Any, **named: Any) -> Any:
        computed.append(name())
        return kept(module, *arguments, **named)

    monkeypatch.setattr(torch.nn.Module, "__call__", call)
    run = generate(manager, ask())
    events = []
    while not events or not isinstance(events[-1], Finished):
        events.append(elsewhere(next, run))
    assert elsewhere(next, run, None) is None and not manager.turnstile.busy
    assert computed and len(set(computed)) == 1

    monkeypatch.undo()
    [there] = [event for event in events if isinstance(event, ImageReady)]
    [here] = [event for event in generate(manager, ask()) if isinstance(event, ImageReady)]
    assert there.image.tobytes() == here.image.tobytes()


def test_a_run_closed_from_another_thread_frees_the_lock(manager, ask):
    run = generate(manager, ask())
    for _ in range(4):
        elsewhere(next, run)
    assert manager.turnstile.busy
    elsewhere(run.close)
    assert not manager.turnstile.busy


def test_the_image_checker_has_a_thread_too():
    asked = []

    class Processor:
        pixel_values = torch.zeros(1)

        def __call__(self, **_: Any) -> Processor:
            return self

    def network(**_: Any) -> tuple[None, list[bool]]:
        asked.append(name())
        return None, [True]

    checker = ImageChecker(network, Processor())
    assert [elsewhere(checker.flagged, ["a picture"]) for _ in range(3)] == [[True]] * 3
    assert len(set(asked)) == 1 and asked[0] != name()
