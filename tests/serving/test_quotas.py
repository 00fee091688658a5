"""What a visitor may take: told with the limit and the wait, and not to be had again by dropping a cookie."""

from __future__ import annotations

import threading

import pytest

from cascade_app.errors import InvalidRequest, OverLimit
from cascade_app.request import GenerationRequest
from cascade_app.serving.caller import Caller
from cascade_app.serving.quotas import ADDRESS_SHARE, SWEEP_AT, Allowance, Quotas, duration
from tests.fakes import FakeBackend

ANN, BEN = Caller("ann", "192.0.2.1"), Caller("ben", "192.0.2.2")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def quotas(**allowance: int) -> tuple[Quotas, Clock]:
    clock = Clock()
    return Quotas(Allowance(**allowance), clock=clock), clock


def plan(**values: object):
    return FakeBackend().plan(GenerationRequest(prompt="a red sun", seed=1, width=256, height=128, **values))


def refused(one: Quotas, caller: Caller, pictures: int) -> str:
    with pytest.raises(OverLimit) as caught:
        one.take(caller, pictures)
    return caught.value.message


def test_pictures_within_an_hour_and_how_long_to_wait():
    one, clock = quotas(pictures=4)
    one.take(ANN, 2)
    clock.now += 600
    one.take(ANN, 2)
    assert refused(one, ANN, 1) == (
        "You have had 4 pictures within the last hour; the limit is 4. Ask for this one again in about 50 min."
    )
    assert refused(one, ANN, 3).endswith("Ask for these 3 again in about 1 h.")
    one.take(BEN, 4)
    clock.now += 3000
    one.take(ANN, 2)
    refused(one, ANN, 1)


def test_what_was_taken_back_does_not_count():
    one, _ = quotas(pictures=2)
    take_back = one.take(ANN, 2)
    take_back()
    take_back()
    one.take(ANN, 2)
    refused(one, ANN, 1)


def test_another_cookie_from_the_same_address_counts_with_it():
    one, _ = quotas(pictures=2)
    for number in range(ADDRESS_SHARE):
        one.take(Caller(f"cookie {number}", ANN.address), 2)
    assert refused(one, Caller("a fresh cookie", ANN.address), 1).startswith("Your network address, which others may share")
    one.take(BEN, 2)


def test_calls_without_a_cookie_are_one_visitor_an_address():
    one, _ = quotas(pictures=2)
    one.take(Caller(address="192.0.2.1"), 2)
    refused(one, Caller(address="192.0.2.1"), 1)
    one.take(Caller(address="192.0.2.3"), 2)
    one.take(ANN, 2)


def test_a_request_that_alone_is_too_much():
    one, _ = quotas(pixels=3 * 256 * 128, pictures=2)
    one.check(plan(images=2))
    with pytest.raises(InvalidRequest, match=r"4 x 256 x 128 = 131,072 pixels; the limit here is 98,304") as caught:
        one.check(plan(images=4))
    assert caught.value.field == "images"
    with pytest.raises(InvalidRequest, match="3 pictures; the limit here is 2 an hour"):
        one.check(plan(images=3))


def test_no_limits():
    one, _ = quotas()
    for _ in range(100):
        one.check(plan(images=4))
        one.take(ANN, 16)


def test_visitors_of_long_ago_are_forgotten():
    one, clock = quotas(pictures=2)
    for number in range(SWEEP_AT - 1):
        one.take(Caller(str(number)), 1)
    clock.now += 3600
    one.take(ANN, 1)
    assert len(one._taken) <= 3


def test_many_at_once_never_take_more_than_there_is():
    one, _ = quotas(pictures=50)
    had = []

    def ask() -> None:
        for _ in range(20):
            try:
                one.take(ANN, 1)
                had.append(1)
            except OverLimit:
                pass

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(had) == 50


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "a few seconds"), (4.9, "a few seconds"), (5, "about 5 s"), (57.4, "about 55 s"), (57.5, "about 1 min"),
     (90, "about 2 min"), (3569, "about 59 min"), (3570, "about 1 h"), (9000, "about 2 h")],
)  # fmt: skip
def test_a_duration_in_words(seconds: float, words: str):
    assert duration(seconds) == words
