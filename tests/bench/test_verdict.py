"""What a soak's figures are judged by, on numbers whose answer is known."""

from __future__ import annotations

import random

import pytest

from cascade_app.bench import measure, verdict
from cascade_app.bench.verdict import fairness, faults, memory


def test_the_slope_of_a_line_and_of_noise():
    slope, low, high = measure.least_squares([(x, 3 * x + 1) for x in range(10)])
    assert slope == pytest.approx(3) and low == pytest.approx(3) and high == pytest.approx(3)
    slope, low, high = measure.least_squares([(0, 0.0), (1, 1.0), (2, 0.0), (3, 1.0)])
    # by hand: slope 0.2, residual variance 0.8 / 2, spread of x 5, t(2) 4.303
    assert slope == pytest.approx(0.2) and high - slope == pytest.approx(4.303 * (0.4 / 5) ** 0.5, abs=1e-3)
    assert low < 0 < high


@pytest.mark.parametrize(("freedom", "known"), [(1, 12.706), (2, 4.303), (4, 2.776), (10, 2.228), (30, 2.042), (1000, 1.962)])
def test_t(freedom: int, known: float):
    assert measure.t_quantile(freedom) == pytest.approx(known, abs=0.03)


@pytest.mark.parametrize("slope", [0.0, 6e6])
def test_memory_that_grows_and_memory_that_does_not(slope: float):
    """The interval holds the true slope in about 95 of 100 cases, and is no wider than the noise makes it."""
    held = 0
    for seed in range(100):
        dice = random.Random(seed)
        low, high = memory([(s, 4e8 + slope * s / 60 + dice.gauss(0, 1e5)) for s in range(200)])["interval"]
        held += low <= slope <= high
        assert high - low < 2e5
    assert 88 <= held < 100
    assert memory([(0, 1), (1, 2)])["slope_bytes_per_min"] is None


def grown(fraction: float, seconds: int = 240) -> dict:
    """What is said of memory that grows so far, evenly."""
    return memory([(s, 1e9 * (1 + fraction * s / seconds)) for s in range(seconds)])


def test_memory_is_flat_where_it_surely_grew_by_little():
    for fraction, flat in ((-0.2, True), (0.0, True), (0.04, True), (0.06, False), (0.35, False)):
        told = grown(fraction)
        assert told["flat"] is flat and told["growth"] == pytest.approx(fraction, abs=0.01)
        assert told["growth_interval"][0] <= told["growth"] <= told["growth_interval"][1]


def test_what_fills_up_and_stays_is_flat_in_the_end_and_a_leak_is_less_so():
    filling = [(s, 1e9 + 2e8 * min(1, s / 100)) for s in range(1200)]
    assert memory(filling[:200])["flat"] is False and memory(filling[120:])["flat"] is True
    assert memory([(s, 1e9 + 2e5 * s) for s in range(200)])["flat"] is True
    assert memory([(s, 1e9 + 2e5 * s) for s in range(400)])["flat"] is False


def test_memory_that_nobody_can_be_sure_of_is_not_flat_and_a_short_run_says_nothing():
    jumping = [(s, 1e9 + 3e8 * (s // 5 % 2)) for s in range(100)]
    told = memory(jumping)
    assert told["flat"] is False and told["growth_interval"][0] < 0
    assert grown(0.5, seconds=50)["flat"] is None and memory([])["flat"] is None


def test_fairness_is_between_clients():
    alike = fairness([(client, 2.0) for client in range(4)] * 2)
    starved = fairness([(0, 8.0), (0, 12.0), *((client, 2.0) for client in range(1, 21))] * 2)
    assert alike["largest_over_smallest"] == alike["p95_over_median"] == 1 and alike["fair"] is True
    assert starved["largest_over_smallest"] == 5 and starved["longest_s"] == 12 and starved["clients"] == 21
    assert starved["fair"] is False
    assert fairness([(0, 1.0), (1, 9.0)])["fair"] is None, "a wait each: the machine may have been busy"
    assert fairness([]) == {"clients": 0, "fair": None}


def test_what_makes_a_soak_fail():
    unknown = {"page": {"fair": None}, "api": fairness([(0, 1.0), (1, 1.0)] * 2)}
    well = {
        "asked": 9, "answers": 7, "lost": 0, "lost_by": {}, "errors": {}, "exit_status": 0, "memory": grown(0.01),
        "fairness": unknown,
    }  # fmt: skip
    assert faults(well) == faults(well | {"memory": memory([])}) == []
    unfair = {"page": fairness([(0, 1.0), (1, 3.0)] * 2), "api": {"fair": True}}
    for changed, said in (
        ({"lost": 1}, "1 of 9 answers"), ({"errors": {"HTTP 500": 2}}, "HTTP 500"), ({"answers": 0}, "Nobody"),
        ({"exit_status": -9}, "status -9"), ({"memory": grown(0.35)}, f"the limit is {verdict.FLAT}"),
        ({"fairness": unfair}, "of the page wait 3.0 times"),
    ):  # fmt: skip
        [sentence] = faults(well | changed)
        assert said in sentence
