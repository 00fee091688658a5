"""SDXL in diffusers with random weights: what a cascade is measured against on a GPU. Knows the published configs by heart.

Its text encoders, UNet and VAE have their published shapes; the bundled tokenizer stands in for the published one, whose length
it gets. The VAE decodes in the networks' dtype, as its repaired version allows: that is quicker than the first release.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from cascade_app.catalogue import POCKET_DIR

GUIDANCE = 5.0
_TOKENS = 77
_VOCABULARY = 49_408

PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "unet": {
        "sample_size": 128, "block_out_channels": (320, 640, 1280), "layers_per_block": 2,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10), "cross_attention_dim": 2048, "use_linear_projection": True,
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
    },
    "vae": {
        "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "sample_size": 1024,
        "scaling_factor": 0.13025, "force_upcast": False,
    },
    "text_encoder": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
                     "projection_dim": 768},
    "text_encoder_2": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20,
                       "projection_dim": 1280, "hidden_act": "gelu"},
}  # fmt: skip
# Only to see that the code runs.
TINY: Mapping[str, Mapping[str, Any]] = {
    "unet": {
        **PUBLISHED["unet"], "block_out_channels": (32, 32, 32), "layers_per_block": 1, "attention_head_dim": (2, 2, 2),
        "transformer_layers_per_block": (1, 1, 1), "cross_attention_dim": 32, "projection_class_embeddings_input_dim": 1552,
    },
    "vae": {**PUBLISHED["vae"], "block_out_channels": (32,) * 4, "layers_per_block": 1},
    "text_encoder": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                     "projection_dim": 16},
    "text_encoder_2": {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
                       "projection_dim": 16},
}  # fmt: skip


def build(configs: Mapping[str, Mapping[str, Any]], *, device: str, dtype: torch.dtype) -> StableDiffusionXLPipeline:
    """The pipeline with random weights, drawn where they run."""

    def text(part_class: Any, name: str) -> Any:
        config = CLIPTextConfig(vocab_size=_VOCABULARY, max_position_embeddings=_TOKENS, **configs[name])
        return part_class(config).to(dtype).eval()

    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(POCKET_DIR / "tokenizer", model_max_length=_TOKENS)
    with torch.device(device):
        parts = {
            "unet": UNet2DConditionModel(**configs["unet"]).to(dtype).eval(),
            "vae": AutoencoderKL(**configs["vae"]).to(dtype).eval(),
            "text_encoder": text(CLIPTextModel, "text_encoder"),
            "text_encoder_2": text(CLIPTextModelWithProjection, "text_encoder_2"),
        }
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    )
    pipeline = StableDiffusionXLPipeline(
        **parts, tokenizer=tokenizer, tokenizer_2=tokenizer, scheduler=scheduler, add_watermarker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
