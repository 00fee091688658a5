"""Which steps a preview is made of: as many as a small share of the run's time pays for, whatever the device and the network.

A run hands out its events one by one, so nothing is computed until the reader has taken the last preview: there is never one
that is not wanted. What is decided here is whether the next one can be afforded. Knows a clock, nothing of events and pages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar

import torch

# Of a run's time, with room left for what is not measured here. A sketch is made to be watched.
SHARE, SKETCH_SHARE = 0.025, 0.15
_TRIES = 2  # until a cost is believed: the first time much is only set up
_AHEAD = 0.5  # of what the rest of the run will pay for, spent beforehand, so that something is seen early

Made = TypeVar("Made")


@dataclass
class Costs:
    """Seconds that previews took, by what was shown; kept across runs."""

    seconds: dict[Hashable, float] = field(default_factory=dict)
    tries: dict[Hashable, int] = field(default_factory=dict)

    def learn(self, what: Hashable, seconds: float) -> None:
        tries = self.tries[what] = self.tries.get(what, 0) + 1
        known = self.seconds.get(what, seconds)
        self.seconds[what] = min(known, seconds) if tries <= _TRIES else 0.7 * known + 0.3 * seconds

    def believed(self, what: Hashable) -> bool:
        return self.tries.get(what, 0) >= _TRIES


class PreviewBudget:
    """One a run.

    Args:
        share: of the run's time that previews may take, 0 for none at all.
        costs: what earlier runs have taught.
        clock: seconds this thread has computed; where other programs interrupt it, that is no preview's fault.
    """

    def __init__(self, share: float, costs: Costs, *, clock: Callable[[], float] = time.thread_time) -> None:
        self._share, self._costs, self._clock = share, costs, clock
        self.spent_s = 0.0

    def affords(self, what: Hashable, *, step_s: float, elapsed_s: float, remaining_s: float) -> bool:
        """Whether a preview of `what` may be made now, after a step of `step_s`, so far into the run."""
        if self._share <= 0 or not self._costs.believed(what):
            return self._share > 0
        cost = self._costs.seconds[what]
        if cost <= self._share * step_s:  # a step pays for its own
            return True
        return self.spent_s + cost <= self._share * (elapsed_s + _AHEAD * remaining_s)

    def make(self, what: Hashable, preview: Callable[[], Made], device: torch.device) -> Made:
        """`preview()`, its time counted."""
        if device.type == "cuda":  # what was launched before is the step's time, and the result is waited for anyhow
            torch.cuda.synchronize(device)
        clock = time.perf_counter if device.type == "cuda" else self._clock
        begin = clock()
        made = preview()
        seconds = clock() - begin
        self.spent_s += seconds
        self._costs.learn(what, seconds)
        return made
