"""Training pictures on disk: drawn once, kept as raw bytes in one file a shape, read as memory maps.

Three pictures in four are square; the others go round the aspect ratios. Picture `i` shows `describe(i)`, for ever.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cascade_app.training.scenes import render
from cascade_app.training.world import DATA_VERSION, describe

SQUARE = (6, 6)
# (rows, columns) of the Stage C latent: 192 to 384 px, portrait and landscape.
OTHER_SHAPES = ((6, 8), (8, 6), (5, 7), (7, 5), (6, 9), (9, 6), (5, 5), (8, 8))
SHAPES = (SQUARE, *OTHER_SHAPES)


def decoder_side(latent_side: int) -> int:
    """Side of Stage B's latent for a side of Stage C's: 10.667 times, rounded to an even number."""
    return 2 * round(latent_side * 32 / 3 / 2)


def picture_size_px(shape: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels for a Stage C shape (rows, columns)."""
    return 4 * decoder_side(shape[0]), 4 * decoder_side(shape[1])


def shape_of(index: int) -> tuple[int, int]:
    return SQUARE if index % 4 != 3 else OTHER_SHAPES[(index // 4) % len(OTHER_SHAPES)]


def indices_of(shape: tuple[int, int], count: int) -> np.ndarray:
    """The indices below `count` whose pictures have this shape."""
    return np.array([i for i in range(count) if shape_of(i) == shape])


@dataclass
class Batch:
    """Pictures of one shape: which they are, and their bytes (B, H, W, 3) uint8."""

    indices: np.ndarray
    shape: tuple[int, int]
    pictures: np.ndarray

    def tensor(self) -> Tensor:
        """(B, 3, H, W) float32 in [0, 1]."""
        return to_tensor(self.pictures)


def to_tensor(pictures: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255


class Pictures:
    """The first `count` pictures of the world, drawn when first asked for."""

    def __init__(self, folder: Path, count: int):
        self.count = count
        self.folder = folder / f"pictures-v{DATA_VERSION}-{count}"
        self.indices = {shape: indices_of(shape, count) for shape in SHAPES}
        if not (self.folder / "done.json").exists():
            self._draw()
        self.maps = {shape: self._map(shape, "r") for shape in SHAPES if len(self.indices[shape])}

    def _map(self, shape: tuple[int, int], mode: str) -> np.memmap:
        height, width = picture_size_px(shape)
        size = (len(self.indices[shape]), height, width, 3)
        return np.memmap(self.folder / f"{shape[0]}x{shape[1]}.u8", dtype=np.uint8, mode=mode, shape=size)

    def _draw(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for shape, indices in self.indices.items():
            if not len(indices):
                continue
            height, width = picture_size_px(shape)
            store = self._map(shape, "w+")
            for row, index in enumerate(indices):
                store[row] = render(describe(int(index)), width, height)
            store.flush()
        (self.folder / "done.json").write_text(json.dumps({"count": self.count, "version": DATA_VERSION}))

    def pick(self, rng: np.random.Generator, size: int, *, square: float = 0.75, area: bool = True) -> Batch:
        """A random batch of one shape; with `area`, larger pictures come in smaller batches."""
        others = [s for s in OTHER_SHAPES if len(self.indices[s])]
        shape = SQUARE if rng.random() < square or not others else others[rng.integers(len(others))]
        if area:
            size = max(2, round(size * 36 / (shape[0] * shape[1])))
        rows = rng.integers(len(self.indices[shape]), size=size)
        return Batch(self.indices[shape][rows], shape, self.maps[shape][np.sort(rows)][np.argsort(np.argsort(rows))])

    def rows(self, shape: tuple[int, int], start: int, stop: int) -> Batch:
        """The pictures of a shape in order."""
        return Batch(self.indices[shape][start:stop], shape, self.maps[shape][start:stop])
