"""What runs with the same words and steps have in common, kept from one run to the next: at most so many bytes, newest first.

Owns which tables are kept and when they may be used again. Nothing kept can be out of date: an entry is used only for the very
same network object in the same dtype, on the same device, for equal embeddings and equal timesteps, number for number. What
depends on a picture's negative or its size is not kept but computed each time (`diffusion/unet.py`, maps).
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cascade_app.diffusion.unet import Conditioning, Need, Prepared, all_there, prepare

KEPT_BYTES = 256_000_000  # Stage C of 3.6B takes 89 MB an image


@dataclass(frozen=True, eq=False)
class _Entry:
    unet: weakref.ref[Any]
    given: tuple[Tensor | None, ...]  # pooled, text, image, ratios
    weights: torch.dtype
    prepared: Prepared
    bytes: int

    def fits(self, unet: Any, given: tuple[Tensor | None, ...], weights: torch.dtype) -> bool:
        return self.unet() is unet and self.weights is weights and all(map(_equal, self.given, given))


class PreparedCache:
    """One an engine. Call with the engine's lock held."""

    def __init__(self, limit_bytes: int = KEPT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._entries: list[_Entry] = []  # used least recently first
        self.hits = self.misses = 0

    @property
    def used_bytes(self) -> int:
        return sum(entry.bytes for entry in self._entries)

    def prepare(
        self, unet: Any, conditioning: Conditioning, *, ratios: Tensor, size: tuple[int, int], need: Need = all_there
    ) -> Prepared:
        """As `diffusion.unet.prepare`, from what is kept where it can be."""
        given = (conditioning.pooled, conditioning.text, conditioning.image, ratios)
        weights = unet.embedding[1].weight.dtype
        found = next((entry for entry in self._entries if entry.fits(unet, given, weights)), None)
        prepared = prepare(
            unet, conditioning, ratios=ratios, size=size, need=need, known=found.prepared if found else None
        )
        if found:
            self.hits += 1
            self._entries.remove(found)
            self._entries.append(found)
        else:
            self.misses += 1
            self._keep(unet, given, weights, prepared)
        return prepared

    def shrink(self, limit_bytes: int) -> None:
        """From now on keep at most `limit_bytes`, and never more than at first; 0 forgets everything."""
        self._limit_bytes = min(max(0, limit_bytes), KEPT_BYTES)
        self._drop_oldest()

    def _keep(self, unet: Any, given: tuple[Tensor | None, ...], weights: torch.dtype, prepared: Prepared) -> None:
        fixed = Prepared(prepared.keys_values, prepared.tables)
        steps = [step for table in prepared.tables.values() for step in table]
        tensors = [*(one for step in steps for one in step), *prepared.keys_values.values()]
        size_bytes = sum(one.numel() * one.element_size() for one in [*tensors, *given] if one is not None)
        if size_bytes > self._limit_bytes:
            return
        # Whoever gave these may write to them later.
        copies = tuple(None if one is None else one.clone() for one in given)
        self._entries.append(_Entry(weakref.ref(unet), copies, weights, fixed, size_bytes))
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._entries = [entry for entry in self._entries if entry.unet() is not None]
        while self.used_bytes > self._limit_bytes:
            del self._entries[0]


def _equal(kept: Tensor | None, asked: Tensor | None) -> bool:
    if kept is None or asked is None:
        return kept is asked
    alike = kept.device == asked.device and kept.dtype == asked.dtype and kept.shape == asked.shape
    return alike and torch.equal(kept, asked)
