"""How far a run is and how long it will still take. Arithmetic over a clock; knows nothing of tensors."""

from __future__ import annotations

import time
from collections.abc import Callable

# Cost of a step on one image of the same size, relative to a Stage C pass, until a run has measured it. Counted in
# operations at 1024 px: a Stage C pass 4.1 TFLOP, a Stage B pass 6.2, Stage A 2.2.
_FIRST_GUESS = {"prior": 1.0, "decoder": 1.5, "vqgan": 0.53}


class Pace:
    """Seconds a unit of work for each stage, learned from finished steps and kept across runs."""

    def __init__(self) -> None:
        self._rates: dict[str, float] = {}

    def learn(self, stage: str, seconds: float, units: float) -> None:
        """A step of `units` (passes x images x megapixels) took `seconds`."""
        rate = seconds / units
        known = self._rates.get(stage)
        self._rates[stage] = rate if known is None else 0.7 * known + 0.3 * rate

    def rate(self, stage: str) -> float:
        """Seconds a unit: measured, else guessed from the stages that are, else 0."""
        if stage in self._rates or not self._rates:
            return self._rates.get(stage, 0.0)
        scale = [rate / _FIRST_GUESS[known] for known, rate in self._rates.items()]
        return _FIRST_GUESS[stage] * sum(scale) / len(scale)


class Progress:
    """One run: told each step as it ends, it answers with fraction, elapsed and remaining seconds.

    Args:
        work: units of work each stage has in all.
        pace: what earlier runs have taught.
        clock: seconds, monotonic.
    """

    def __init__(self, work: dict[str, float], pace: Pace, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = dict(work)
        self._total = dict(work)
        self._pace = pace
        self._clock = clock
        self._start = self._last = clock()
        self._fraction = 0.0
        self.seconds = dict.fromkeys(("conditioning", *work), 0.0)

    def mark(self, stage: str) -> None:
        """All time since the last mark went into `stage`."""
        now = self._clock()
        self.seconds[stage] += now - self._last
        self._last = now

    def step(self, stage: str, units: float) -> tuple[float, float, float]:
        """A step of `units` has ended: (fraction of the run done, elapsed s, remaining s)."""
        before = self._last
        self.mark(stage)
        self._pace.learn(stage, self._last - before, units)
        self._left[stage] = max(0.0, self._left[stage] - units)
        remaining = self._cost(self._left)
        whole = self._cost(self._total)
        # What is learned about a later stage's pace may make the run longer than it seemed; the bar waits, never turns back.
        self._fraction = max(self._fraction, 1 - remaining / whole if whole else 0.0)
        return self._fraction, self.elapsed_s, remaining

    @property
    def fraction(self) -> float:
        """Done as of the last step."""
        return self._fraction

    @property
    def elapsed_s(self) -> float:
        return self._last - self._start

    def totals(self) -> dict[str, float]:
        """Seconds spent in each stage, and in all."""
        return {**self.seconds, "total": self._clock() - self._start}

    def _cost(self, work: dict[str, float]) -> float:
        return sum(units * self._pace.rate(stage) for stage, units in work.items())
