"""Trains the image encoder (picture to 16x6x6) and the previewer (16x6x6 to a 96 px picture) as one autoencoder.

    python -m cascade_app.training.encoder --minutes 20

The latents also have to tell every attribute of the scene to a small classifier, so that colours and objects are not
sacrificed to the outlines of hills. The previewer alone goes on later (previewer.py).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cascade_app.diffusion.effnet import ImageEncoder
from cascade_app.diffusion.preview import Previewer
from cascade_app.training.attributes import AttributeHead, attribute_loss, label_table
from cascade_app.training.data import Pictures
from cascade_app.training.loop import Budget, Part, Trainer, autocast, calibrate, part_parser, pick_device
from cascade_app.training.sheets import contact_sheet
from cascade_app.training.stage_a import psnr, save_final, to_bytes
from cascade_app.training.workdir import work_dir

PREVIEWER_WIDTHS = (256, 192, 128, 64, 32)
LATENT_NOISE = 0.1


class LatentReader(nn.Module):
    """Reads the attributes from latents, so that training keeps them readable. Used in training only, here and by Stage C."""

    def __init__(self, channels: int = 16, hidden: int = 256):
        super().__init__()
        self.hidden = nn.Linear(channels * 36, hidden)
        self.head = AttributeHead(hidden)

    def forward(self, latents: Tensor) -> list[Tensor]:
        """(B, 16, h, w) -> the logits of every attribute."""
        pooled = functional.interpolate(latents, size=(6, 6), mode="bilinear", antialias=True)
        return self.head(functional.gelu(self.hidden(pooled.flatten(1))))


def shrink(pictures: Tensor, rows: int, columns: int) -> Tensor:
    """Pictures at the previewer's size, 16 px per latent."""
    return functional.interpolate(pictures, size=(16 * rows, 16 * columns), mode="area")


def contrast_weight(small: Tensor) -> Tensor:
    """Weight of each pixel, mean 1: objects and edges count more than plain sky. (B, 3, h, w) -> (B, 1, h, w)."""
    mean = functional.avg_pool2d(small, 9, stride=1, padding=4, count_include_pad=False)
    contrast = (small - mean).abs().mean(1, keepdim=True)
    weight = 1 + 12 * functional.avg_pool2d(contrast, 5, stride=1, padding=2, count_include_pad=False)
    return weight / weight.mean(dim=(1, 2, 3), keepdim=True)


def preview_loss(previewer: nn.Module, latents: Tensor, pictures: Tensor) -> tuple[Tensor, float]:
    """(weighted loss of the preview, its plain PSNR)."""
    small = shrink(pictures, *latents.shape[-2:])
    restored = previewer(latents + LATENT_NOISE * torch.randn_like(latents)).float()
    error = (restored - small) ** 2
    weighted = (error * contrast_weight(small)).mean()
    return 10 * weighted + 0.1 * (restored - small).abs().mean(), psnr(error.mean())


def build(data: Pictures, device: torch.device, *, batch: int = 12, sample_path: Path | None = None) -> Part:
    modules = {
        "encoder": ImageEncoder().to(device, memory_format=torch.channels_last),
        "previewer": Previewer(PREVIEWER_WIDTHS).to(device, memory_format=torch.channels_last),
        "reader": LatentReader().to(device),
    }
    table = torch.from_numpy(label_table(range(data.count)))

    def loss(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        picked = data.pick(rng, batch)
        pictures = picked.tensor().to(device)
        with autocast(device):
            latents = modules["encoder"](pictures, picked.shape).float()
            preview, decibels = preview_loss(modules["previewer"], latents, pictures)
            noisy = latents + LATENT_NOISE * torch.randn_like(latents)
            reading, accuracy = attribute_loss(modules["reader"](noisy), table[picked.indices].to(device))
        return preview + 0.02 * reading, {"psnr": decibels, "read": accuracy}

    def sample(ema: dict[str, nn.Module]) -> None:
        pictures = data.rows((6, 6), 0, 16).tensor().to(device)
        with autocast(device):
            previews = ema["previewer"](ema["encoder"](pictures).float()).float()
        print(
            f"encoder  psnr of previews {psnr(functional.mse_loss(previews, shrink(pictures, 6, 6))):.2f} dB",
            flush=True,
        )
        if sample_path:
            contact_sheet([*to_bytes(pictures), *to_bytes(previews)], sample_path, columns=8)

    return Part("encoder", modules, loss, muon_lr=0.02, adam_lr=3e-3, plain=("stem", "head", "reader"), sample=sample)


def finish(encoder: ImageEncoder, previewer: Previewer, data: Pictures, device: torch.device) -> None:
    """Give both averaged networks BatchNorm statistics that belong to their weights; they end in eval mode."""

    def pictures(i: int) -> Tensor:
        return data.rows((6, 6), 32 * i, 32 * i + 32).tensor().to(device)

    with torch.no_grad():
        calibrate(encoder, lambda i: encoder(pictures(i)))
        calibrate(previewer, lambda i: previewer(encoder(pictures(i))))


def load(work: Path, device: torch.device | None = None) -> tuple[ImageEncoder, Previewer]:
    """The trained encoder and previewer, in eval mode."""
    final = work / "final"
    encoder = ImageEncoder.from_state_dict(torch.load(final / "encoder.pt", weights_only=True))
    previewer = Previewer.from_state_dict(torch.load(final / "previewer.pt", weights_only=True))
    return encoder.to(device or "cpu").requires_grad_(False), previewer.to(device or "cpu").requires_grad_(False)


def main() -> None:
    arguments = part_parser(__doc__, minutes=20).parse_args()
    torch.set_num_threads(arguments.threads)
    work, device = work_dir(arguments.work_dir), pick_device(arguments.device)
    data = Pictures(work, arguments.pictures)
    part = build(data, device, sample_path=work / "samples" / "encoder.png")
    if arguments.init_from:
        from safetensors.torch import load_file

        part.modules["encoder"].load_state_dict(load_file(arguments.init_from / "effnet_encoder.safetensors"))
        part.modules["previewer"].load_state_dict(load_file(arguments.init_from / "previewer.safetensors"))
    trainer = Trainer(
        part, work / "state" / "encoder.pt", Budget(arguments.minutes, arguments.steps), seed=arguments.seed
    )
    trainer.run()
    encoder, previewer = trainer.ema["encoder"], trainer.ema["previewer"]
    finish(encoder, previewer, data, device)
    save_final(work, "encoder", encoder.state_dict())
    save_final(work, "previewer", previewer.state_dict())


if __name__ == "__main__":
    main()
