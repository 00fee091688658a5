"""Latents as Stage C really writes them, for Stage B to learn from: the picture's own, noised part of the way and denoised.

Sampled latents differ from the encoder's: outlines sag, an edge is where no edge is. Stage B trained on the encoder's
alone draws those faults faithfully. Begun from a picture's own latents the sampler keeps what the picture shows and
makes its usual faults, so the pair (faulty latents, clean picture) teaches Stage B what was meant. Cascaded
conditioning augmentation (Ho et al. 2022, section 4) with Stage C's own errors in place of Gaussian ones.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cascade_app.diffusion.conditioning import encode_prompts
from cascade_app.diffusion.guidance import Guidance
from cascade_app.diffusion.stages import StageSettings, run_prior
from cascade_app.training import clip
from cascade_app.training.latents import LatentCache, fingerprint
from cascade_app.training.loop import autocast
from cascade_app.training.unets import new_schedule
from cascade_app.training.workdir import keep

STEPS, GUIDANCE = 20, 4.0
LEAST, MOST = 4, 14  # steps that are made again, of 20: from 13 the sampler begins to choose other objects


@torch.no_grad()
def again(
    prior: nn.Module, text_encoder: nn.Module, tokenizer, captions: list[str], latents: Tensor, *, last: int, seed: int
) -> Tensor:
    """The last `last` of 20 steps made again from `latents` (B, 16, h, w); the same shape."""
    prompt = encode_prompts(tokenizer, text_encoder, captions)
    nothing = encode_prompts(tokenizer, text_encoder, [""] * len(captions))
    settings = StageSettings(tuple(latents.shape[1:]), new_schedule(), Guidance(GUIDANCE), STEPS, first=STEPS - last)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(captions))]
    *_, state = run_prior(prior, prompt, nothing, settings=settings, generators=generators, source=latents)
    return state.latents


class Resampled:
    """Square pictures' latents made again once each, in the order of `conditions`; kept on disk."""

    def __init__(
        self, work: Path, prior: nn.Module, text_encoder: nn.Module, tokenizer, *, conditions: LatentCache, count: int
    ):
        shape = (6, 6)
        path = conditions.folder / f"resampled-{fingerprint(prior)}-{count}.npy"
        self.count = min(count, len(conditions.indices[shape]))
        if not path.exists():
            rng = np.random.default_rng(0)
            result = np.empty((self.count, 16, *shape), dtype=np.float16)
            for start in range(0, self.count, 64):
                rows = np.arange(start, min(start + 64, self.count))
                captions = clip.captions_of(conditions.indices[shape][rows], rng, explicit=0.9)
                with autocast(conditions.device):
                    made = again(
                        prior, text_encoder, tokenizer, captions, conditions.get(shape, rows),
                        last=int(rng.integers(LEAST, MOST)), seed=1_000_000 + start,
                    )  # fmt: skip
                result[rows] = made.float().cpu().numpy()
            keep(path, result)
        self.array, self.device = np.load(path, mmap_mode="r"), conditions.device

    def get(self, rows: np.ndarray) -> Tensor:
        """Latents of these square rows, float32."""
        return torch.from_numpy(self.array[rows].astype(np.float32)).to(self.device)
