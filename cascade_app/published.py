"""The published Stable Cascade checkpoints: where their parts lie on the hub, how large they are, how they are built.

Tables only, so that a plan, a page or a test knows them without a download. Parameters were counted on the meta device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

PRIOR_REPOSITORY = "stabilityai/stable-cascade-prior"
DECODER_REPOSITORY = "stabilityai/stable-cascade"
REVISION = "main"
VARIANT = "bf16"
LICENSE = "stable-cascade-nc-community"  # the name the hub gives it

_C = ("SDCascadeResBlock", "SDCascadeTimestepBlock")
_CTA = (*_C, "SDCascadeAttnBlock")

_UNET: Mapping[str, Any] = {
    "_class_name": "StableCascadeUNet",
    "timestep_ratio_embedding_dim": 64,
    "clip_text_pooled_in_channels": 1280,
    "clip_seq": 4,
    "kernel_size": 3,
    "self_attn": True,
}
_PRIOR: Mapping[str, Any] = {
    **_UNET,
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 1,
    "down_blocks_repeat_mappers": [1, 1],
    "up_blocks_repeat_mappers": [1, 1],
    "block_types_per_layer": [list(_CTA), list(_CTA)],
    "clip_text_in_channels": 1280,
    "clip_image_in_channels": 768,
    "effnet_in_channels": None,
    "pixel_mapper_in_channels": None,
    "dropout": [0.1, 0.1],
    "timestep_conditioning_type": ["sca", "crp"],
    "switch_level": [False],
}
_DECODER: Mapping[str, Any] = {
    **_UNET,
    "in_channels": 4,
    "out_channels": 4,
    "patch_size": 2,
    "conditioning_dim": 1280,
    "down_blocks_repeat_mappers": [1, 1, 1, 1],
    "block_types_per_layer": [list(_C), list(_C), list(_CTA), list(_CTA)],
    "clip_text_in_channels": None,
    "clip_image_in_channels": None,
    "effnet_in_channels": 16,
    "pixel_mapper_in_channels": 3,
    "dropout": [0, 0, 0.1, 0.1],
    "timestep_conditioning_type": ["sca"],
    "switch_level": None,
}


@dataclass(frozen=True)
class HubFiles:
    """Files of one part in a repository of the hub, its weights in `variant` where that exists.

    `weights` is the stem of the weights' file ("" where the part has none); `others` are the files that must be beside
    it, `optional` those that may be.
    """

    repository: str
    subfolder: str
    weights: str = ""
    others: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    variant: str = VARIANT
    revision: str = REVISION

    def weight_files(self) -> tuple[str, ...]:
        """Names its weights may have in the repository, the one to be preferred first."""
        if not self.weights:
            return ()
        stems = (f"{self.weights}.{self.variant}", self.weights) if self.variant else (self.weights,)
        return tuple(self._path(f"{stem}.safetensors") for stem in stems)

    def other_files(self) -> tuple[str, ...]:
        """The rest of its files in the repository that are needed."""
        return tuple(self._path(name) for name in self.others)

    def optional_files(self) -> tuple[str, ...]:
        """Files that are used where the repository has them."""
        return tuple(self._path(name) for name in self.optional)

    def _path(self, name: str) -> str:
        return f"{self.subfolder}/{name}" if self.subfolder else name


@dataclass(frozen=True)
class PublishedPart:
    """A part as published: what it is called, its size, its config, and its files on the hub."""

    name: str  # "prior", "decoder", "vqgan", "text_encoder"
    title: str
    parameters: int
    config: Mapping[str, Any]
    hub: HubFiles
    license: str = LICENSE

    @property
    def bytes(self) -> int:
        """In 16 bits."""
        return self.parameters * 2


def _unet(name: str, title: str, parameters: int, subfolder: str, config: Mapping[str, Any]) -> PublishedPart:
    repository = PRIOR_REPOSITORY if name == "prior" else DECODER_REPOSITORY
    files = HubFiles(repository, subfolder, "diffusion_pytorch_model", ("config.json",))
    return PublishedPart(name, title, parameters, MappingProxyType(dict(config)), files)


PRIOR = _unet(
    "prior", "Stage C 3.6B", 3_589_103_632, "prior",
    {
        **_PRIOR, "conditioning_dim": 2048, "block_out_channels": [2048, 2048], "num_attention_heads": [32, 32],
        "down_num_layers_per_block": [8, 24], "up_num_layers_per_block": [24, 8],
    },
)  # fmt: skip
PRIOR_LITE = _unet(
    "prior", "Stage C 1B", 1_030_785_040, "prior_lite",
    {
        **_PRIOR, "conditioning_dim": 1536, "block_out_channels": [1536, 1536], "num_attention_heads": [24, 24],
        "down_num_layers_per_block": [4, 12], "up_num_layers_per_block": [12, 4],
    },
)  # fmt: skip
DECODER = _unet(
    "decoder", "Stage B 1.5B", 1_562_941_136, "decoder",
    {
        **_DECODER, "block_out_channels": [320, 640, 1280, 1280], "num_attention_heads": [0, 0, 20, 20],
        "down_num_layers_per_block": [2, 6, 28, 6], "up_num_layers_per_block": [6, 28, 6, 2],
        "up_blocks_repeat_mappers": [3, 3, 2, 2],
    },
)  # fmt: skip
DECODER_LITE = _unet(
    "decoder", "Stage B 700M", 699_471_248, "decoder_lite",
    {
        **_DECODER, "block_out_channels": [320, 576, 1152, 1152], "num_attention_heads": [0, 9, 18, 18],
        "down_num_layers_per_block": [2, 4, 14, 4], "up_num_layers_per_block": [4, 14, 4, 2],
        "up_blocks_repeat_mappers": [2, 2, 2, 2],
    },
)  # fmt: skip
VQGAN = PublishedPart(
    "vqgan", "Stage A", 18_406_894,
    MappingProxyType({
        "_class_name": "PaellaVQModel", "in_channels": 3, "out_channels": 3, "up_down_scale_factor": 2, "levels": 2,
        "bottleneck_blocks": 12, "embed_dim": 384, "latent_channels": 4, "num_vq_embeddings": 8192, "scale_factor": 0.3764,
    }),
    HubFiles(DECODER_REPOSITORY, "vqgan", "diffusion_pytorch_model", ("config.json",)),
)  # fmt: skip
TEXT_ENCODER = PublishedPart(
    "text_encoder", "CLIP ViT-bigG/14 text encoder", 694_659_840,
    MappingProxyType({
        "architectures": ["CLIPTextModelWithProjection"], "model_type": "clip_text_model", "vocab_size": 49408,
        "hidden_size": 1280, "intermediate_size": 5120, "projection_dim": 1280, "num_hidden_layers": 32,
        "num_attention_heads": 20, "max_position_embeddings": 77, "hidden_act": "gelu", "layer_norm_eps": 1e-05,
        "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 1,
    }),
    HubFiles(PRIOR_REPOSITORY, "text_encoder", "model", ("config.json",)),
)  # fmt: skip
PARTS = (TEXT_ENCODER, PRIOR, PRIOR_LITE, DECODER, DECODER_LITE, VQGAN)

# What a checkpoint needs beside its networks.
COMPANIONS: Mapping[str, HubFiles] = MappingProxyType(
    {
        "tokenizer": HubFiles(
            PRIOR_REPOSITORY, "tokenizer",
            others=("merges.txt", "tokenizer_config.json", "vocab.json"), optional=("special_tokens_map.json",),
        ),
        "scheduler": HubFiles(PRIOR_REPOSITORY, "scheduler", others=("scheduler_config.json",)),
        "previewer": HubFiles(DECODER_REPOSITORY, "", "previewer", variant=""),
    }
)  # fmt: skip
SCHEDULER_CONFIG: Mapping[str, Any] = MappingProxyType(
    {"_class_name": "DDPMWuerstchenScheduler", "s": 0.008, "scaler": 1.0}
)


@dataclass(frozen=True)
class PublishedCheckpoint:
    """A combination of a Stage C and a Stage B under the name it is chosen by."""

    name: str
    title: str
    prior: PublishedPart
    decoder: PublishedPart

    @property
    def parts(self) -> Mapping[str, PublishedPart]:
        """In the order a run uses them."""
        return {"text_encoder": TEXT_ENCODER, "prior": self.prior, "decoder": self.decoder, "vqgan": VQGAN}


# The recommended pair first.
CHECKPOINTS: Mapping[str, PublishedCheckpoint] = MappingProxyType(
    {
        checkpoint.name: checkpoint
        for checkpoint in (
            PublishedCheckpoint("stable-cascade", "Stable Cascade, 3.6B + 1.5B", PRIOR, DECODER),
            PublishedCheckpoint("stable-cascade-lite", "Stable Cascade, 1B + 700M", PRIOR_LITE, DECODER_LITE),
            PublishedCheckpoint("stable-cascade-lite-prior", "Stable Cascade, 1B + 1.5B", PRIOR_LITE, DECODER),
            PublishedCheckpoint("stable-cascade-lite-decoder", "Stable Cascade, 3.6B + 700M", PRIOR, DECODER_LITE),
        )
    }
)

MODEL_CARD: Mapping[str, Any] = MappingProxyType(
    {"prior_steps": 20, "prior_guidance": 4.0, "decoder_steps": 10, "decoder_guidance": 0.0}
)
# How the authors' own code samples: more noise for longer, guidance rescaled, Stage B barely guided.
AUTHORS: Mapping[str, Any] = MappingProxyType(
    {**MODEL_CARD, "prior_shift": 2.0, "guidance_rescale": 0.7, "decoder_guidance": 1.1}
)
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType({"model card": MODEL_CARD, "authors": AUTHORS})
