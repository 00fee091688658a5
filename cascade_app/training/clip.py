"""Trains the text encoder and the CLIP image encoder against each other, both also reading the scene's attributes.

    python -m cascade_app.training.clip --minutes 8

Stage C goes on training the text tower (stage_c.py); the image tower stays as this part leaves it.
"""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from cascade_app.diffusion.conditioning import encode_prompts
from cascade_app.training import tokenizer as tokenizers
from cascade_app.training.attributes import AttributeHead, attribute_loss, label_table
from cascade_app.training.captions import caption
from cascade_app.training.data import Pictures
from cascade_app.training.loop import Budget, Part, Trainer, autocast, part_parser, pick_device
from cascade_app.training.stage_a import save_final
from cascade_app.training.workdir import keep, work_dir
from cascade_app.training.world import DATA_VERSION, Scene, describe

PROJECTION = 128
SIDE_PX = 64
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def new_text_encoder(tokenizer) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=3,
        num_attention_heads=6,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=PROJECTION,
        hidden_act="gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModelWithProjection._from_config(config, attn_implementation="eager")


def new_image_encoder() -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(
        image_size=SIDE_PX,
        patch_size=8,
        hidden_size=160,
        intermediate_size=640,
        num_hidden_layers=3,
        num_attention_heads=5,
        projection_dim=PROJECTION,
        hidden_act="gelu",
    )
    return CLIPVisionModelWithProjection._from_config(config, attn_implementation="eager")


def image_processor() -> CLIPImageProcessor:
    size = {"height": SIDE_PX, "width": SIDE_PX}
    return CLIPImageProcessor(
        size={"shortest_edge": SIDE_PX}, crop_size=size, image_mean=list(MEAN), image_std=list(STD)
    )


def normalised(small: Tensor) -> Tensor:
    """Pictures (B, 3, 64, 64) in [0, 1] as the image encoder wants them."""
    mean, std = (torch.tensor(values, device=small.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (small - mean) / std


@lru_cache(maxsize=100_000)
def scene_of(index: int) -> Scene:
    return describe(index)


def captions_of(indices: np.ndarray, rng: np.random.Generator, *, explicit: float = 0.5) -> list[str]:
    """A fresh wording for each picture."""
    dice = random.Random(int(rng.integers(2**62)))
    return [caption(scene_of(int(i)), dice, explicit=explicit) for i in indices]


def small_pictures(data: Pictures, work: Path) -> np.ndarray:
    """The square pictures at 64 px, (N, 64, 64, 3) uint8, reduced once and kept."""
    path = work / f"small-v{DATA_VERSION}-{data.count}.npy"
    if not path.exists():
        parts = []
        for start in range(0, len(data.indices[(6, 6)]), 256):
            pictures = data.rows((6, 6), start, start + 256).tensor()
            parts.append((functional.avg_pool2d(pictures, 4) * 255).round().byte().permute(0, 2, 3, 1).numpy())
        keep(path, np.concatenate(parts))
    return np.load(path, mmap_mode="r")


class Scale(nn.Module):
    """The learned temperature of the contrastive loss."""

    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(2.3))

    def forward(self) -> Tensor:
        return self.log_scale.clamp(max=4.6).exp()


def contrastive(text: Tensor, image: Tensor, scale: Tensor) -> tuple[Tensor, float]:
    """(symmetric cross entropy, share of texts that find their image). Both (B, P)."""
    logits = scale * functional.normalize(text.float(), dim=-1) @ functional.normalize(image.float(), dim=-1).T
    target = torch.arange(len(text), device=text.device)
    loss = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
    return loss, float((logits.argmax(-1) == target).float().mean())


def build(data: Pictures, work: Path, device: torch.device, *, batch: int = 96) -> Part:
    tokenizer = tokenizers.load(work / "tokenizer")
    modules = {
        "text_encoder": new_text_encoder(tokenizer).to(device).train(),
        "image_encoder": new_image_encoder().to(device).train(),
        "text_reader": AttributeHead(PROJECTION).to(device),
        "image_reader": AttributeHead(PROJECTION).to(device),
        "scale": Scale().to(device),
    }
    table = torch.from_numpy(label_table(range(data.count)))
    small, indices = small_pictures(data, work), data.indices[(6, 6)]

    def loss(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        rows = np.sort(rng.integers(len(indices), size=batch))
        wanted = table[indices[rows]].to(device)
        pixels = normalised(torch.from_numpy(small[rows]).permute(0, 3, 1, 2).float().to(device) / 255)
        with autocast(device):
            text = encode_prompts(
                tokenizer, modules["text_encoder"], captions_of(indices[rows], rng)
            ).prompt_embeds_pooled[:, 0]
            image = modules["image_encoder"](pixels).image_embeds
            text_reading, _ = attribute_loss(modules["text_reader"](text), wanted)
            image_reading, accuracy = attribute_loss(modules["image_reader"](image), wanted)
        match, found = contrastive(text, image, modules["scale"]())
        return match + 0.25 * text_reading + 0.5 * image_reading, {"found": found, "read": accuracy}

    return Part(
        "clip", modules, loss, muon_lr=0.01, adam_lr=2e-3, plain=("embedding", "projection", "reader"), ema_decay=0.99
    )


def load(work: Path, device: torch.device | None = None):
    """(tokenizer, text encoder, image encoder) as trained, in eval mode."""
    tokenizer = tokenizers.load(work / "tokenizer")
    text, image = new_text_encoder(tokenizer), new_image_encoder()
    for name, model in (("text_encoder", text), ("image_encoder", image)):
        model.load_state_dict(torch.load(work / "final" / f"{name}.pt", weights_only=True))
        model.to(device or "cpu").eval()
    return tokenizer, text, image


def main() -> None:
    arguments = part_parser(__doc__, minutes=8).parse_args()
    torch.set_num_threads(arguments.threads)
    work, device = work_dir(arguments.work_dir), pick_device(arguments.device)
    part = build(Pictures(work, arguments.pictures), work, device)
    if arguments.init_from:
        for name, kind in (
            ("text_encoder", CLIPTextModelWithProjection),
            ("image_encoder", CLIPVisionModelWithProjection),
        ):
            part.modules[name].load_state_dict(kind.from_pretrained(arguments.init_from / name).state_dict())
    trainer = Trainer(part, work / "state" / "clip.pt", Budget(arguments.minutes, arguments.steps), seed=arguments.seed)
    trainer.run()
    for name in ("text_encoder", "image_encoder", "text_reader", "scale"):
        save_final(work, name, trainer.ema[name].state_dict())


if __name__ == "__main__":
    main()
