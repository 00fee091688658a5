"""Trains Stage B: from a Stage C latent (16x6x6) to a Stage A latent (4x64x64), by denoising.

    python -m cascade_app.training.stage_b --minutes 60

With --refine it goes on from the finished part and learns from its own guesses too (guesses.py).

The network predicts x0, by absolute differences: where an edge may lie here or there their least is a crisp edge in the
middle, while that of squares is a blurred one, and these pictures are all edges. What stands out of its surroundings weighs
more: the median of a sky with a star somewhere is a sky without, and stars, birds and snow were not drawn at all. Edges stand
out on both their sides alike and stay where they are. Its conditioning gets some noise, because Stage C's latents are never
perfect, and is sometimes dropped. Text is not used: the pooled mapper stays zero.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import StableCascadeUNet
from torch import Tensor, nn
from torch.nn import functional

from cascade_app.diffusion import sampler
from cascade_app.diffusion.schedule import CosineSchedule, add_noise
from cascade_app.training import encoder as encoders
from cascade_app.training import stage_a
from cascade_app.training.clip import PROJECTION
from cascade_app.training.data import Pictures
from cascade_app.training.export import DECODER_STEPS, unpack
from cascade_app.training.guesses import Rows, Taken, with_guesses
from cascade_app.training.latents import LatentCache, with_more
from cascade_app.training.loop import BucketWeights, Part, autocast, high_ratios, pick_device
from cascade_app.training.sheets import contact_sheet
from cascade_app.training.stage_a import psnr, to_bytes
from cascade_app.training.unets import DECODER, new_schedule, new_unet, stage_parser, train_stage
from cascade_app.training.workdir import work_dir
from cascade_app.training.world import Landscape, describe

CONDITION_NOISE = 0.15
DETAIL = 6.0  # weight of a detail's latents, by how far they stand out of their surroundings
DETAIL_CELLS = 9  # side of those surroundings, 4 px each
DROPPED = 0.03
TAKEN = Taken(share=0.85, below=0.85, from_noise=0.5)
MORE_CITIES = 0.15  # share of a refining run's rows that are replaced by skylines, which have the most edges


def new_model() -> StableCascadeUNet:
    model = new_unet(DECODER)
    for parameter in model.clip_txt_pooled_mapper.parameters():
        nn.init.zeros_(parameter)
        parameter.requires_grad_(False)
    return model


def disturbed(condition: Tensor) -> Tensor:
    """Stage C latents as Stage B meets them in training: noisy by a random amount, some rows dropped to zero."""
    count = len(condition)
    amount = CONDITION_NOISE * torch.rand(count, 1, 1, 1, device=condition.device)
    kept = (torch.rand(count, 1, 1, 1, device=condition.device) >= DROPPED).float()
    return (condition + amount * torch.randn_like(condition)) * kept


def city_rows(indices: np.ndarray) -> np.ndarray:
    """The rows of pictures of a city."""
    scenes = map(describe, map(int, indices))
    return np.flatnonzero([isinstance(scene, Landscape) and scene.terrain == "city" for scene in scenes])


def detail_weights(latents: Tensor) -> Tensor:
    """What each place counts for: (B, C, h, w) -> (B, 1, h, w), mean 1."""
    border = DETAIL_CELLS // 2
    around = functional.avg_pool2d(functional.pad(latents, (border,) * 4, mode="reflect"), DETAIL_CELLS, 1)
    weights = 1 + DETAIL * (latents - around).abs().mean(dim=1, keepdim=True)
    return weights / weights.mean()


@torch.no_grad()
def denoise(
    decoder: nn.Module, condition: Tensor, side: tuple[int, int], *, steps: int, schedule: CosineSchedule
) -> Tensor:
    """A quick deterministic look at what Stage B does while it trains: (B, 16, h, w) -> (B, 4, *side)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(condition), 4, *side, generator=generator).to(condition.device)
    ratios = schedule.ratios(steps).to(x.device)
    pooled = condition.new_zeros(len(condition), 1, PROJECTION)

    def predict(latents: Tensor, step: int) -> Tensor:
        return decoder(latents, ratios[step].expand(len(latents)), pooled, effnet=condition).sample.float()

    *_, last = sampler.sample(predict, x, schedule, steps=steps, sampler="ddim", generators=[])
    return last.latents


