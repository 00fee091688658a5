"""Sharpens Stage A's decoder on what Stage B really writes.

    python -m cascade_app.training.sharpen --checkpoint assets/pocket --minutes 45

Stage B's latents are a little soft where it was unsure, and a decoder that has only seen an encoder's passes that on. This
one sees both, and is asked for the picture by absolute differences, of its values and of its slopes: where an edge may lie
here or there their least is a crisp edge in the middle, while that of squares is a blurred one, and a faint pattern on a
plain surface costs as much as it is seen. The encoder, and so the latents, stay as they are; the decoder is given more
blocks, which begin as next to nothing.

A patch critic (Isola et al. 2017) in place of the slopes was tried: it told soft pictures from crisp ones after 150 steps,
but what it taught the decoder in 500 was a dotted pattern.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
from torch import Tensor, nn

from cascade_app.training import stage_a
from cascade_app.training.darkroom import Darkroom
from cascade_app.training.data import SIDE_PX, SQUARE, Pictures, to_tensor
from cascade_app.training.developed import Developed
from cascade_app.training.export import unpack
from cascade_app.training.latents import fingerprint
from cascade_app.training.loop import Budget, Part, Trainer, autocast, part_parser, pick_device
from cascade_app.training.sheets import contact_sheet
from cascade_app.training.stage_a import psnr, save_final, to_bytes
from cascade_app.training.unets import lean
from cascade_app.training.workdir import work_dir

BLOCKS = 10  # bottleneck blocks of the sharpened decoder: it sees 48 pixels around each
CELLS = 32  # side of a crop in latents, 4 px each
CLEAN, OWN, AGAIN = 4, 4, 4  # crops of true latents and of Stage B's of each kind, a step
SLOPES = 1.0  # weight of the slopes' differences against the values'

Place = tuple[int, int, int]  # picture, and the latent row and column at which a crop begins


def deepened(state: dict[str, Tensor], blocks: int) -> PaellaVQModel:
    """The Stage A of `state` with `blocks` bottleneck blocks; the new ones do next to nothing yet.

    Raises:
        ValueError: `state` has more.
    """
    has = stage_a.blocks_in(state)
    if has > blocks:
        raise ValueError(f"This Stage A has {has} bottleneck blocks, more than {blocks}.")
    model = stage_a.new_model(blocks)
    with torch.no_grad():
        for index in range(has + 1, blocks + 1):
            model.up_blocks[index].gammas[2] = model.up_blocks[index].gammas[5] = 0.02
    moved = {}
    for name, value in state.items():
        place = name.split(".")
        if place[0] == "up_blocks" and int(place[1]) > has:
            place[1] = str(int(place[1]) + blocks - has)
        moved[".".join(place)] = value
    model.load_state_dict({**model.state_dict(), **moved})
    return model


def _places(rng: np.random.Generator, count: int, *, pictures: int) -> list[Place]:
    """Random crops of square pictures."""
    free = SIDE_PX[SQUARE[0]] // 4 - CELLS + 1
    return [(int(rng.integers(pictures)), *rng.integers(free, size=2).tolist()) for _ in range(count)]


def _latents_at(latents: np.ndarray, places: list[Place]) -> Tensor:
    """(N, 4, 64, 64) -> (B, 4, CELLS, CELLS) float32."""
    return torch.from_numpy(np.stack([latents[i, :, y : y + CELLS, x : x + CELLS] for i, y, x in places])).float()


def _pictures_at(data: Pictures, places: list[Place]) -> Tensor:
    """The pictures' own crops at the latents' places, (B, 3, 4 * CELLS, 4 * CELLS) in [0, 1]."""
    store, side = data.maps[SQUARE], 4 * CELLS
    return to_tensor(np.stack([store[i, 4 * y : 4 * y + side, 4 * x : 4 * x + side] for i, y, x in places]))


def difference(pictures: Tensor, originals: Tensor) -> Tensor:
    """Mean absolute difference of values and of slopes to the right and down. (B, 3, H, W) twice -> scalar."""
    error = pictures - originals
    slopes = sum(
        (error.narrow(axis, 1, error.shape[axis] - 1) - error.narrow(axis, 0, error.shape[axis] - 1)).abs().mean()
        for axis in (2, 3)
    )
    return error.abs().mean() + SLOPES * slopes


def build(
    data: Pictures,
    developed: Developed,
    before: PaellaVQModel,
    device: torch.device,
    *,
    sample_path: Path | None = None,
) -> Part:
    """The part: `before` is the Stage A to go on with."""
    model = lean(deepened(before.state_dict(), BLOCKS)).to(device).train()
    stage_a.freeze_encoder(model)
    before = before.to(device).eval()

    def loss(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        true = _places(rng, CLEAN, pictures=len(data.maps[SQUARE]))
        own = _places(rng, OWN, pictures=len(developed.own))
        again = _places(rng, AGAIN, pictures=len(developed.again))
        originals = _pictures_at(data, [*true, *own, *again]).to(device)
        written = torch.cat([_latents_at(developed.own, own), _latents_at(developed.again, again)]).to(device)
        with autocast(device):
            with torch.no_grad():
                clean = model.encode(originals[:CLEAN]).latents.float()
            amount = 2 * stage_a.LATENT_NOISE * torch.rand(CLEAN, 1, 1, 1, device=device)
            pictures = model.decode(torch.cat([clean + amount * torch.randn_like(clean), written])).sample.float()
        errors = ((pictures.detach() - originals) ** 2).mean(dim=(1, 2, 3)).split((CLEAN, OWN, AGAIN))
        return difference(pictures, originals), {
            "mse": float(torch.cat(errors).mean()),
            **{name: psnr(error.mean()) for name, error in zip(("clean", "own", "again"), errors)},
        }

    def sample(ema: dict[str, nn.Module]) -> None:
        with autocast(device):
            rows = [
                to_bytes(stage.decode(torch.from_numpy(kind[:8]).float().to(device)).sample)
                for kind in (developed.own, developed.again)
                for stage in (before, ema["vqgan"])
            ]
        if sample_path:
            contact_sheet([picture for row in rows for picture in row], sample_path, columns=8, side_px=256)

    return Part(
        "sharpen", {"vqgan": model}, loss, muon_lr=0.008, adam_lr=1.5e-3, plain=("in_block", "out_block"), sample=sample
    )


def main() -> None:
    parser = part_parser(__doc__, minutes=45)
    parser.add_argument(
        "--checkpoint", type=Path, default=Path("assets/pocket"), help="whose Stage B and C write the latents"
    )
    parser.add_argument("--own", type=int, default=2400, help="latents of pictures' own (default 2400)")
    parser.add_argument("--again", type=int, default=1600, help="latents of what Stage C made again (default 1600)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work, device = work_dir(arguments.work_dir), pick_device(arguments.device)
    unpack(arguments.init_from or arguments.checkpoint, work)
    data = Pictures(work, arguments.pictures)
    room = Darkroom(arguments.checkpoint, device=device)
    writers = "-".join(fingerprint(part) for part in (room.checkpoint.decoder, room.checkpoint.prior))
    folder = work / "latents" / f"developed-{writers}"
    developed = Developed(folder, room, data, own=arguments.own, again=arguments.again, device=device)
    part = build(data, developed, stage_a.load(work, device), device, sample_path=work / "samples" / "sharpen.png")
    state, budget = work / "state" / "stage_a_sharpened.pt", Budget(arguments.minutes, arguments.steps)
    trainer = Trainer(part, state, budget, seed=arguments.seed)
    trainer.run(sample_every_s=60 * arguments.sample_minutes)
    save_final(work, "stage_a", trainer.ema["vqgan"].state_dict())


if __name__ == "__main__":
    main()
