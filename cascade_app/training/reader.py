"""Trains the latent reader: Stage C latents to the scene's attributes, as a loss for Stage C.

    python -m cascade_app.training.reader --steps 2500

The encoder was trained with a reader of its own; this one is larger, learns on the finished latents and is frozen then.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cascade_app.training import encoder as encoders
from cascade_app.training.attributes import attribute_loss, label_table
from cascade_app.training.data import Pictures
from cascade_app.training.encoder import LatentReader
from cascade_app.training.latents import LatentCache
from cascade_app.training.loop import Budget, Part, Trainer, part_parser, pick_device
from cascade_app.training.stage_a import save_final
from cascade_app.training.workdir import work_dir

HIDDEN = 512
NOISE = 0.4  # up to this much, so that its gradient on uncertain guesses points somewhere


def build(data: Pictures, work: Path, device: torch.device, *, batch: int = 128) -> Part:
    encoder, _ = encoders.load(work, device)
    latents = LatentCache(work, "encoder", encoder, data=data, count=data.count, device=device)
    table = torch.from_numpy(label_table(range(data.count)))
    reader = LatentReader(hidden=HIDDEN).to(device)

    def loss(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        shape, rows = latents.pick(rng, batch)
        clean = latents.get(shape, rows)
        noise = NOISE * torch.rand(len(rows), 1, 1, 1, device=device) * torch.randn_like(clean)
        value, accuracy = attribute_loss(reader(clean + noise), table[latents.indices[shape][rows]].to(device))
        return value, {"accuracy": accuracy}

    return Part("reader", {"reader": reader}, loss, plain=("head",), ema_decay=0.99, weight_decay=0.1)


def load(work: Path, device: torch.device) -> LatentReader | None:
    """The frozen reader; None where only an exported checkpoint is known."""
    path = work / "final" / "reader.pt"
    if not path.exists():
        return None
    state = torch.load(path, weights_only=True)
    reader = LatentReader(hidden=len(state["hidden.bias"]))
    reader.load_state_dict(state)
    return reader.to(device).eval().requires_grad_(False)


def main() -> None:
    arguments = part_parser(__doc__, minutes=2).parse_args()
    torch.set_num_threads(arguments.threads)
    work, device = work_dir(arguments.work_dir), pick_device(arguments.device)
    part = build(Pictures(work, arguments.pictures), work, device)
    budget = Budget(arguments.minutes, arguments.steps)
    trainer = Trainer(part, work / "state" / "reader.pt", budget, seed=arguments.seed)
    trainer.run()
    save_final(work, "reader", trainer.ema["reader"].state_dict())


if __name__ == "__main__":
    main()
