"""Trains the previewer further, on latents of the finished encoder, which stays as it is.

    python -m cascade_app.training.previewer --minutes 10

Together with the encoder it learns by squared differences, which serve the encoder: whatever is lost costs much. Of all that
a latent may stand for they show the mean, and edges are fog; absolute differences show the likeliest, with an edge.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cascade_app.training import encoder as encoders
from cascade_app.training.data import SQUARE, Pictures, to_tensor
from cascade_app.training.latents import LatentCache
from cascade_app.training.loop import Budget, Part, Trainer, autocast, part_parser, pick_device
from cascade_app.training.sheets import contact_sheet
from cascade_app.training.stage_a import psnr, save_final, to_bytes
from cascade_app.training.workdir import work_dir


def difference(previews: Tensor, small: Tensor) -> Tensor:
    """What training makes small: absolute differences, edges first."""
    return ((previews - small).abs() * encoders.contrast_weight(small)).mean()


def build(
    data: Pictures, work: Path, device: torch.device, *, batch: int = 24, sample_path: Path | None = None
) -> Part:
    encoder, before = encoders.load(work, device)
    latents = LatentCache(work, "encoder", encoder, data=data, count=data.count, device=device)
    # In eval mode: its BatchNorms stay what they are, so that the averaged weights need none of their own.
    model = encoders.load(work, device)[1].requires_grad_(True)

    def pair(shape: tuple[int, int], rows: np.ndarray) -> tuple[Tensor, Tensor]:
        return latents.get(shape, rows), encoders.shrink(to_tensor(data.maps[shape][rows]).to(device), *shape)

    def loss(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        written, small = pair(*latents.pick(rng, batch))
        with autocast(device):
            previews = model(written + encoders.LATENT_NOISE * torch.randn_like(written)).float()
        return difference(previews, small), {"psnr": psnr(((previews.detach() - small) ** 2).mean())}

    def sample(ema: dict[str, nn.Module]) -> None:
        written, small = pair(SQUARE, np.arange(16))
        with autocast(device):
            shown = [network(written).float() for network in (before, ema["previewer"])]
        print(f"previewer  psnr {psnr(functional.mse_loss(shown[1], small)):.2f} dB", flush=True)
        if sample_path:
            contact_sheet([*to_bytes(small), *to_bytes(shown[0]), *to_bytes(shown[1])], sample_path, columns=8)

    return Part("previewer", {"previewer": model}, loss, muon_lr=0.005, adam_lr=8e-4, sample=sample)


def main() -> None:
    arguments = part_parser(__doc__, minutes=10).parse_args()
    torch.set_num_threads(arguments.threads)
    work, device = work_dir(arguments.work_dir), pick_device(arguments.device)
    data = Pictures(work, arguments.pictures)
    part = build(data, work, device, sample_path=work / "samples" / "previewer.png")
    budget = Budget(arguments.minutes, arguments.steps)
    trainer = Trainer(part, work / "state" / "previewer.pt", budget, seed=arguments.seed)
    trainer.run(sample_every_s=60 * arguments.sample_minutes)
    save_final(work, "previewer", trainer.ema["previewer"].state_dict())


if __name__ == "__main__":
    main()
