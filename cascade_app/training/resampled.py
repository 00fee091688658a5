"""Latents as Stage C really writes them, for Stage B to learn from: the picture's own, noised part of the way and denoised.

Sampled latents differ from the encoder's: outlines sag, an edge is where no edge is. Stage B trained on the encoder's
alone draws those faults faithfully. Begun from a picture's own latents the sampler keeps what the picture shows and
makes its usual faults, so the pair (faulty latents, clean picture) teaches Stage B what was meant. Cascaded
conditioning augmentation (Ho et al. 2022, section 4) with Stage C's own errors in place of Gaussian ones.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from cascade_app.diffusion.conditioning import encode_prompts
from cascade_app.diffusion.guidance import Guidance
from cascade_app.diffusion.stages import StageSettings, run_prior
from cascade_app.training import clip
from cascade_app.training.data import SQUARE
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
    """Some square pictures' latents made again once each; kept on disk beside those of `conditions`.

    Attributes:
        rows: which rows of `conditions` they are, evenly spread over all of them.
    """

    def __init__(self, prior: nn.Module, text_encoder: nn.Module, tokenizer, *, conditions: LatentCache, count: int):
        indices = conditions.indices[SQUARE]
        self.rows = np.unique(np.linspace(0, len(indices) - 1, count).round().astype(int))
        which = hashlib.sha256(indices[self.rows].tobytes()).hexdigest()[:10]
        path = conditions.folder / f"resampled-{fingerprint(prior)}-{which}.npy"
        if not path.exists():
            rng = np.random.default_rng(0)
            result = np.empty((len(self.rows), 16, *SQUARE), dtype=np.float16)
            for start in range(0, len(self.rows), 64):
                some = self.rows[start : start + 64]
                captions = clip.captions_of(indices[some], rng, explicit=0.9)
                with autocast(conditions.device):
                    made = again(
                        prior, text_encoder, tokenizer, captions, conditions.get(SQUARE, some),
                        last=int(rng.integers(LEAST, MOST)), seed=1_000_000 + start,
                    )  # fmt: skip
                result[start : start + len(some)] = made.float().cpu().numpy()
            keep(path, result)
        self.array, self.device = np.load(path, mmap_mode="r"), conditions.device

    def get(self, rows: np.ndarray) -> Tensor:
        """Latents of these rows of `conditions`, all of them made again; float32."""
        return torch.from_numpy(self.array[np.searchsorted(self.rows, rows)].astype(np.float32)).to(self.device)
