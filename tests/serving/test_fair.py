"""The queue before the engine, stepped by hand: a caller who says it is `gone` is answered at once instead of waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from cascade_app.errors import Busy, CascadeError, InvalidRequest, OverLimit, RenderFailed, TookTooLong
from cascade_app.events import Event, Finished, Notice, StepDone, Waiting
from cascade_app.request import GenerationRequest
from cascade_app.serving import fair
from cascade_app.serving.caller import Caller, asked_by
from cascade_app.serving.fair import Fair
from cascade_app.serving.quotas import ADDRESS_SHARE, Allowance
from cascade_app.work import WHOLE, Work
from tests.fakes import FakeBackend


class Engine(FakeBackend):
    """Yields a notice `steps` times, then that it is done; notes who was begun and who was closed."""

    steps = 2

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        self.begun: list[str] = []
        self.closed: list[str] = []

    def generate(self, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
        self.begun.append(request.prompt)
        try:
            for _ in range(self.steps):
                yield Notice(request.prompt)
            if self.failure:
                raise self.failure
            yield Finished({})
        finally:
            self.closed.append(request.prompt)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Studio:
    """A queue before an engine, with a clock of its own."""

    def __init__(self, *, size: int = 8, engine: Engine | None = None, **options: object) -> None:
        self.engine, self.clock = engine or Engine(), Clock()
        self.fair = Fair(self.engine, size=size, clock=self.clock, **options)

    def ask(self, who: str, what: str = "", *, address: str = "", images: int = 1) -> Iterator[Event]:
        caller = Caller(who, address, gone=lambda: True)
        request = GenerationRequest(prompt=what or who, seed=1, width=256, height=256, images=images)
        return asked_by(caller, self.fair).generate(request)

    def refused(self, who: str, **how: object) -> str:
        with pytest.raises(CascadeError) as caught:
            next(self.ask(who, **how))
        return caught.value.message

    def serve_all(self, runs: dict[str, Iterator[Event]]) -> list[str]:
        """Everyone asks in turn until all is done; who finished, in order."""
        done: list[str] = []
        while len(done) < len(runs):
            for name, run in runs.items():
                if name not in done and isinstance(next(run, None), Finished):
                    run.close()
                    done.append(name)
        return done


def test_alone_nothing_waits():
    studio = Studio()
    assert list(studio.ask("ann")) == [Notice("ann"), Notice("ann"), Finished({})]
    assert studio.fair.load() == fair.Load(0, 0, 8)


def test_one_with_many_does_not_hold_up_one_with_one():
    studio = Studio()
    runs = {f"a{number}": studio.ask("ann", f"a{number}") for number in range(4)}
    for run in runs.values():
        next(run)
    runs["b"] = studio.ask("ben", "b")
    next(runs["b"])
    assert studio.serve_all(runs) == ["a0", "a1", "b", "a2", "a3"]
    assert studio.engine.begun == ["a0", "a1", "b", "a2", "a3"]


def test_everyone_is_told_the_place_and_it_is_kept_up_to_date():
    studio = Studio()
    first, second, third = (studio.ask(who) for who in ("ann", "ben", "eve"))
    next(first)
    assert next(second) == Waiting("1st of 1 in the queue", 1, 1, 1)
    assert next(third) == Waiting("2nd of 2 in the queue", 2, 2, 2)
    assert next(second) == Waiting("1st of 2 in the queue", 1, 1, 2)
    first.close()
    assert next(second) == Notice("ben")
    assert next(third).place == 1


def test_about_how_long_once_a_run_was_timed():
    studio = Studio()
    run = studio.ask("ann")
    assert next(run) == Notice("ann")
    studio.clock.now += 20
    assert list(run)[-1] == Finished({})
    first, second, third = (studio.ask(who) for who in ("ann", "ben", "eve"))
    next(first)
    studio.clock.now += 5
    assert next(second).reason == "1st of 1 in the queue, about 15 s"
    assert next(third).reason == "2nd of 2 in the queue, about 35 s"
    assert next(third).remaining_s == pytest.approx(35)


def test_what_the_engine_says_is_left_counts_for_more():
    class Telling(Engine):
        def generate(self, request, work=WHOLE):
            yield StepDone("prior", 1, 9, 0.1, 1.0, 42.0)
            yield Finished({})

    studio = Studio(engine=Telling())
    list(studio.ask("ann"))
    first, second = studio.ask("ann"), studio.ask("ben")
    next(first)
    studio.clock.now += 2
    assert next(second).remaining_s == 40


def test_one_who_waits_hears_of_the_turn_without_asking_again():
    studio = Studio()
    first = studio.ask("ann")
    next(first)
    heard: list[Event] = []
    waits = threading.Event()

    def wait() -> None:  # a caller who is not gone, so that the second `next` blocks
        run = asked_by(Caller("ben"), studio.fair).generate(GenerationRequest(prompt="ben", seed=1))
        heard.append(next(run))
        waits.set()
        heard.append(next(run))

    thread = threading.Thread(target=wait)
    thread.start()
    assert waits.wait(10)
    first.close()
    thread.join(10)
    assert [type(event) for event in heard] == [Waiting, Notice]


def test_leaving_the_queue_makes_room_at_once():
    studio = Studio(size=1)
    first, second = studio.ask("ann"), studio.ask("ben")
    next(first), next(second)
    assert studio.refused("eve") == "1 request is waiting, which is the limit. Try again in a minute."
    second.close()
    third = studio.ask("eve")
    assert next(third).place == 1
    assert studio.engine.begun == ["ann"]


def test_the_queue_is_bounded():
    studio = Studio(size=3)
    runs = [studio.ask(str(number)) for number in range(4)]
    for run in runs:
        next(run)
    with pytest.raises(Busy, match="3 requests are waiting"):
        next(studio.ask("late"))
    assert studio.fair.load() == fair.Load(3, 1, 3)


def test_what_cannot_be_made_does_not_wait():
    studio = Studio()
    first = studio.ask("ann")
    next(first)
    request = GenerationRequest(prompt="late", seed=1, width=4096)
    with pytest.raises(InvalidRequest):
        next(studio.fair.generate(request))
    assert studio.fair.load().waiting == 0


@pytest.mark.parametrize("failure", [RenderFailed("broken"), MemoryError()])
def test_a_run_that_fails_lets_the_next_one_go_on(failure: Exception):
    studio = Studio(engine=Engine(failure=failure))
    first, second = studio.ask("ann"), studio.ask("ben")
    next(first), next(second)
    with pytest.raises(type(failure)):
        list(first)
    assert next(second) == Notice("ben")


def test_the_engine_is_closed_before_the_next_one_begins():
    studio = Studio()
    first, second = studio.ask("ann"), studio.ask("ben")
    next(first), next(second)
    first.close()
    assert (studio.engine.closed, studio.engine.begun) == (["ann"], ["ann"])
    assert next(second) == Notice("ben")


def test_who_does_not_listen_at_the_turn_is_passed_over_and_not_forgotten():
    studio = Studio()
    first, deaf, third = (studio.ask(who) for who in ("ann", "deaf", "eve"))
    next(first), next(deaf), next(third)
    studio.clock.now += fair.LATELY_S + 1
    assert next(third).place == 2
    first.close()
    assert next(third) == Notice("eve")
    third.close()
    assert next(deaf) == Notice("deaf")


def test_who_has_left_without_a_word_does_not_count_any_more():
    studio = Studio(size=1)
    first, deaf = studio.ask("ann"), studio.ask("deaf")
    next(first), next(deaf)
    studio.clock.now += fair.GONE_S + 1
    late = studio.ask("eve")
    assert next(late).place == 1
    with pytest.raises(Busy, match="Nobody had listened"):
        next(deaf)


def test_who_holds_the_engine_and_does_not_listen_loses_it():
    studio = Studio()
    deaf, second = studio.ask("deaf"), studio.ask("ben")
    next(deaf), next(second)
    studio.clock.now += fair.STALL_S
    assert isinstance(next(second), Waiting)
    studio.clock.now += 1
    next(second)
    assert studio.engine.closed == ["deaf"]
    assert next(second) == Notice("ben")
    with pytest.raises(TookTooLong, match="Nobody had listened"):
        next(deaf)
    assert next(second) == Notice("ben")


def test_a_run_has_its_time():
    studio = Studio(job_s=60)
    first, second = studio.ask("ann"), studio.ask("ben")
    next(first), next(second)
    studio.clock.now += 61
    with pytest.raises(TookTooLong, match="ended after 60 s, the limit here"):
        next(first)
    assert studio.engine.closed == ["ann"]
    assert next(second) == Notice("ben")


def test_time_in_the_queue_and_a_finished_run_are_not_counted():
    studio = Studio(job_s=60)
    first, second = studio.ask("ann"), studio.ask("ben")
    next(first), next(second)
    first.close()
    studio.clock.now += fair.LATELY_S - 1
    assert next(second) == Notice("ben") == next(second)
    studio.clock.now += 61
    assert next(second) == Finished({})


def test_requests_of_one_visitor_that_wait():
    studio = Studio(allowance=Allowance(waiting=2))
    runs = [studio.ask("ann", address="192.0.2.1") for _ in range(3)]
    for run in runs:
        next(run)
    with pytest.raises(OverLimit, match="2 of your requests are waiting; the limit is 2"):
        next(studio.ask("ann"))
    other = studio.ask("ben", address="192.0.2.1")
    assert isinstance(next(other), Waiting)
    runs[0].close()
    next(runs[1])
    assert isinstance(next(studio.ask("ann")), Waiting)


def test_requests_of_one_address_that_wait_whatever_the_cookies():
    studio = Studio(size=50, allowance=Allowance(waiting=2))
    runs = [studio.ask(f"cookie {number}", address="192.0.2.1") for number in range(1 + 2 * ADDRESS_SHARE)]
    for run in runs:
        next(run)
    assert studio.refused("another", address="192.0.2.1").startswith("8 requests from your network address")
    assert isinstance(next(studio.ask("elsewhere", address="192.0.2.2")), Waiting)


def test_pictures_count_once_the_engine_has_begun():
    studio = Studio(allowance=Allowance(pictures=2))
    first, second = studio.ask("ann"), studio.ask("ben", images=2)
    next(first), next(second)
    assert "limit is 2" in studio.refused("ben")
    second.close()
    first.close()
    assert next(studio.ask("ben", images=2)) == Notice("ben")
    assert "about 1 h" in studio.refused("ben")


def test_no_run_begins_where_nothing_could_be_kept():
    def full() -> None:
        raise RenderFailed("The disk is nearly full.")

    assert Studio(room=full).refused("ann") == "The disk is nearly full."


def test_as_many_lanes_as_the_engine_has():
    studio = Studio(lanes=2)
    runs = [studio.ask(who) for who in ("ann", "ben", "eve")]
    assert [type(next(run)) for run in runs] == [Notice, Notice, Waiting]
    runs[1].close()
    assert next(runs[2]) == Notice("eve")


def test_many_threads_and_never_two_at_work():
    """200 runs of 20 visitors, each listening in a thread of its own."""

    class Watched(Engine):
        def generate(self, request, work=WHOLE):
            assert self.lock.acquire(blocking=False), "two runs at once"
            try:
                yield from super().generate(request, work)
            finally:
                self.lock.release()

    engine = Watched()
    backend = Fair(engine, size=1000)
    start = threading.Barrier(200)
    done: list[Event] = []

    def run(number: int) -> None:
        start.wait()
        caller = Caller(f"visitor {number % 20}")
        done.append(list(asked_by(caller, backend).generate(GenerationRequest(prompt=str(number), seed=1)))[-1])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [Finished({})] * 200
    assert backend.load() == fair.Load(0, 0, 1000)


def test_whoever_listens_is_woken_however_far_behind_those_who_do_not(monkeypatch):
    monkeypatch.setattr(fair, "FAR_TICK_S", 3600.0)
    studio = Studio(size=2 * fair.NEAR)
    working = studio.ask("at work")
    next(working)
    silent = [studio.ask(f"silent {number}") for number in range(fair.NEAR + 1)]
    for one in silent:
        next(one)
    studio.clock.now += fair.LATELY_S + 1
    caller, begun = Caller("listens"), threading.Event()

    def listen() -> None:
        for event in asked_by(caller, studio.fair).generate(GenerationRequest(prompt="listens", seed=1)):
            if isinstance(event, Notice):
                begun.set()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    while studio.fair.load().waiting <= len(silent):
        time.sleep(0.01)
    working.close()
    assert begun.wait(60)


def test_a_long_queue_is_told_more_rarely():
    assert [fair._pulse_s(0, 200), fair._pulse_s(50, 100), fair._pulse_s(50, 150), fair._pulse_s(50, 10_000)] == [1, 4, 6, 8]
    assert fair.MOST_PULSE_S < fair.LATELY_S, "or whoever waits would be taken for gone"


def test_ordinals():
    assert [fair._ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th",
    ]  # fmt: skip
