"""A run's caller is known at every step of it, in whatever thread and context the step is taken."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context

import pytest

from cascade_app.events import Event, Notice
from cascade_app.request import GenerationRequest
from cascade_app.serving.around import Around
from cascade_app.serving.caller import NOBODY, Caller, asked_by, current, new_request_id
from cascade_app.work import WHOLE, Work
from tests.fakes import FakeBackend

REQUEST = GenerationRequest(prompt="a red sun", seed=1)


class Told(Around):
    """Yields who asks, three times; keeps who it was when it was closed."""

    closed_by: Caller | None = None

    def generate(self, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
        try:
            for _ in range(3):
                yield Notice(f"{current().visitor} {current().request_id}")
        finally:
            self.closed_by = current()


def test_outside_of_a_run_nobody_asks():
    assert current() == NOBODY
    assert list(Told(FakeBackend()).generate(REQUEST)) == [Notice(" ")] * 3


def test_each_step_in_another_thread_and_context():
    ann, ben = Caller("ann", request_id="1"), Caller("ben", request_id="2")
    told = Told(FakeBackend())
    runs = {who: asked_by(who, told).generate(REQUEST) for who in (ann, ben)}
    with ThreadPoolExecutor(2) as threads:
        for _ in range(3):
            for who, run in runs.items():
                said = threads.submit(Context().run, next, run).result()
                assert said == Notice(f"{who.visitor} {who.request_id}")
    assert current() == NOBODY


def test_closing_it_closes_the_inner_one_as_the_same_caller():
    told, ann = Told(FakeBackend()), Caller("ann")
    run = asked_by(ann, told).generate(REQUEST)
    next(run)
    run.close()
    assert told.closed_by == ann


def test_an_error_comes_through():
    failing = FakeBackend(failure=ValueError("broken"))
    with pytest.raises(ValueError, match="broken"):
        list(asked_by(Caller("ann"), failing).generate(REQUEST))
    assert failing.lock.acquire(timeout=1)


def test_everything_else_is_the_engines():
    inner = FakeBackend()
    backend = asked_by(Caller("ann"), inner)
    assert backend.status() == inner.status()
    assert backend.system() == inner.system()
    assert backend.checkpoint("pocket") == inner.checkpoint("pocket")
    plan = backend.plan(REQUEST)
    assert plan == inner.plan(REQUEST)
    assert backend.unread(plan) == inner.unread(plan)
    backend.accept_license("some")
    assert backend.license_accepted("some")


def test_request_ids_differ():
    assert len({new_request_id() for _ in range(1000)}) == 1000
