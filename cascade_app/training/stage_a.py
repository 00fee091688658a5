"""Trains Stage A, the autoencoder between pictures and Stage B's latents (4 channels, a quarter of each side).

    python -m cascade_app.training.stage_a --minutes 12
    python -m cascade_app.training.stage_a --decoder-only --minutes 10

Continuous latents (the quantiser is never used), normalised by the encoder's last BatchNorm, with a little noise added in
training so that the decoder forgives Stage B its errors. `--decoder-only` goes on with the finished weights and leaves the
latents as they are, so it may run after Stage B has learnt them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
from torch import Tensor
from torch.nn import functional

from cascade_app.training.data import Pictures, to_tensor
from cascade_app.training.loop import Budget, Part, Trainer, autocast, calibrate, part_parser, pick_device
from cascade_app.training.sheets import contact_sheet
from cascade_app.training.workdir import work_dir

CONFIG = {
    "embed_dim": 64,
    "levels": 2,
    "bottleneck_blocks": 4,
    "num_vq_embeddings": 8,
    "scale_factor": 1.0,
}
LATENT_NOISE = 0.06


def new_model(blocks: int = CONFIG["bottleneck_blocks"]) -> PaellaVQModel:
    """An untrained Stage A whose residual blocks are alive (their gates start at zero in diffusers)."""
    model = PaellaVQModel(**{**CONFIG, "bottleneck_blocks": blocks})
    for name, parameter in model.named_parameters():
        if name.endswith("gammas"):
            with torch.no_grad():
                parameter[2] = parameter[5] = 0.3
        if "vquantizer" in name or name.startswith("down_blocks.3.1"):
            parameter.requires_grad_(False)
    return model


def freeze_encoder(model: PaellaVQModel) -> None:
    """Leave the latents as they are: only the decoder goes on learning."""
    for frozen in (model.in_block, model.down_blocks):
        frozen.requires_grad_(False)
    model.down_blocks[-1].eval()


def psnr(error: Tensor) -> float:
    """Decibels for a mean squared error on [0, 1]."""
    return float(-10 * torch.log10(error.detach().float().clamp_min(1e-10)))


def to_bytes(pictures: Tensor) -> np.ndarray:
    """(B, 3, H, W) in [0, 1] -> (B, H, W, 3) uint8."""
    return (pictures.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def crops(data: Pictures, rng: np.random.Generator, size: int, side: int = 128) -> Tensor:
    """Random square crops, (size, 3, side, side) in [0, 1]."""
    batch = data.pick(rng, size, area=False)
    result = []
    for picture in batch.pictures:
        y, x = (int(rng.integers(full - side + 1)) for full in picture.shape[:2])
        result.append(picture[y : y + side, x : x + side])
    return to_tensor(np.stack(result))


def build(
    data: Pictures,
    device: torch.device,
    *,
    batch: int = 16,
    decoder_only: bool = False,
    blocks: int = CONFIG["bottleneck_blocks"],
    sample_path: Path | None = None,
) -> Part:
    model = new_model(blocks).to(device, memory_format=torch.channels_last)
    model.train()
    if decoder_only:
        freeze_encoder(model)

    def loss(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        pictures = crops(data, rng, batch).to(device)
        with autocast(device):
            latents = model.encode(pictures).latents
            # Stage B's errors differ from picture to picture.
            amount = LATENT_NOISE * (2 * torch.rand(len(latents), 1, 1, 1, device=device) if decoder_only else 1)
            restored = model.decode(latents + amount * torch.randn_like(latents)).sample.float()
        error = functional.mse_loss(restored, pictures)
        return 10 * error + 0.1 * functional.l1_loss(restored, pictures), {"psnr": psnr(error)}

    def sample(modules: dict) -> None:
        pictures = data.rows((6, 6), 0, 8).tensor().to(device)
        with autocast(device):
            restored = modules["vqgan"].decode(modules["vqgan"].encode(pictures).latents).sample
        print(
            f"stage_a  psnr of whole pictures {psnr(functional.mse_loss(restored.float(), pictures)):.2f} dB",
            flush=True,
        )
        if sample_path:
            contact_sheet([*to_bytes(pictures), *to_bytes(restored)], sample_path, columns=8, side_px=256)

    return Part(
        "stage_a",
        {"vqgan": model},
        loss,
        muon_lr=0.005 if decoder_only else 0.01,
        adam_lr=1e-3 if decoder_only else 3e-3,
        plain=("in_block", "out_block"),
        sample=sample,
    )


def finish(model: PaellaVQModel, data: Pictures, device: torch.device) -> PaellaVQModel:
    """The averaged model with BatchNorm statistics that belong to it."""

    def forward(i: int) -> None:
        model.encode(data.rows((6, 6), 16 * i, 16 * i + 16).tensor().to(device))

    model = model.to(device)
    calibrate(model, forward, batches=12)
    return model


def blocks_in(state: dict[str, Tensor]) -> int:
    """How many bottleneck blocks the decoder of these weights has; sharpen.py gives it more."""
    return sum(name.startswith("up_blocks") and name.endswith("gammas") for name in state) - (CONFIG["levels"] - 1)


def load(work: Path, device: torch.device | None = None) -> PaellaVQModel:
    """The trained Stage A, in eval mode."""
    state = torch.load(work / "final" / "stage_a.pt", weights_only=True)
    model = new_model(blocks_in(state))
    model.load_state_dict(state)
    return model.to(device or "cpu").eval().requires_grad_(False)


def main() -> None:
    parser = part_parser(__doc__, minutes=12)
    parser.add_argument("--decoder-only", action="store_true", help="improve the decoder of the finished Stage A")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work, device = work_dir(arguments.work_dir), pick_device(arguments.device)
    data = Pictures(work, arguments.pictures)
    only = arguments.decoder_only
    begun = None
    if only:
        begun = torch.load(work / "final" / "stage_a.pt", weights_only=True)
    elif arguments.init_from:
        begun = PaellaVQModel.from_pretrained(arguments.init_from / "vqgan").state_dict()
    blocks = blocks_in(begun) if begun else CONFIG["bottleneck_blocks"]
    part = build(data, device, decoder_only=only, blocks=blocks, sample_path=work / "samples" / "stage_a.png")
    if begun:
        part.modules["vqgan"].load_state_dict(begun)
    state = work / "state" / ("stage_a_decoder.pt" if only else "stage_a.pt")
    trainer = Trainer(part, state, Budget(arguments.minutes, arguments.steps), seed=arguments.seed)
    trainer.run()
    model = trainer.ema["vqgan"]
    save_final(work, "stage_a", (model if only else finish(model, data, device)).state_dict())


def save_final(work: Path, name: str, state: dict[str, Tensor]) -> None:
    """Keep a finished part's averaged weights where the next parts and the export look for them."""
    folder = work / "final"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{name}.pt.part"
    torch.save({key: value.detach().cpu() for key, value in state.items()}, temporary)
    temporary.replace(folder / f"{name}.pt")


if __name__ == "__main__":
    main()