def build(
    data: Pictures,
    work: Path,
    device: torch.device,
    *,
    batch: int = 10,
    count: int = 8000,
    refine: bool = False,
    sample_path: Path | None = None,
) -> Part:
    vqgan = stage_a.load(work, device)
    encoder, _ = encoders.load(work, device)
    targets = LatentCache(work, "vqgan", vqgan, data=data, count=count, device=device)
    conditions = LatentCache(work, "encoder", encoder, data=data, count=max(count, data.count), device=device)
    cities = {shape: city_rows(indices) for shape, indices in (targets.indices if refine else {}).items()}
    schedule = new_schedule()
    model, weights = new_model().to(device).train(), BucketWeights()

    def loss(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        shape, rows = targets.pick(rng, batch)
        if refine:
            rows = with_more(rows, cities[shape], MORE_CITIES, rng)
        # Rows of the targets are rows of the conditions too: both are in the pictures' order.
        x0, condition = targets.get(shape, rows), disturbed(conditions.get(shape, rows))
        # Whether there is a star is decided while it drowns in noise, not when all is noise.
        ratios = high_ratios(len(rows), rng, even=0.6 if refine else 0.3).to(device)
        pooled = condition.new_zeros(len(rows), 1, PROJECTION)

        def guessed(noisy: Tensor, ratios: Tensor, chosen: Rows) -> Tensor:
            return model(noisy, ratios, pooled[chosen], effnet=condition[chosen]).sample

        with autocast(device):
            source = x0
            if refine:
                source = with_guesses(x0, ratios, guessed, schedule=schedule, rng=rng, taken=TAKEN)
            noisy = add_noise(source, torch.randn_like(x0), schedule.alpha_cumprod(ratios))
            guess = guessed(noisy, ratios, slice(None))
        difference = guess.float() - x0
        errors = (difference.abs() * detail_weights(x0)).mean(dim=(1, 2, 3))
        return weights(errors, ratios), {
            "mse": float((difference.detach() ** 2).mean()),
            "l1": float(errors.mean().detach()),
        }

    def sample(ema: dict[str, nn.Module]) -> None:
        condition = conditions.get((6, 6), np.arange(16))
        pictures = data.rows((6, 6), 0, 16).tensor().to(device)
        with autocast(device):
            restored = vqgan.decode(denoise(ema["decoder"], condition, (64, 64), steps=DECODER_STEPS, schedule=schedule)).sample
        print(
            f"stage_b  psnr after encoder, B and A {psnr(functional.mse_loss(restored.float(), pictures)):.2f} dB",
            flush=True,
        )
        if sample_path:
            contact_sheet([*to_bytes(pictures), *to_bytes(restored)], sample_path, columns=8, side_px=256)

    # At a beginner's rates a trained network loses 2 dB in the first minutes, and its average does not win them back in an hour.
    rate = 0.25 if refine else 1.0
    return Part(
        "stage_b", {"decoder": model}, loss, muon_lr=0.02 * rate, adam_lr=2e-3 * rate, weights=weights, sample=sample
    )


def main() -> None:
    parser = stage_parser(__doc__, minutes=60, latents=8000)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work, device = work_dir(arguments.work_dir), pick_device(arguments.device)
    if arguments.init_from:
        unpack(arguments.init_from, work)
    data = Pictures(work, arguments.pictures)
    sample_path = work / "samples" / "stage_b.png"
    part = build(data, work, device, count=arguments.latents, refine=arguments.refine, sample_path=sample_path)
    train_stage(part, work, arguments, kept={"decoder": "stage_b"})


if __name__ == "__main__":
    main()
