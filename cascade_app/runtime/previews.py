"""Which steps a preview is made of: as many as a small share of the run's time pays for, whatever the device and the network.

A run hands out its events one by one, so nothing is computed until the reader has taken the last preview: there is never one
that is not wanted. What is decided here is whether the next one can be afforded. Knows a clock, nothing of events and pages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

# Of a run's time, with room left for what is not measured here. A sketch is made to be watched.
SHARE, SKETCH_SHARE = 0.025, 0.15
_OF_ITS_STEP = 0.05  # what costs no more of its own step is always shown: Stage B's map takes a hundredth
_TRIES = 3  # until a cost is believed: the first time much is only set up
_FORGIVEN = 0.9  # of a cost is left with each run, so that what was measured under strain is tried again some time
_AHEAD = 0.5  # of what the rest of the run will pay for, spent beforehand, so that something is seen early

Made, Step = TypeVar("Made"), TypeVar("Step")


@dataclass
class Costs:
    """Seconds that previews took, by what was shown; kept across runs."""

    seconds: dict[Hashable, float] = field(default_factory=dict)
    tries: dict[Hashable, int] = field(default_factory=dict)

    def learn(self, what: Hashable, seconds: float) -> None:
        tries = self.tries[what] = self.tries.get(what, 0) + 1
        known = self.seconds.get(what, seconds)
        self.seconds[what] = min(known, seconds) if tries <= _TRIES else 0.7 * known + 0.3 * seconds

    def try_out(self, what: Hashable, preview: Callable[[], object]) -> None:
        """Learn what `preview` costs on the CPU before a run wants it."""
        for _ in range(_TRIES):
            begin = time.thread_time()
            preview()
            self.learn(what, time.thread_time() - begin)

    def forgive(self) -> None:
        """A new run begins."""
        for what in self.seconds:
            self.seconds[what] *= _FORGIVEN

    def believed(self, what: Hashable) -> bool:
        return self.tries.get(what, 0) >= _TRIES


class PreviewBudget:
    """One a run.

    Args:
        share: of the run's computing time that previews may take, 0 for none at all.
        costs: what earlier runs have taught.
        device: where the run computes.
        clock: of computing time, read within one step only, since each may be asked for by another thread. By default what
            this thread has computed: where other programs interrupt it, that is no preview's fault.
    """

    def __init__(
        self, share: float, costs: Costs, device: torch.device, *, clock: Callable[[], float] | None = None
    ) -> None:
        self._share, self._costs, self._device = share, costs, device
        self._clock = clock or (time.thread_time if device.type == "cpu" else time.perf_counter)
        self.spent_s = self._computed_s = self._step_s = 0.0
        costs.forgive()

    def follow(self, steps: Iterator[Step]) -> Iterator[Step]:
        """The same steps, their time counted."""
        while True:
            begin = self._clock()
            try:
                step = next(steps)
            except StopIteration:
                return
            self._step_s = self._clock() - begin
            self._computed_s += self._step_s
            yield step

    def affords(self, what: Hashable, *, fraction: float) -> bool:
        """Whether a preview of `what` may be made after the present step; `fraction` of the run was done before it."""
        if self._share <= 0 or not self._costs.believed(what):
            return self._share > 0
        cost = self._costs.seconds[what]
        if cost <= _OF_ITS_STEP * self._step_s:
            return True
        before_s = self._computed_s - self._step_s
        whole_s = before_s / fraction if fraction else self._computed_s
        remaining_s = max(0.0, whole_s - self._computed_s)
        return self.spent_s + cost <= self._share * (self._computed_s + _AHEAD * remaining_s)

    def make(self, what: Hashable, preview: Callable[[], Made]) -> Made:
        """`preview()`, its time counted."""
        if self._device.type == "cuda":  # what was launched before is the step's time, and the result is waited for anyhow
            torch.cuda.synchronize(self._device)
        begin = self._clock()
        made = preview()
        seconds = self._clock() - begin
        self.spent_s += seconds
        self._costs.learn(what, seconds)
        return made


def what_of(stage: str, latents: Tensor) -> Hashable:
    """What a preview's cost depends on."""
    return stage, tuple(latents.shape), latents.device.type


def to_pictures(images: Tensor) -> tuple[Image.Image, ...]:
    """(B, 3, H, W) floats, [0, 1] after clamping, to RGB pictures."""
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return tuple(Image.fromarray(picture) for picture in pixels)
