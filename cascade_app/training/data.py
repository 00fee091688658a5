"""Training pictures on disk: drawn once, kept as raw bytes in one file a shape, read as memory maps.

Three pictures in four are square; the others go round the aspect ratios. Picture `i` shows `describe(i)`, for ever.
"""

from __future__ import annotations

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


# Pixels a side for a side of Stage C's latent: the multiples of 32 that plan.py asks such a latent for. Two sides
# come from 6 and 9 (224 and 256, 352 and 384); training uses the larger.
SIDE_PX = {5: 192, 6: 256, 7: 288, 8: 320, 9: 384}


def picture_size_px(shape: tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels for a Stage C shape (rows, columns). Stage B's latent is a quarter of it."""
    return SIDE_PX[shape[0]], SIDE_PX[shape[1]]


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
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 255


class Pictures:
    """The first `count` pictures of the world, drawn when first asked for."""

    def __init__(self, folder: Path, count: int):
        self.count = count
        self.folder = folder / f"pictures-v{DATA_VERSION}-{count}-{SIDE_PX[5]}"
        self.indices = {shape: indices_of(shape, count) for shape in SHAPES}
        self._draw()
        self.maps = {shape: self._map(self._path(shape), shape, "r") for shape in SHAPES if len(self.indices[shape])}

    def _path(self, shape: tuple[int, int]) -> Path:
        return self.folder / f"{shape[0]}x{shape[1]}.u8"

    def _map(self, path: Path, shape: tuple[int, int], mode: str) -> np.memmap:
        size = (len(self.indices[shape]), *picture_size_px(shape), 3)
        return np.memmap(path, dtype=np.uint8, mode=mode, shape=size)

    def _draw(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for shape, indices in self.indices.items():
            path = self._path(shape)
            if path.exists() or not len(indices):
                continue
            height, width = picture_size_px(shape)
            store = self._map(path.with_suffix(".part"), shape, "w+")
            for row, index in enumerate(indices):
                store[row] = render(describe(int(index)), width, height)
            store.flush()
            path.with_suffix(".part").replace(path)

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
