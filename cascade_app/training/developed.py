"""Latents as Stage B really writes them, each with the picture that was meant: for Stage A's decoder to learn from.

Some are drawn from a picture's own Stage C latents with a little noise, some from what Stage C makes of those latents when
it denoises the last steps again: so they keep what the picture shows and get the faults that the decoder meets in use.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cascade_app.diffusion.conditioning import encode_prompts
from cascade_app.diffusion.guidance import Guidance
from cascade_app.diffusion.stages import StageSettings, run_prior
from cascade_app.training.clip import captions_of
from cascade_app.training.darkroom import Darkroom, Setting
from cascade_app.training.data import SQUARE, Pictures
from cascade_app.training.loop import autocast
from cascade_app.training.workdir import keep

CONDITION_NOISE = 0.1  # up to this much, as Stage B was trained to bear
BATCH = 16
LEAST, MOST = 4, 14  # of Stage C's 20 steps that are made again: from 13 the sampler begins to choose other objects


class Developed:
    """float16 Stage B latents of the first square pictures, (N, 4, 64, 64) each kind; made once, kept on disk batch by batch.

    Args:
        own: how many are drawn from the pictures' own latents.
        again: how many from latents that Stage C made again.
    """

    def __init__(self, folder: Path, room: Darkroom, data: Pictures, *, own: int, again: int, device: torch.device):
        self.room, self.data, self.device, self.folder = room, data, device, folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.own = self._kept("own", own, self._noisy)
        self.again = self._kept("again", again, self._made_again)

    def _kept(self, name: str, count: int, condition: Callable[[int, Tensor], Tensor]) -> np.ndarray:
        """A stopped run goes on where it was."""
        parts = []
        for start in range(0, count, BATCH):
            path = self.folder / f"{name}-{start:05d}.npy"
            if not path.exists():
                with torch.no_grad(), autocast(self.device):
                    pictures = self.data.rows(SQUARE, start, start + BATCH).tensor().to(self.device)
                    latents = condition(start, self.room.encoder(pictures).float())
                    seeds = list(range(start, start + len(latents)))
                    made = self.room.stage_b(latents, [""] * len(latents), seeds, setting=Setting())
                keep(path, made.half().cpu().numpy())
            parts.append(np.load(path))
        return np.concatenate(parts)[:count]

    def _noisy(self, start: int, latents: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(start)
        amount = CONDITION_NOISE * torch.rand(len(latents), 1, 1, 1, generator=generator)
        return latents + (amount * torch.randn(latents.shape, generator=generator)).to(self.device)

    def _made_again(self, start: int, latents: Tensor) -> Tensor:
        """The last of Stage C's steps made again from a picture's own latents."""
        rng, parts, usual = np.random.default_rng(start), self.room.checkpoint, Setting()
        captions = captions_of(self.data.indices[SQUARE][start : start + len(latents)], rng, explicit=0.9)
        prompt = encode_prompts(parts.tokenizer, parts.text_encoder, captions)
        nothing = encode_prompts(parts.tokenizer, parts.text_encoder, [""] * len(captions))
        first = usual.prior_steps - int(rng.integers(LEAST, MOST))
        settings = StageSettings(
            tuple(latents.shape[1:]), parts.schedule(), Guidance(usual.guidance), usual.prior_steps, first=first
        )
        generators = [torch.Generator().manual_seed(start + i) for i in range(len(captions))]
        *_, state = run_prior(parts.prior, prompt, nothing, settings=settings, generators=generators, source=latents)
        return state.latents
