"""Progress and the turnstile, on a clock of our own."""

from __future__ import annotations

import pytest

from cascade_app.runtime.lease import Turnstile
from cascade_app.runtime.progress import Pace, Progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_remaining_is_guessed_then_known():
    clock, pace = Clock(), Pace()
    progress = Progress({"prior": 4.0, "decoder": 2.0, "vqgan": 1.0}, pace, clock=clock)
    clock.now = 1.0
    fraction, elapsed, remaining = progress.step("prior", 1.0)
    assert (elapsed, remaining) == (1.0, pytest.approx(3 + 2 * 1.5 + 0.53))
    assert fraction == pytest.approx(1 / (4 + 3 + 0.53))
    for _ in range(3):
        clock.now += 1
        progress.step("prior", 1.0)
    for _ in range(2):
        clock.now += 10
        _, _, remaining = progress.step("decoder", 1.0)
    clock.now += 5
    assert progress.step("vqgan", 1.0) == (pytest.approx(1), 29.0, pytest.approx(0))
    assert progress.seconds == {"conditioning": 0, "prior": 4, "decoder": 20, "vqgan": 5}
    assert Progress({"decoder": 2.0}, pace, clock=clock).totals()["total"] == 0
    assert pace.rate("decoder") == pytest.approx(10)


def test_the_fraction_never_turns_back():
    clock = Clock()
    progress = Progress({"prior": 2.0, "decoder": 2.0}, Pace(), clock=clock)
    fractions = []
    for stage, seconds in (("prior", 1), ("prior", 1), ("decoder", 50), ("decoder", 50)):
        clock.now += seconds
        fractions.append(progress.step(stage, 1.0)[0])
    assert fractions == sorted(fractions) and fractions[-1] == 1


def test_turnstile_serves_in_order_and_forgets_those_who_leave():
    turnstile = Turnstile()
    first, second, third = (turnstile.ticket() for _ in range(3))
    a, b, c = first.__enter__(), second.__enter__(), third.__enter__()
    assert list(turnstile.wait(a)) == []
    assert next(turnstile.wait(b, every_s=0.01)).ahead == 1
    assert next(turnstile.wait(c, every_s=0.01)).ahead == 2
    second.__exit__(None, None, None)
    assert next(turnstile.wait(c, every_s=0.01)).ahead == 1
    first.__exit__(None, None, None)
    assert list(turnstile.wait(c)) == []
    third.__exit__(None, None, None)
    assert not turnstile.busy
