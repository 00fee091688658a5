"""How runs end when the server does."""

from __future__ import annotations

import pytest

from cascade_app.errors import ShuttingDown
from cascade_app.events import Finished, ImageReady, StageStarted, StepDone, Waiting
from cascade_app.request import GenerationRequest
from cascade_app.serving.stopping import CLOSE_S, GRACE_S, SENTENCE, TELL_S, Stopping
from tests.fakes import FakeBackend

REQUEST = GenerationRequest(prompt="hills", seed=1, width=128, height=128)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_what_runs_may_finish_within_the_grace():
    stopping = Stopping(FakeBackend(), clock=Clock())
    run = stopping.generate(REQUEST)
    next(run)
    stopping.stop(grace_s=5)
    assert isinstance(list(run)[-1], Finished) and stopping.wait(0)


def test_after_the_grace_it_ends_within_a_step_and_frees_the_engine():
    clock, backend = Clock(), FakeBackend()
    stopping = Stopping(backend, clock=clock)
    run = stopping.generate(REQUEST)
    while not isinstance(next(run), StageStarted):
        pass
    stopping.stop(grace_s=5)
    next(run)
    clock.now_s, before = 5.0, backend.steps_done
    with pytest.raises(ShuttingDown, match="being shut down"):
        next(run)
    assert backend.steps_done <= before + 1
    assert not backend.lock.locked() and stopping.wait(0)


def test_a_finished_picture_is_passed_on_to_be_saved_even_then():
    clock = Clock()
    stopping = Stopping(FakeBackend(), clock=clock)
    run = stopping.generate(REQUEST)
    while not (isinstance(event := next(run), StepDone) and event.stage == "vqgan"):
        assert not isinstance(event, ImageReady)
    stopping.stop(grace_s=0)
    assert isinstance(next(run), ImageReady)
    with pytest.raises(ShuttingDown):
        next(run)


def test_who_waits_is_told_at_once():
    backend = FakeBackend()
    stopping = Stopping(backend, clock=Clock())
    with backend.lock:
        run = stopping.generate(REQUEST)
        assert isinstance(next(run), Waiting)
        stopping.stop(grace_s=5)
        with pytest.raises(ShuttingDown):
            next(run)
        assert stopping.wait(0)


def test_nothing_new_begins():
    backend = FakeBackend()
    stopping = Stopping(backend)
    assert stopping.status() == backend.status()
    stopping.stop()
    with pytest.raises(ShuttingDown):
        next(stopping.generate(REQUEST))
    assert backend.steps_done == 0 and stopping.status().message == SENTENCE


def test_it_waits_for_a_run_that_goes_on():
    stopping = Stopping(FakeBackend(), clock=Clock())
    run = stopping.generate(REQUEST)
    next(run)
    stopping.stop()
    assert not stopping.wait(0)
    run.close()
    assert stopping.wait(0)


def test_grace_and_the_last_words_fit_into_the_whole():
    """`app.end` waits for the first, then for the second, and the process ends after CLOSE_S whatever they did."""
    assert GRACE_S + 1 + TELL_S < CLOSE_S
