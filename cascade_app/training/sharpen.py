"""Sharpens Stage A's decoder on what Stage B really writes, against a critic that knows the world's pictures.

    python -m cascade_app.training.sharpen --checkpoint assets/pocket --minutes 60

Stage B's latents are a little soft where it was unsure. A decoder that is only asked to be near the picture passes that on;
one that also has to look like a picture (Isola et al. 2017's patch critic, as in Esser et al. 2021's first stage) decides. Three
kinds of crops are decoded at each step: of true latents (the decoder stays an autoencoder's), of paired ones (near the
picture, and like it to the critic) and of dreamt ones (as before in the coarse, like a picture in the fine). The encoder and
so the latents stay as they are, and the decoder is given more blocks, which begin as none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from cascade_app.training import stage_a
from cascade_app.training.darkroom import Darkroom
from cascade_app.training.data import SIDE_PX, SQUARE, Pictures, to_tensor
from cascade_app.training.developed import Developed
from cascade_app.training.export import unpack
from cascade_app.training.loop import Budget, Part, Trainer, autocast, part_parser, pick_device
from cascade_app.training.sheets import contact_sheet
from cascade_app.training.stage_a import psnr, save_final, to_bytes
from cascade_app.training.unets import lean
from cascade_app.training.workdir import work_dir

BLOCKS = 10  # bottleneck blocks of the sharpened decoder: it sees 48 pixels around each
CELLS = 32  # side of a crop in latents, 4 px each
COARSE_PX = 8
CLEAN, PAIRED, DREAMT = 2, 4, 4  # crops of each kind a step
# How much the critic's gradient weighs against the distance's, for each kind: both are taken at the picture and have this ratio.
SAY = {"clean": 0.05, "paired": 0.4, "dreamt": 0.6}
SCHOOLING = 300  # steps over which the critic, who begins knowing nothing, comes to have its say
ALIKE = 4.0  # weight of the distance between the critic's own features of a paired crop and its picture


class Critic(nn.Module):
    """How much each patch of 54 px looks like one of the world's pictures: (B, 3, H, W) to (B, 1, H/8, W/8), and its features."""

    def __init__(self, widths: tuple[int, ...] = (48, 96, 160)):
        super().__init__()
        sides = [3, *widths]
        layers = [nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in zip(sides, widths)]
        layers += [nn.Conv2d(widths[-1], widths[-1], 3, padding=1), nn.Conv2d(widths[-1], 1, 3, padding=1)]
        self.critic = nn.ModuleList(spectral_norm(layer) for layer in layers)

    def forward(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        features, x = [], pictures * 2 - 1
        for layer in self.critic[:-1]:
            x = functional.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.critic[-1](x).float(), features


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


Place = tuple[int, int, int]  # picture, and the latent row and column at which a crop begins


def _places(rng: np.random.Generator, count: int, *, pictures: int) -> list[Place]:
    """Random crops of square pictures, at whole coarse cells."""
    step = COARSE_PX // 4
    free = (SIDE_PX[SQUARE[0]] // 4 - CELLS) // step + 1
    return [(int(rng.integers(pictures)), *(step * rng.integers(free, size=2)).tolist()) for _ in range(count)]


def _latents_at(latents: np.ndarray, places: list[Place]) -> Tensor:
    """(N, 4, 64, 64) -> (B, 4, CELLS, CELLS) float32."""
    return torch.from_numpy(np.stack([latents[i, :, y : y + CELLS, x : x + CELLS] for i, y, x in places])).float()


def _pictures_at(data: Pictures, places: list[Place]) -> Tensor:
    """The pictures' own crops at the latents' places."""
    store, side = data.maps[SQUARE], 4 * CELLS
    return to_tensor(np.stack([store[i, 4 * y : 4 * y + side, 4 * x : 4 * x + side] for i, y, x in places]))


def coarse(pictures: Tensor) -> Tensor:
    return functional.avg_pool2d(pictures, COARSE_PX)


def _distance(pictures: Tensor, originals: Tensor, coarse_before: Tensor) -> Tensor:
    """What keeps each kind where it was: a scalar."""
    clean, paired, dreamt = pictures.split((CLEAN, PAIRED, DREAMT))
    true, meant = originals[:CLEAN], originals[CLEAN : CLEAN + PAIRED]
    return (
        CLEAN * (10 * functional.mse_loss(clean, true) + 0.1 * functional.l1_loss(clean, true))
        + PAIRED * (functional.l1_loss(paired, meant) + functional.mse_loss(coarse(paired), coarse(meant)))
        + DREAMT * 4 * functional.l1_loss(coarse(dreamt), coarse_before)
    ) / (CLEAN + PAIRED + DREAMT)


def _say(by_distance: Tensor, by_critic: Tensor, *, heard: float) -> Tensor:
    """Both gradients at the pictures (B, 3, H, W) as one: the critic's in a fixed ratio to the distance's, kind by kind."""
    kinds = (CLEAN, PAIRED, DREAMT)
    unit = heard * by_distance[CLEAN : CLEAN + PAIRED].norm()
    like = [
        part * (share * unit / part.norm().clamp_min(1e-12))
        for share, part in zip(SAY.values(), by_critic.split(kinds))
    ]
    return by_distance + torch.cat(like)


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
    for frozen in (model.in_block, model.down_blocks):
        frozen.requires_grad_(False)
    model.down_blocks[-1].eval()
    critic = Critic().to(device, memory_format=torch.channels_last).train()
    before = before.to(device).eval()
    with torch.no_grad(), autocast(device):
        coarse_before = torch.cat(
            [
                coarse(before.decode(torch.from_numpy(developed.dreamt[i : i + 16]).float().to(device)).sample.float())
                for i in range(0, len(developed.dreamt), 16)
            ]
        )

    def loss(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        true, others = (_places(rng, count, pictures=len(data.maps[SQUARE])) for count in (CLEAN, DREAMT))
        paired = _places(rng, PAIRED, pictures=len(developed.paired))
        dreamt = _places(rng, DREAMT, pictures=len(developed.dreamt))
        originals = _pictures_at(data, [*true, *paired, *others]).to(device)
        cells = CELLS * 4 // COARSE_PX
        wanted = torch.stack(
            [coarse_before[i, :, y // 2 : y // 2 + cells, x // 2 : x // 2 + cells] for i, y, x in dreamt]
        )
        written = torch.cat([_latents_at(developed.paired, paired), _latents_at(developed.dreamt, dreamt)]).to(device)
        with autocast(device):
            with torch.no_grad():
                clean = model.encode(originals[:CLEAN]).latents.float()
            clean = clean + 2 * stage_a.LATENT_NOISE * torch.rand(CLEAN, 1, 1, 1, device=device) * torch.randn_like(
                clean
            )
            pictures = model.decode(torch.cat([clean, written])).sample.float()
            shown = pictures.detach().requires_grad_()
            fake, features = critic(shown)
            real, meant = critic(originals)
        distance = _distance(shown, originals, wanted)
        is_paired = slice(CLEAN, CLEAN + PAIRED)
        alike = sum(
            functional.l1_loss(a[is_paired].float(), b[is_paired].detach().float()) for a, b in zip(features, meant)
        )
        (by_distance,) = torch.autograd.grad(distance, shown)
        (by_critic,) = torch.autograd.grad(ALIKE * alike - fake.mean(), shown, retain_graph=True)
        judged = functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()
        # A scalar whose gradient at the pictures is the mixture; its value says nothing.
        moved = (pictures * _say(by_distance, by_critic, heard=min(1.0, step / SCHOOLING))).sum()
        error = functional.mse_loss(shown[is_paired], originals[is_paired])
        return moved + judged, {
            "mse": float(error.detach()),
            "clean": psnr(functional.mse_loss(shown[:CLEAN], originals[:CLEAN])),
            "real": float(real.detach().mean()),
            "fake": float(fake.detach().mean()),
            "alike": float(alike.detach()),
        }

    def sample(ema: dict[str, nn.Module]) -> None:
        with autocast(device):
            rows = [
                to_bytes(stage.decode(torch.from_numpy(kind[:8]).float().to(device)).sample)
                for kind in (developed.paired, developed.dreamt)
                for stage in (before, ema["vqgan"])
            ]
        if sample_path:
            contact_sheet([picture for row in rows for picture in row], sample_path, columns=8, side_px=256)

    return Part(
        "sharpen", {"vqgan": model, "critic": critic}, loss, muon_lr=0.0015, adam_lr=3e-4, slow={"critic": 3.0},
        plain=("in_block", "out_block", "critic"), sample=sample,
    )  # fmt: skip


def main() -> None:
    parser = part_parser(__doc__, minutes=60)
    parser.add_argument(
        "--checkpoint", type=Path, default=Path("assets/pocket"), help="whose Stage B and C write the latents"
    )
    parser.add_argument("--paired", type=int, default=2400, help="latents with a picture (default 2400)")
    parser.add_argument("--dreamt", type=int, default=1600, help="latents of captions alone (default 1600)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work, device = work_dir(arguments.work_dir), pick_device(arguments.device)
    unpack(arguments.init_from or arguments.checkpoint, work)
    data = Pictures(work, arguments.pictures)
    room = Darkroom(arguments.checkpoint, device=device)
    developed = Developed(
        work / "developed", room, data, paired=arguments.paired, dreamt=arguments.dreamt, device=device
    )
    part = build(data, developed, stage_a.load(work, device), device, sample_path=work / "samples" / "sharpen.png")
    state, budget = work / "state" / "stage_a_sharpened.pt", Budget(arguments.minutes, arguments.steps)
    trainer = Trainer(part, state, budget, seed=arguments.seed)
    trainer.run(sample_every_s=60 * arguments.sample_minutes)
    save_final(work, "stage_a", trainer.ema["vqgan"].state_dict())


if __name__ == "__main__":
    main()
