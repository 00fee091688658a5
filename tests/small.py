"""Small random cascades of the published shape, for tests that need the structure and not the pictures.

diffusers initialises Stage A's `gammas`, the response norms and the output layers with zeros, which makes whole blocks
inert: everything is drawn anew here, so that a test sees every block.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import DDPMScheduler, DDPMWuerstchenScheduler, StableCascadeUNet
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

LEVEL_C = ("SDCascadeResBlock", "SDCascadeTimestepBlock")
LEVEL_CTA = (*LEVEL_C, "SDCascadeAttnBlock")
WORDS = ["a", "red", "blue", "sun", "sea", "boat", "over", "the", "black", "white"]


def revive(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Draw every parameter anew, at the scale of its fan-in, so that deep blocks are heard at the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            scale = 1 / max(1, parameter[0].numel()) ** 0.5 if parameter.dim() > 1 else 0.1
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return module.eval()


def small_prior(seed: int = 1, **changes) -> StableCascadeUNet:
    """Stage C as published (two levels of C, T, A; text, pooled text and image), 32 wide."""
    config = {
        "in_channels": 16, "out_channels": 16, "patch_size": 1, "conditioning_dim": 32, "block_out_channels": (32, 32),
        "num_attention_heads": (4, 4), "down_num_layers_per_block": (1, 2), "up_num_layers_per_block": (2, 1),
        "down_blocks_repeat_mappers": (1, 1), "up_blocks_repeat_mappers": (1, 1),
        "block_types_per_layer": (LEVEL_CTA, LEVEL_CTA), "clip_text_in_channels": 24, "clip_text_pooled_in_channels": 20,
        "clip_image_in_channels": 12, "clip_seq": 2, "switch_level": (False,), "timestep_conditioning_type": ("sca", "crp"),
    }  # fmt: skip
    return revive(StableCascadeUNet(**{**config, **changes}), seed)


def small_decoder(seed: int = 2, **changes) -> StableCascadeUNet:
    """Stage B as published (strided levels, repeat mappers, attention at the bottom, effnet and pixel maps), 16 to 32 wide."""
    config = {
        "in_channels": 4, "out_channels": 4, "patch_size": 2, "conditioning_dim": 32, "block_out_channels": (16, 24, 32),
        "num_attention_heads": (0, 0, 4), "down_num_layers_per_block": (1, 1, 2), "up_num_layers_per_block": (2, 1, 1),
        "down_blocks_repeat_mappers": (1, 1, 1), "up_blocks_repeat_mappers": (3, 2, 2),
        "block_types_per_layer": (LEVEL_C, LEVEL_C, LEVEL_CTA), "clip_text_pooled_in_channels": 20, "clip_seq": 2,
        "effnet_in_channels": 16, "pixel_mapper_in_channels": 3, "timestep_conditioning_type": ("sca",),
        "dropout": (0.0, 0.0, 0.1),
    }  # fmt: skip
    return revive(StableCascadeUNet(**{**config, **changes}), seed)


def small_vqgan(seed: int = 3) -> PaellaVQModel:
    """Stage A with two levels, 16 wide."""
    return revive(PaellaVQModel(levels=2, bottleneck_blocks=2, embed_dim=16, num_vq_embeddings=8), seed)


def small_tokenizer() -> CLIPTokenizer:
    """A word-piece vocabulary of WORDS and single letters, 12 tokens long."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = [*letters, *(letter + "</w>" for letter in letters), *(word + "</w>" for word in WORDS if len(word) > 1)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair = (parts[-2], parts[-1])
            parts[-2:] = ["".join(pair)]
            if pair not in merges:
                merges.append(pair)
                pieces.append(parts[-1])
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=12)


def small_text_encoder(tokenizer: CLIPTokenizer, seed: int = 4) -> CLIPTextModelWithProjection:
    """CLIP text, two layers, 24 wide, projected to 20."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=12, projection_dim=20, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return revive(CLIPTextModelWithProjection(config), seed)


def published_scheduler() -> DDPMWuerstchenScheduler:
    return DDPMWuerstchenScheduler()


def x0_scheduler() -> DDPMScheduler:
    return DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="sample", timestep_spacing="trailing", clip_sample=False
    )


MID_SIZE = {
    "prior": {"block_out_channels": (192, 192), "conditioning_dim": 192, "num_attention_heads": (3, 3),
              "down_num_layers_per_block": (2, 4), "up_num_layers_per_block": (4, 2)},
    "decoder": {"block_out_channels": (64, 128, 192), "conditioning_dim": 192, "num_attention_heads": (0, 0, 3),
                "down_num_layers_per_block": (1, 2, 4), "up_num_layers_per_block": (4, 2, 1)},
}  # fmt: skip


def write_checkpoint(
    folder: Path, *, scheduler=None, dtype: torch.dtype = torch.float32, seed: int = 0, changes: dict | None = None
) -> Path:
    """A whole small checkpoint in the published folder layout, without a previewer; `changes` to the UNets' configs."""
    tokenizer = small_tokenizer()
    changes = changes or {}
    parts = {
        "prior": small_prior(seed + 1, **changes.get("prior", {})),
        "decoder": small_decoder(seed + 2, **changes.get("decoder", {})),
        "vqgan": small_vqgan(seed + 3),
        "text_encoder": small_text_encoder(tokenizer, seed + 4),
    }
    for name, part in parts.items():
        part.to(dtype).save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / "tokenizer")
    scheduler = published_scheduler() if scheduler is None else scheduler  # its truth value raises
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableCascadeCombinedPipeline", "resolution_multiple": 42.67, "latent_dim_scale": 10.67,
        "studio": {"name": "Small", "license": "test", "default_size_px": 256, "min_size_px": 64, "max_size_px": 512},
    }  # fmt: skip
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
