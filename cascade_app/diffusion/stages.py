"""Stage C, B and A behind one argument shape: networks and conditioning in, a generator of steps out.

Nothing here chooses a device or loads a file. Latents and schedule are float32; the networks run in their own dtype.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cascade_app.diffusion.conditioning import PromptEmbeds
from cascade_app.diffusion.guidance import Guidance
from cascade_app.diffusion.sampler import SampleStep, draw_noise, sample
from cascade_app.diffusion.schedule import CosineSchedule
from cascade_app.diffusion.unet import Conditioning, predict, prepare


@dataclass(frozen=True)
class StageSettings:
    """How a diffusion stage is sampled. `shape` is (channels, height, width) of one image's latents."""

    shape: tuple[int, int, int]
    schedule: CosineSchedule
    guidance: Guidance
    steps: int
    sampler: str = "ddpm"


def run_prior(
    prior: Any,
    prompt: PromptEmbeds,
    negative: PromptEmbeds,
    *,
    settings: StageSettings,
    generators: list[torch.Generator],
    image_embeds: Tensor | None = None,
) -> Iterator[SampleStep]:
    """Stage C: prompt embeddings to (B, 16, h, w) latents, B = len(generators).

    Args:
        prompt, negative: one row an image; `negative` is read only where guidance is on.
        image_embeds: (B, 1, I) CLIP image embeddings, None for none.
    """
    if image_embeds is None:
        image_embeds = prompt.prompt_embeds.new_zeros(len(generators), 1, prior.config.clip_image_in_channels)
    conditioning = Conditioning(prompt.prompt_embeds_pooled, prompt.prompt_embeds, image_embeds)
    against = Conditioning(negative.prompt_embeds_pooled, negative.prompt_embeds, torch.zeros_like(image_embeds))
    yield from _run(prior, conditioning, against, settings, generators)


def run_decoder(
    decoder: Any,
    prompt: PromptEmbeds,
    negative: PromptEmbeds,
    *,
    prior_latents: Tensor,
    settings: StageSettings,
    generators: list[torch.Generator],
) -> Iterator[SampleStep]:
    """Stage B: Stage C latents (B, 16, h, w), the "negative" of each picture, to (B, 4, H/4, W/4) latents."""
    conditioning = Conditioning(prompt.prompt_embeds_pooled, effnet=prior_latents)
    against = Conditioning(negative.prompt_embeds_pooled, effnet=torch.zeros_like(prior_latents))
    yield from _run(decoder, conditioning, against, settings, generators)


@torch.no_grad()
def decode(vqgan: Any, latents: Tensor) -> Tensor:
    """Stage A: (B, 4, H/4, W/4) float32 latents to pictures (B, 3, H, W) float32 in [0, 1]."""
    dtype = next(vqgan.parameters()).dtype
    return vqgan.decode((latents * vqgan.config.scale_factor).to(dtype)).sample.float().clamp(0, 1)


def _run(
    unet: Any, conditioning: Conditioning, against: Conditioning, settings: StageSettings, generators: list[torch.Generator]
) -> Iterator[SampleStep]:
    guidance, schedule = settings.guidance, settings.schedule
    count = len(generators)
    told = schedule.told_ratio(schedule.ratios(settings.steps)[:-1])
    rows = _both(conditioning, against) if guidance.ever_active else conditioning
    prepared = prepare(unet, rows, ratios=told, size=settings.shape[1:])

    def guided(latents: Tensor, step: int) -> Tensor:
        if not guidance.active(step, settings.steps):
            return predict(unet, latents, step, prepared)
        output = predict(unet, torch.cat([latents, latents]), step, prepared)
        return guidance.combine(output[:count], output[count:])

    noise = draw_noise(settings.shape, generators).to(conditioning.pooled.device)
    yield from sample(
        guided, noise, schedule, steps=settings.steps, sampler=settings.sampler, generators=generators
    )


def _both(conditioning: Conditioning, against: Conditioning) -> Conditioning:
    """The rows of the prompt, then those of the negative."""

    def joined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
        return None if first is None or second is None else torch.cat([first, second])

    return Conditioning(
        torch.cat([conditioning.pooled, against.pooled]),
        joined(conditioning.text, against.text),
        joined(conditioning.image, against.image),
        joined(conditioning.effnet, against.effnet),
    )
