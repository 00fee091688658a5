"""Where an image comes from, as tensors: its noise, its blended words, and negatives to latents and back.

Knows the values of `negative.py` and `work.py` and nothing of networks, placements or events.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from cascade_app.diffusion.conditioning import PromptEmbeds
from cascade_app.diffusion.sampler import MixedNoise, NoiseSource
from cascade_app.negative import Negative, Noise
from cascade_app.work import Origin


def prior_noise(origin: Origin) -> NoiseSource:
    """Stage C's noise, from the first number on: all draws of a step follow the same mix as the start."""
    start = origin.start
    return _source(start.noise if start and start.noise else Noise(seed=origin.seed))


def decoder_noise(origin: Origin) -> NoiseSource:
    """Stage B's noise, always the seed's own: a negative can be developed without having run Stage C."""
    return torch.Generator().manual_seed(origin.seed)


def _source(noise: Noise) -> NoiseSource:
    if noise.mix is None:
        return torch.Generator().manual_seed(noise.seed)
    first, second, amount = noise.mix
    return MixedNoise(_source(first), _source(second), amount)


def texts_of(origin: Origin, prompt: str) -> tuple[str, ...]:
    """The prompts that an image's words are made of."""
    start = origin.start
    return (prompt, start.blend_prompt) if start and start.blend else (prompt,)


def words_of(origin: Origin, prompt: str, embeds: Mapping[str, PromptEmbeds]) -> PromptEmbeds:
    """One row: the prompt's embeddings, moved in a straight line towards those of the prompt it is blended with."""
    here = embeds[prompt]
    start = origin.start
    if start is None or not start.blend:
        return here
    there = embeds[start.blend_prompt]
    return PromptEmbeds(
        torch.lerp(here.prompt_embeds, there.prompt_embeds, start.blend),
        torch.lerp(here.prompt_embeds_pooled, there.prompt_embeds_pooled, start.blend),
    )


def to_negative(latents: Tensor) -> Negative:
    """Stage C latents of one image, (C, h, w) of any float dtype, as they are kept.

    Raises:
        InvalidRequest: a value is no number or far outside what a latent holds.
    """
    return Negative.checked(latents.half().cpu().contiguous().numpy().astype("<f2").tobytes(), tuple(latents.shape))


def to_latents(negative: Negative) -> Tensor:
    """The kept latents, (C, h, w) float32."""
    return torch.frombuffer(bytearray(negative.data), dtype=torch.float16).view(negative.shape).float()
