"""Stage C, B and A behind one argument shape: networks and conditioning in, a generator of steps out.

Nothing here chooses a device or loads a file. Latents and schedule are float32; the networks run in their own dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cascade_app.diffusion.conditioning import PromptEmbeds
from cascade_app.diffusion.guidance import Guidance
from cascade_app.diffusion.sampler import NoiseSource, SampleStep, draw_noise, onto, sample
from cascade_app.diffusion.schedule import CosineSchedule, add_noise
from cascade_app.diffusion.unet import Conditioning, Prepared, predict, prepare

Prepare = Callable[..., Prepared]  # the arguments of `unet.prepare`


class Residency:
    """Where a stage's weights are while it runs. This one: all of them where it computes. See `runtime/offload.py`."""

    def need(self, module: Any) -> None:
        """`module` is about to be used."""

    def prepared(self) -> None:
        """What depends on the conditioning alone is computed."""


@dataclass(frozen=True)
class StageSettings:
    """How a diffusion stage is sampled. `shape` is (channels, height, width) of one image's latents.

    first: the step to begin with, from 0; 0 for all of them.
    at_once: images computed in one batch, 0 for all; the others follow within the same step.
    """

    shape: tuple[int, int, int]
    schedule: CosineSchedule
    guidance: Guidance
    steps: int
    sampler: str = "ddpm"
    first: int = 0
    at_once: int = 0


def run_prior(
    prior: Any,
    prompt: PromptEmbeds,
    negative: PromptEmbeds,
    *,
    settings: StageSettings,
    generators: Sequence[NoiseSource],
    source: Tensor | None = None,
    image_embeds: Tensor | None = None,
    residency: Residency | None = None,
    prepare: Prepare = prepare,
) -> Iterator[SampleStep]:
    """Stage C: prompt embeddings to (B, 16, h, w) latents, B = len(generators).

    Args:
        prompt, negative: one row an image; `negative` is read only where guidance is on.
        source: (B, 16, h, w) clean latents to begin from, noised up to where step `settings.first` begins; None for noise alone.
        image_embeds: (B, 1, I) CLIP image embeddings, None for none.
        residency: brings weights that are not where the stage computes.
        prepare: as that of `unet.py`, which it may spare.
    """
    if image_embeds is None:
        image_embeds = prompt.prompt_embeds.new_zeros(len(generators), 1, prior.config.clip_image_in_channels)
    conditioning = Conditioning(prompt.prompt_embeds_pooled, prompt.prompt_embeds, image_embeds)
    against = Conditioning(negative.prompt_embeds_pooled, negative.prompt_embeds, torch.zeros_like(image_embeds))
    yield from _run(prior, conditioning, against, settings, generators, residency or Residency(), prepare, source)


def run_decoder(
    decoder: Any,
    prompt: PromptEmbeds,
    negative: PromptEmbeds,
    *,
    prior_latents: Tensor,
    settings: StageSettings,
    generators: Sequence[NoiseSource],
    residency: Residency | None = None,
    prepare: Prepare = prepare,
) -> Iterator[SampleStep]:
    """Stage B: Stage C latents (B, 16, h, w), the "negative" of each picture, to (B, 4, H/4, W/4) latents."""
    conditioning = Conditioning(prompt.prompt_embeds_pooled, effnet=prior_latents)
    against = Conditioning(negative.prompt_embeds_pooled, effnet=torch.zeros_like(prior_latents))
    yield from _run(decoder, conditioning, against, settings, generators, residency or Residency(), prepare)


@torch.inference_mode()
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
    generators: Sequence[NoiseSource], residency: Residency, prepare: Prepare, source: Tensor | None = None,
) -> Iterator[SampleStep]:
    guidance, schedule, first = settings.guidance, settings.schedule, settings.first
    ratios = schedule.ratios(settings.steps)
    told = schedule.told_ratio(ratios[:-1])[first:]
    count = len(generators)
    at_once = settings.at_once or count
    parts = [slice(begin, begin + at_once) for begin in range(0, count, at_once)]
    prepared = [
        prepare(
            unet, _both(_rows(conditioning, part), _rows(against, part)) if guidance.ever_active else _rows(conditioning, part),
            ratios=told, size=settings.shape[1:], need=residency.need,
        )
        for part in parts
    ]  # fmt: skip
    residency.prepared()

    def guided(latents: Tensor, step: int, prepared: Prepared) -> Tensor:
        if not guidance.active(step, settings.steps):
            return predict(unet, latents, step - first, prepared, residency.need)
        output = predict(unet, latents, step - first, prepared, residency.need, times=2)
        return guidance.combine(output[: len(latents)], output[len(latents) :])

    def predicted(latents: Tensor, step: int) -> Tensor:
        return torch.cat([guided(latents[part], step, ready) for part, ready in zip(parts, prepared, strict=True)])

    latents = onto(conditioning.pooled.device, draw_noise(settings.shape, generators))
    if source is not None:
        latents = add_noise(source, latents, schedule.alpha_cumprod(ratios[first]))
    yield from sample(
        predicted, latents, schedule, steps=settings.steps, sampler=settings.sampler, generators=generators, first=first
    )


def _rows(conditioning: Conditioning, part: slice) -> Conditioning:
    """Those of some of the images."""
    each = (conditioning.pooled, conditioning.text, conditioning.image, conditioning.effnet)
    return Conditioning(*(None if one is None else one[part] for one in each))


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
