"""One sampling loop for Stage C and Stage B: a generator that yields the state after every step.

ddpm is the ancestral step (Ho et al. 2020, eq. 6 and 7) between any two points of the schedule; ddim is the same
without fresh noise (Song et al. 2020, eq. 12, eta 0).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cascade_app.diffusion.schedule import CosineSchedule, x0_and_noise

Predict = Callable[[Tensor, int], Tensor]  # latents (B, C, H, W) float32 and step index -> the network's output


@dataclass(frozen=True)
class SampleStep:
    """The state after a step: x0 is the estimate of the clean latents, latents goes into the next step. float32."""

    step: int  # from 0
    x0: Tensor
    latents: Tensor


@dataclass(frozen=True)
class MixedNoise:
    """Noise between two others: every draw is turned by `amount` (0 to 1) from the first one's towards the second one's."""

    first: NoiseSource
    second: NoiseSource
    amount: float


NoiseSource = torch.Generator | MixedNoise  # of one image, on the CPU; a fresh one for each stage


def draw_noise(shape: tuple[int, ...], generators: Sequence[NoiseSource]) -> Tensor:
    """Standard normal (B, *shape) float32 on the CPU, each image from its own generator or mix of them.

    Always drawn in float32 on the CPU: a seed then means the same picture in a batch, in 16 bits, on any device.
    """
    return torch.stack([_draw(shape, generator) for generator in generators])


def onto(device: torch.device, noise: Tensor) -> Tensor:
    """`noise` on `device`; from pinned memory, so that the host does not wait for a card to finish what it is at."""
    return noise.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else noise.to(device)


def _draw(shape: tuple[int, ...], source: NoiseSource) -> Tensor:
    if isinstance(source, torch.Generator):
        return torch.randn(shape, generator=source)
    return slerp(_draw(shape, source.first), _draw(shape, source.second), source.amount)


def slerp(first: Tensor, second: Tensor, amount: float) -> Tensor:
    """From one noise to another of the same shape along the sphere they lie on (Shoemake 1985): the spread stays that of noise.

    Exactly `first` at 0 and `second` at 1.
    """
    if amount in (0, 1):
        return second if amount else first
    cosine = (first.double() * second.double()).sum() / (first.double().norm() * second.double().norm())
    angle = cosine.clamp(-1, 1).acos()
    if angle.sin() < 1e-4:  # the same noise twice
        return torch.lerp(first, second, amount)
    near, far = ((1 - amount) * angle).sin() / angle.sin(), (amount * angle).sin() / angle.sin()
    return near.float() * first + far.float() * second


def sample(
    predict: Predict,
    latents: Tensor,
    schedule: CosineSchedule,
    *,
    steps: int,
    sampler: str,
    generators: Sequence[NoiseSource],
    first: int = 0,
) -> Iterator[SampleStep]:
    """Denoise `latents` in `steps` equal steps of the schedule's ratio.

    Args:
        latents: (B, C, H, W) float32, as noisy as the schedule is before step `first`.
        sampler: "ddpm" or "ddim".
        generators: one an image, on the CPU; ddpm draws from each once a step.
        first: the step to begin with; those before it are left out.
    """
    take_step = {"ddpm": _ddpm_step, "ddim": _ddim_step}[sampler]
    alphas = schedule.alpha_cumprod(schedule.ratios(steps)).to(latents.device)
    for step in range(first, steps):
        prediction = predict(latents, step)
        x0, noise = x0_and_noise(prediction, latents, alphas[step], schedule.prediction_type)
        latents = take_step(latents, x0, noise, alphas[step], alphas[step + 1], generators, last=step == steps - 1)
        yield SampleStep(step, x0, latents)


def _ddim_step(
    latents: Tensor, x0: Tensor, noise: Tensor, alpha: Tensor, alpha_next: Tensor,
    generators: Sequence[NoiseSource], *, last: bool,
) -> Tensor:
    return alpha_next.sqrt() * x0 + (1 - alpha_next).sqrt() * noise


def _ddpm_step(
    latents: Tensor, x0: Tensor, noise: Tensor, alpha: Tensor, alpha_next: Tensor,
    generators: Sequence[NoiseSource], *, last: bool,
) -> Tensor:
    ratio = alpha / alpha_next
    mean = alpha_next.sqrt() * (1 - ratio) / (1 - alpha) * x0 + ratio.sqrt() * (1 - alpha_next) / (1 - alpha) * latents
    if last:
        return mean
    variance = (1 - ratio) * (1 - alpha_next) / (1 - alpha)
    fresh = onto(latents.device, draw_noise(tuple(latents.shape[1:]), generators))
    return mean + variance.sqrt() * fresh
