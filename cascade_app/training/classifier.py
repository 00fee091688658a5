"""The evaluation's judge: a small network that reads every attribute off a picture, trained on renders only.

    python -m cascade_app.training.classifier --minutes 4

It sees pictures at 64 px, sometimes blurred or noisy, so that it judges what is shown and not how cleanly. It shares
nothing with the checkpoint's own networks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cascade_app.training import clip
from cascade_app.training.attributes import NAMES, AttributeHead, attribute_loss, label_table
from cascade_app.training.data import Pictures, to_tensor
from cascade_app.training.loop import Budget, Part, Trainer, part_parser, pick_device
from cascade_app.training.scenes import render
from cascade_app.training.stage_a import save_final
from cascade_app.training.workdir import keep, work_dir
from cascade_app.training.world import DATA_VERSION, describe, labels

SIDE_PX = 64


class Classifier(nn.Module):
    """Pictures (B, 3, 64, 64) in [0, 1] to the logits of every attribute."""

    def __init__(self, widths: tuple[int, ...] = (32, 64, 96, 128)):
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in widths:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.GroupNorm(8, width), nn.GELU()]
            layers += [nn.Conv2d(width, width, 3, stride=2, padding=1), nn.GroupNorm(8, width), nn.GELU()]
            before = width
        self.layers = nn.Sequential(*layers)
        self.hidden = nn.Linear(widths[-1] * 16, 256)
        self.head = AttributeHead(256)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        return self.head(functional.gelu(self.hidden(self.layers(pictures * 2 - 1).flatten(1))))


def disturb(pictures: Tensor) -> Tensor:
    """Half of the pictures blurred, all with a little noise, so that small artefacts do not decide."""
    side = pictures.shape[-1]
    blurred = functional.interpolate(functional.avg_pool2d(pictures, 2), size=(side, side), mode="bilinear")
    half = torch.rand(len(pictures), 1, 1, 1, device=pictures.device) < 0.5
    noise = 0.06 * torch.rand(len(pictures), 1, 1, 1, device=pictures.device) * torch.randn_like(pictures)
    return torch.where(half, blurred, pictures) + noise


_HELD_OUT_FROM = 5_000_000  # seeds of the judge's own held-out pictures; the evaluation uses others


def held_out_table(count: int) -> np.ndarray:
    return np.array(
        [list(labels(describe(_HELD_OUT_FROM + i, held_out=True)).values()) for i in range(count)], dtype=np.int64
    )


def held_out_small(work: Path, count: int) -> np.ndarray:
    """Renders of held-out combinations at 64 px, (count, 64, 64, 3) uint8, kept on disk."""
    path = work / f"small-held-out-v{DATA_VERSION}-{count}.npy"
    if not path.exists():
        pictures = [render(describe(_HELD_OUT_FROM + i, held_out=True)) for i in range(count)]
        small = [p.reshape(SIDE_PX, 4, SIDE_PX, 4, 3).mean(axis=(1, 3)).round().astype(np.uint8) for p in pictures]
        keep(path, np.stack(small))
    return np.load(path, mmap_mode="r")


def build(data: Pictures, work: Path, device: torch.device, *, batch: int = 64) -> Part:
    model = Classifier().to(device, memory_format=torch.channels_last)
    small, indices = clip.small_pictures(data, work), data.indices[(6, 6)]
    others = held_out_small(work, count=max(16, data.count // 4))
    table = np.concatenate([label_table(indices), held_out_table(len(others))])

    def loss(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        # The held-out combinations too: a judge that has never seen them would not believe its eyes.
        known = np.sort(rng.integers(len(small), size=batch * 2 // 3))
        rest = np.sort(rng.integers(len(others), size=batch - len(known)))
        pictures = to_tensor(np.concatenate([small[known], others[rest]])).to(device)
        wanted = torch.from_numpy(table[np.concatenate([known, len(small) + rest])]).to(device)
        value, accuracy = attribute_loss(model(disturb(pictures)), wanted)
        return value, {"accuracy": accuracy}

    return Part("classifier", {"classifier": model}, loss, plain=("head", "layers.0"), ema_decay=0.99)


@torch.no_grad()
def read(model: Classifier, pictures: Tensor) -> np.ndarray:
    """Pictures of any size, (B, 3, H, W) in [0, 1] -> the attributes read off them, (B, attributes) int64."""
    small = functional.interpolate(pictures.clamp(0, 1), size=(SIDE_PX, SIDE_PX), mode="bilinear", antialias=True)
    return np.stack([values.argmax(-1).numpy() for values in model(small)], axis=1)


def own_accuracy(model: Classifier, count: int = 400) -> dict[str, float]:
    """Accuracy by attribute on renders of held-out combinations, which it has never seen either."""
    scenes = [describe(10_000_000 + i, held_out=True) for i in range(count)]
    guesses = read(model, to_tensor(np.stack([render(scene) for scene in scenes])))
    wanted = np.array([list(labels(scene).values()) for scene in scenes])
    right, asked = (guesses == wanted) & (wanted >= 0), wanted >= 0
    return {name: float(right[:, i].sum() / max(1, asked[:, i].sum())) for i, name in enumerate(NAMES)}


def load(work: Path) -> Classifier:
    model = Classifier()
    model.load_state_dict(torch.load(work / "final" / "classifier.pt", weights_only=True))
    return model.eval()


def train(
    work: Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    pictures: int = 16000,
    device=None,
    seed: int = 0,
) -> Classifier:
    """Train the judge and keep it in the work folder."""
    part = build(Pictures(work, pictures), work, device or pick_device())
    trainer = Trainer(part, work / "state" / "classifier.pt", Budget(minutes, steps), seed=seed)
    trainer.run()
    save_final(work, "classifier", trainer.ema["classifier"].state_dict())
    return load(work)


def main() -> None:
    arguments = part_parser(__doc__, minutes=6).parse_args()
    torch.set_num_threads(arguments.threads)
    judge = train(
        work_dir(arguments.work_dir),
        minutes=arguments.minutes,
        steps=arguments.steps,
        pictures=arguments.pictures,
        device=pick_device(arguments.device),
        seed=arguments.seed,
    )
    print("classifier on held-out renders:", own_accuracy(judge), flush=True)


if __name__ == "__main__":
    main()
