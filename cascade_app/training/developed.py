"""Latents as Stage B really writes them, for Stage A's decoder to learn from: with the picture that was meant, and without.

*Paired* ones are drawn from a picture's own Stage C latents, so that the picture says what they should have become.
*Dreamt* ones are drawn from Stage C's latents of a caption, which is what the decoder meets in use; no picture belongs to them.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cascade_app.training.captions import caption
from cascade_app.training.darkroom import Darkroom, Setting
from cascade_app.training.data import SQUARE, Pictures
from cascade_app.training.loop import autocast
from cascade_app.training.world import describe

CONDITION_NOISE = 0.1  # up to this much, as Stage B was trained to bear
BATCH = 16
_DREAMS_FROM = 50_000_000  # scenes beyond those that training and evaluation draw


class Developed:
    """float16 Stage B latents of square pictures, (N, 4, 64, 64) each kind; made once, kept on disk in growing files."""

    def __init__(self, folder: Path, room: Darkroom, data: Pictures, *, paired: int, dreamt: int, device: torch.device):
        self.room, self.data, self.device, self.folder = room, data, device, folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.paired = self._kept("paired", paired, self._from_pictures)
        self.dreamt = self._kept("dreamt", dreamt, self._from_captions)

    def _kept(self, name: str, count: int, make) -> np.ndarray:
        """Batches are kept as they are made, so that a stopped run goes on where it was."""
        parts = []
        for start in range(0, count, BATCH):
            path = self.folder / f"{name}-{start:05d}.npy"
            if not path.exists():
                with torch.no_grad(), autocast(self.device):
                    latents = make(start)
                np.save(path.with_suffix(".part.npy"), latents.half().cpu().numpy())
                path.with_suffix(".part.npy").replace(path)
            parts.append(np.load(path))
        return np.concatenate(parts)[:count]

    def _from_pictures(self, start: int) -> Tensor:
        generator = torch.Generator().manual_seed(start)
        pictures = self.data.rows(SQUARE, start, start + BATCH).tensor().to(self.device)
        latents = self.room.encoder()(pictures).float()
        noise = torch.randn(latents.shape, generator=generator).to(self.device)
        amount = CONDITION_NOISE * torch.rand(len(latents), 1, 1, 1, generator=generator).to(self.device)
        seeds = list(range(start, start + len(latents)))
        return self.room.stage_b(latents + amount * noise, [""] * len(latents), seeds, setting=Setting())

    def _from_captions(self, start: int) -> Tensor:
        dice = random.Random(start)
        prompts = [caption(describe(_DREAMS_FROM + start + i), dice, explicit=0.6) for i in range(BATCH)]
        seeds = list(range(_DREAMS_FROM + start, _DREAMS_FROM + start + BATCH))
        latents, _ = self.room.negatives(prompts, seeds, setting=Setting())
        return self.room.stage_b(latents, prompts, seeds, setting=Setting())
