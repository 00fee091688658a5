"""Latents as Stage C really writes them, for it and Stage B to learn from: pictures' own, noised part of the way and denoised.

Sampled latents differ from the encoder's: outlines sag, an edge is where no edge is. Stage B trained on the encoder's
alone draws those faults faithfully, and Stage C itself, which has only ever seen clean latents under the noise, takes its
own faults of the steps before for what the picture shows. Begun from a picture's own latents the sampler keeps what the
picture shows and makes its usual faults, so the pair (faulty latents, clean picture) teaches both what was meant. For Stage
B: cascaded conditioning augmentation (Ho et al. 2022, section 4) with Stage C's own errors in place of Gaussian ones. For
Stage C: learning to go on from where it gets by itself (Ross et al. 2011, "DAgger"; for diffusion Ning et al. 2023).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

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
from cascade_app.training.unets import PRIOR, grown, new_schedule, new_unet
from cascade_app.training.workdir import keep
from cascade_app.training.world import Icon, describe

COUNT, MORE_ICONS = 8000, 3000  # pictures that are made again: of the first so many the square ones, and icons besides
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


def icon_indices(start: int, wanted: int) -> list[int]:
    """The first `wanted` training scenes from `start` on that are icons: all they show is outlines."""
    found: list[int] = []
    while len(found) < wanted:
        if isinstance(describe(start), Icon):
            found.append(start)
        start += 1
    return found


def load_prior(work: Path, device: torch.device) -> tuple[nn.Module, nn.Module, Any]:
    """The finished Stage C, the text encoder that it was trained with, and the tokenizer."""
    tokenizer, text_encoder, _ = clip.load(work, device)
    prior = new_unet(PRIOR).to(device).eval()
    prior.load_state_dict(grown(torch.load(work / "final" / "stage_c.pt", weights_only=True), prior))
    text_encoder.load_state_dict(torch.load(work / "final" / "text_encoder_c.pt", weights_only=True))
    return prior, text_encoder.eval().requires_grad_(False), tokenizer


class Resampled:
    """Square pictures' latents made again once each, row by row those of `conditions`; kept on disk beside them."""

    def __init__(self, prior: nn.Module, text_encoder: nn.Module, tokenizer, *, conditions: LatentCache):
        indices = conditions.indices[SQUARE]
        which = hashlib.sha256(indices.tobytes()).hexdigest()[:10]
        path = conditions.folder / f"resampled-{fingerprint(prior)}-{which}.npy"
        if not path.exists():
            rng = np.random.default_rng(0)
            result = np.empty((len(indices), 16, *SQUARE), dtype=np.float16)
            for start in range(0, len(indices), 64):
                rows = np.arange(start, min(start + 64, len(indices)))
                captions = clip.captions_of(indices[rows], rng, explicit=0.9)
                with autocast(conditions.device):
                    made = again(
                        prior, text_encoder, tokenizer, captions, conditions.get(SQUARE, rows),
                        last=int(rng.integers(LEAST, MOST)), seed=1_000_000 + start,
                    )  # fmt: skip
                result[rows] = made.float().cpu().numpy()
            keep(path, result)
        self.indices, self.array, self.device = indices, np.load(path, mmap_mode="r"), conditions.device

    def rows_of(self, indices: np.ndarray) -> np.ndarray:
        """Where each of these pictures is, -1 where it was not made again."""
        rows = {int(index): row for row, index in enumerate(self.indices)}
        return np.array([rows.get(int(index), -1) for index in indices])

    def get(self, rows: np.ndarray) -> Tensor:
        """Latents of these square rows, float32."""
        return torch.from_numpy(self.array[rows].astype(np.float32)).to(self.device)
