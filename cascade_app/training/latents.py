"""Latents of the training pictures, computed once: Stage C's targets (image encoder) and Stage B's (Stage A).

python -m cascade_app.training.latents --kind encoder --count 16000
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cascade_app.training.data import SHAPES, SQUARE, Pictures, indices_of, picture_size_px, to_tensor
from cascade_app.training.loop import autocast, pick_device
from cascade_app.training.scenes import render
from cascade_app.training.workdir import add_work_dir_argument, keep, work_dir
from cascade_app.training.world import DATA_VERSION, describe


def fingerprint(module: nn.Module) -> str:
    """A short name for a network's weights, so that a cache made by others is never used."""
    digest = hashlib.sha256()
    for value in module.state_dict().values():
        digest.update(value.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:10]


class LatentCache:
    """float16 latents of the first `count` pictures by shape, in files of one shape each.

    `more`: indices of further pictures, which are square whatever their index says; their rows come after the others.
    """

    def __init__(
        self, work: Path, kind: str, network: nn.Module, *, data: Pictures, count: int, device: torch.device,
        more: Sequence[int] = (),
    ):  # fmt: skip
        self.kind, self.network, self.data, self.count, self.device = kind, network, data, count, device
        self.folder = work / "latents" / f"{kind}-v{DATA_VERSION}-{fingerprint(network)}-{count}"
        self.indices = {shape: indices_of(shape, count) for shape in SHAPES}
        names = {shape: f"{shape[0]}x{shape[1]}" for shape in SHAPES if len(self.indices[shape])}
        self.arrays = {shape: self._load(name, self.indices[shape], shape) for shape, name in names.items()}
        if len(more):
            added = np.asarray(more)
            name = f"more-{hashlib.sha256(added.tobytes()).hexdigest()[:10]}"
            self.arrays[SQUARE] = np.concatenate([self.arrays[SQUARE], self._load(name, added, SQUARE)])
            self.indices[SQUARE] = np.concatenate([self.indices[SQUARE], added])

    def _encode(self, pictures: Tensor, shape: tuple[int, int]) -> Tensor:
        with torch.no_grad(), autocast(self.device):
            if self.kind == "vqgan":
                return self.network.encode(pictures.to(self.device)).latents
            return self.network(pictures.to(self.device), shape)

    def _load(self, name: str, indices: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        if path.exists():
            return np.load(path, mmap_mode="r")
        self.folder.mkdir(parents=True, exist_ok=True)
        height, width = picture_size_px(shape)
        size = (4, height // 4, width // 4) if self.kind == "vqgan" else (16, *shape)
        result = np.empty((len(indices), *size), dtype=np.float16)
        drawn = int((indices < self.data.count).sum())
        for start in range(0, len(indices), 32):
            stop = min(start + 32, len(indices))
            if stop <= drawn:
                pictures = self.data.rows(shape, start, stop).tensor()
            else:
                pictures = to_tensor(np.stack([render(describe(int(i)), width, height) for i in indices[start:stop]]))
            result[start:stop] = self._encode(pictures, shape).float().cpu().numpy()
        keep(path, result)
        return np.load(path, mmap_mode="r")

    def pick(self, rng: np.random.Generator, size: int, *, square: float = 0.75) -> tuple[tuple[int, int], np.ndarray]:
        """(shape, sorted rows) of a random batch; larger shapes come in smaller batches."""
        shapes = [s for s in self.arrays if s != (6, 6)]
        shape = (6, 6) if rng.random() < square or not shapes else shapes[rng.integers(len(shapes))]
        size = max(2, round(size * 36 / (shape[0] * shape[1])))
        return shape, np.sort(rng.integers(len(self.indices[shape]), size=size))

    def get(self, shape: tuple[int, int], rows: np.ndarray) -> Tensor:
        """Latents of these rows, float32."""
        return torch.from_numpy(self.arrays[shape][rows].astype(np.float32)).to(self.device)


def with_more(rows: np.ndarray, of: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Sorted rows of a batch, a share of them replaced by rows out of `of`; as they are where that is empty."""
    if not len(of):
        return rows
    return np.sort(np.where(rng.random(len(rows)) < share, rng.choice(of, len(rows)), rows))


def main() -> None:
    """Fill one cache before the parts that share it start."""
    from cascade_app.training import encoder, stage_a

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_work_dir_argument(parser)
    parser.add_argument("--kind", choices=("vqgan", "encoder"), required=True)
    parser.add_argument("--count", type=int, default=16000)
    parser.add_argument("--pictures", type=int, default=16000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work, device = work_dir(arguments.work_dir), pick_device()
    network = stage_a.load(work, device) if arguments.kind == "vqgan" else encoder.load(work, device)[0]
    data = Pictures(work, arguments.pictures)
    LatentCache(work, arguments.kind, network, data=data, count=arguments.count, device=device)


if __name__ == "__main__":
    main()
