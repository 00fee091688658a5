"""The noise schedule of all stages: a squared cosine of a ratio t in [0, 1], in float32, with shift.

A latent at ratio t is  x_t = a x0 + b eps  with a = sqrt(alpha_cumprod(t)), b = sqrt(1 - alpha_cumprod(t)); t = 1 is noise.
The cosine is Nichol & Dhariwal 2021, eq. 17. The shift moves logSNR by 2 ln(1 / shift), Hoogeboom et al. 2023 ("simple
diffusion", eq. 4); the networks were trained without it, so they are told the ratio at which the unshifted schedule is
equally noisy.

Everything here is float32 whatever the weights are: in 16 bits the timestep embedding is off by up to 0.6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cascade_app.errors import CheckpointDamaged

# DDPMScheduler's squaredcos_cap_v2 telescopes to the same cosine, but for its last beta, which is capped at 0.999:
# alpha_cumprod(999 / 1000) * 0.001.
_DDPM_STEPS = 1000
_DDPM_MIN = (math.cos((0.999 + 0.008) / 1.008 * math.pi / 2) / math.cos(0.008 / 1.008 * math.pi / 2)) ** 2 * 0.001
# The ratio that diffusers' pipelines read back from that last alpha_cumprod, and tell the network instead of 1.
_DDPM_TOLD_MAX = math.acos(math.sqrt(_DDPM_MIN) * math.cos(0.008 / 1.008 * math.pi / 2)) / (math.pi / 2) * 1.008 - 0.008
_WUERSTCHEN_RANGE = (0.0001, 0.9999)  # diffusers' DDPMWuerstchenScheduler clamps to it

PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")


@dataclass(frozen=True)
class CosineSchedule:
    """alpha_cumprod as a function of the ratio t.

    Attributes:
        offset: the cosine's s (0.008).
        alpha_min, alpha_max: alpha_cumprod is clamped to this range.
        shift: above 1 keeps more noise at the same ratio (large pictures, composition); 1 is the published schedule.
        prediction_type: what the network returns: "epsilon" (noise), "sample" (x0) or "v_prediction".
        told_max: the network is told at most this ratio.
    """

    offset: float = 0.008
    alpha_min: float = _WUERSTCHEN_RANGE[0]
    alpha_max: float = _WUERSTCHEN_RANGE[1]
    shift: float = 1.0
    prediction_type: str = "epsilon"
    told_max: float = 1.0

    @classmethod
    def from_config(cls, config: Mapping[str, Any], shift: float = 1.0) -> CosineSchedule:
        """The schedule that a `scheduler_config.json` describes (DDPMWuerstchenScheduler, or a cosine DDPMScheduler).

        Raises:
            CheckpointDamaged: another scheduler, noise schedule or prediction type than we can sample.
        """
        kind = config.get("_class_name")  # never guessed: the two kinds clamp differently
        prediction_type = config.get("prediction_type", "epsilon")
        if prediction_type not in PREDICTION_TYPES:
            raise CheckpointDamaged(
                f'The scheduler\'s prediction_type is "{prediction_type}"; known are {", ".join(PREDICTION_TYPES)}.'
            )
        if kind == "DDPMWuerstchenScheduler":
            if config.get("scaler", 1.0) != 1.0:
                raise CheckpointDamaged(f"The scheduler's scaler is {config['scaler']}; only 1 is known.")
            return cls(offset=float(config.get("s", 0.008)), shift=shift, prediction_type=prediction_type)
        if kind == "DDPMScheduler" and config.get("beta_schedule") == "squaredcos_cap_v2":
            if config.get("num_train_timesteps", _DDPM_STEPS) != _DDPM_STEPS:
                raise CheckpointDamaged(f"The scheduler has {config['num_train_timesteps']} steps; only 1000 are known.")
            return cls(
                alpha_min=_DDPM_MIN, alpha_max=1.0, shift=shift, prediction_type=prediction_type, told_max=_DDPM_TOLD_MAX
            )
        raise CheckpointDamaged(f"The scheduler {kind} with beta schedule {config.get('beta_schedule')} is not known.")

    @property
    def _at_zero(self) -> Tensor:
        offset = torch.tensor([self.offset])  # float32 arithmetic, as diffusers does it
        return torch.cos(offset / (1 + offset) * torch.pi * 0.5) ** 2

    def alpha_cumprod(self, ratio: Tensor) -> Tensor:
        """Signal variance at `ratio` (any shape, [0, 1]) -> same shape, float32, in [alpha_min, alpha_max]."""
        ratio = ratio.float()
        cosine = torch.cos((ratio + self.offset) / (1 + self.offset) * torch.pi * 0.5) ** 2 / self._at_zero.to(ratio.device)
        clamped = cosine.clamp(self.alpha_min, self.alpha_max)
        if self.shift == 1:
            return clamped
        # Shifting logSNR by 2 ln(1/shift) divides the odds a/(1-a) by shift squared.
        shifted = clamped / (clamped + (1 - clamped) * self.shift**2)
        return shifted.clamp(self.alpha_min, self.alpha_max)

    def told_ratio(self, ratio: Tensor) -> Tensor:
        """The ratio the network is told at `ratio`: where its own, unshifted schedule is as noisy. Same shape, float32."""
        if self.shift == 1:
            return ratio.float().clamp(max=self.told_max)
        angle = (self.alpha_cumprod(ratio) * self._at_zero.to(ratio.device)).sqrt().clamp(0, 1).acos()
        told = angle / (torch.pi * 0.5) * (1 + self.offset) - self.offset
        # At the noisy end the clamp has lost the ratio: tell what the unshifted schedule would.
        return torch.where(ratio >= 1, torch.ones_like(told), told).clamp(0, self.told_max)

    def ratios(self, steps: int) -> Tensor:
        """Ratios at the borders of `steps` equal steps, from 1 to 0: (steps + 1,) float32."""
        return torch.linspace(1.0, 0.0, steps + 1)


def add_noise(x0: Tensor, noise: Tensor, alpha_cumprod: Tensor) -> Tensor:
    """x_t of clean latents. x0, noise: (B, C, H, W); alpha_cumprod: (B,) or scalar."""
    alpha = _per_image(alpha_cumprod, x0)
    return alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise


def x0_and_noise(
    prediction: Tensor, latents: Tensor, alpha_cumprod: Tensor, prediction_type: str
) -> tuple[Tensor, Tensor]:
    """What the network's output says of the clean latents and of the noise in `latents`.

    Args:
        prediction, latents: (B, C, H, W) float32.
        alpha_cumprod: (B,) or scalar, of `latents`.
        prediction_type: one of PREDICTION_TYPES; v is Salimans & Ho 2022, v = a eps - b x0.
    """
    alpha = _per_image(alpha_cumprod, latents)
    a, b = alpha.sqrt(), (1 - alpha).sqrt()
    if prediction_type == "epsilon":
        return (latents - b * prediction) / a, prediction
    if prediction_type == "sample":
        return prediction, (latents - a * prediction) / b
    if prediction_type == "v_prediction":
        return a * latents - b * prediction, b * latents + a * prediction
    raise ValueError(f"prediction_type {prediction_type!r} is not one of {PREDICTION_TYPES}")


def _per_image(value: Tensor, like: Tensor) -> Tensor:
    return value.reshape(-1, *([1] * (like.dim() - 1))).to(like.device)
