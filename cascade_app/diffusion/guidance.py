"""Classifier-free guidance (Ho & Salimans 2022), with rescale and a limited interval."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Guidance:
    """How strongly, and at which steps, a prediction is pushed from the negative towards the prompt.

    Attributes:
        scale: 1 or less is off, everywhere.
        rescale: in [0, 1], how far the guided prediction's spread is brought back to the conditional one's
            (Lin et al. 2023, eq. 15 and 16), image by image so that a batch equals its single runs.
        start, stop: fractions of the steps between which guidance is on (Kynkaanniemi et al. 2024).
    """

    scale: float = 0.0
    rescale: float = 0.0
    start: float = 0.0
    stop: float = 1.0

    def active(self, step: int, steps: int) -> bool:
        """Whether `step` (from 0) of `steps` needs the negative's prediction as well."""
        return self.scale > 1 and self.start <= step / steps < self.stop

    @property
    def ever_active(self) -> bool:
        return self.scale > 1 and self.start < self.stop

    def combine(self, conditional: Tensor, unconditional: Tensor) -> Tensor:
        """Both predictions (B, C, H, W) float32 -> the guided one."""
        guided = torch.lerp(unconditional, conditional, self.scale)
        if not self.rescale:
            return guided
        spread = conditional.std(dim=(1, 2, 3), keepdim=True) / guided.std(dim=(1, 2, 3), keepdim=True).clamp(min=1e-8)
        return torch.lerp(guided, guided * spread, self.rescale)
