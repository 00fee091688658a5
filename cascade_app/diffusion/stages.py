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


class Residency:
    """Where a stage's weights are while it runs. This one: all of them where it computes. See `runtime/offload.py`."""

    def need(self, module: Any) -> None:
        """`module` is about to be used."""

    def prepared(self) -> None:
        """What depends on the conditioning alone is computed."""


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
    residency: Residency | None = None,
) -> Iterator[SampleStep]:
    """Stage C: prompt embeddings to (B, 16, h, w) latents, B = len(generators).

    Args:
        prompt, negative: one row an image; `negative` is read only where guidance is on.
        image_embeds: (B, 1, I) CLIP image embeddings, None for none.
        residency: brings weights that are not where the stage computes.
    """
    if image_embeds is None:
        image_embeds = prompt.prompt_embeds.new_zeros(len(generators), 1, prior.config.clip_image_in_channels)
    conditioning = Conditioning(prompt.prompt_embeds_pooled, prompt.prompt_embeds, image_embeds)
    against = Conditioning(negative.prompt_embeds_pooled, negative.prompt_embeds, torch.zeros_like(image_embeds))
    yield from _run(prior, conditioning, against, settings, generators, residency or Residency())


def run_decoder(
    decoder: Any,
    prompt: PromptEmbeds,
    negative: PromptEmbeds,
    *,
    prior_latents: Tensor,
    settings: StageSettings,
    generators: list[torch.Generator],
    residency: Residency | None = None,
) -> Iterator[SampleStep]:
    """Stage B: Stage C latents (B, 16, h, w), the "negative" of each picture, to (B, 4, H/4, W/4) latents."""
    conditioning = Conditioning(prompt.prompt_embeds_pooled, effnet=prior_latents)
    against = Conditioning(negative.prompt_embeds_pooled, effnet=torch.zeros_like(prior_latents))
    yield from _run(decoder, conditioning, against, settings, generators, residency or Residency())


@torch.no_grad()
def decode(vqgan: Any, latents: Tensor, *, rows: int = 0) -> Tensor:
    """Stage A: (B, 4, H/4, W/4) float32 latents to pictures (B, 3, H, W) float32 in [0, 1].

    Args:
        rows: decode at most so many latent rows of one image at a time, 0 for everything at once. Each strip is computed with
            what lies around it, further than Stage A can see, so that the picture is the same.
    """
    scaled = (latents * vqgan.config.scale_factor).to(next(vqgan.parameters()).dtype)
    if not rows or rows >= latents.shape[-2]:
        return vqgan.decode(scaled).sample.float().clamp(0, 1)
    factor = vqgan.config.up_down_scale_factor * 2 ** (vqgan.config.levels - 1)
    return torch.cat([_decode_in_strips(vqgan, image[None], rows, factor) for image in scaled])


def _decode_in_strips(vqgan: Any, scaled: Tensor, rows: int, factor: int) -> Tensor:
    # Each bottleneck block sees one latent cell further to each side; what follows them at finer levels, two more.
    halo = vqgan.config.bottleneck_blocks + 3
    strips = []
    height = scaled.shape[-2]
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        first, last = max(0, start - halo), min(height, stop + halo)
        pixels = vqgan.decode(scaled[..., first:last, :]).sample
        strips.append(pixels[..., (start - first) * factor : (stop - first) * factor, :].float().clamp(0, 1))
    return torch.cat(strips, dim=-2)


def _run(
    unet: Any, conditioning: Conditioning, against: Conditioning, settings: StageSettings,
    generators: list[torch.Generator], residency: Residency,
) -> Iterator[SampleStep]:
    guidance, schedule = settings.guidance, settings.schedule
    count = len(generators)
    told = schedule.told_ratio(schedule.ratios(settings.steps)[:-1])
    rows = _both(conditioning, against) if guidance.ever_active else conditioning
    prepared = prepare(unet, rows, ratios=told, size=settings.shape[1:], need=residency.need)
    residency.prepared()

    def guided(latents: Tensor, step: int) -> Tensor:
        if not guidance.active(step, settings.steps):
            return predict(unet, latents, step, prepared, residency.need)
        output = predict(unet, torch.cat([latents, latents]), step, prepared, residency.need)
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
