"""What a network's config.json says, under the keys it was published with: checked, and with what it may leave out filled in.

A config comes from a file anyone may have written, so every value is held against the kind it should be. Keys that describe no
network here (versions, names of classes, how weights were first drawn) are passed over. Knows nothing of tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

RESIDUAL, TIMESTEP, ATTENTION = "SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"

Config = TypeVar("Config")


@dataclass(frozen=True)
class UNetConfig:
    """Stage C or Stage B. What has an entry for each level goes from fine to coarse; `up_` lists go from coarse to fine."""

    in_channels: int = 16
    out_channels: int = 16
    timestep_ratio_embedding_dim: int = 64
    patch_size: int = 1
    conditioning_dim: int = 2048
    block_out_channels: tuple[int, ...] = (2048, 2048)
    num_attention_heads: tuple[int, ...] = (32, 32)
    down_num_layers_per_block: tuple[int, ...] = (8, 24)
    up_num_layers_per_block: tuple[int, ...] = (24, 8)
    down_blocks_repeat_mappers: tuple[int, ...] = (1, 1)
    up_blocks_repeat_mappers: tuple[int, ...] = (1, 1)
    block_types_per_layer: tuple[tuple[str, ...], ...] = ((RESIDUAL, TIMESTEP, ATTENTION),) * 2
    clip_text_in_channels: int | None = None
    clip_text_pooled_in_channels: int = 1280
    clip_image_in_channels: int | None = None
    clip_seq: int = 4
    effnet_in_channels: int | None = None
    pixel_mapper_in_channels: int | None = None
    kernel_size: int = 3
    self_attn: bool | tuple[bool, ...] = True
    timestep_conditioning_type: tuple[str, ...] = ("sca", "crp")
    switch_level: tuple[bool, ...] | None = None

    def __post_init__(self) -> None:
        levels = len(self.block_out_channels)
        for key in ("num_attention_heads", "down_num_layers_per_block", "up_num_layers_per_block", "down_blocks_repeat_mappers",
                    "up_blocks_repeat_mappers", "block_types_per_layer"):  # fmt: skip
            if len(getattr(self, key)) != levels:
                raise ValueError(f"{key} has {len(getattr(self, key))} entries for {levels} levels")
        if self.switch_level is not None and len(self.switch_level) < levels - 1:
            raise ValueError(f"switch_level has {len(self.switch_level)} entries for {levels} levels")
        if isinstance(self.self_attn, tuple) and len(self.self_attn) != levels:
            raise ValueError(f"self_attn has {len(self.self_attn)} entries for {levels} levels")
        if self.patch_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"patch_size is {self.patch_size} and kernel_size {self.kernel_size}, which must be odd")
        for level, kinds in enumerate(self.block_types_per_layer):
            if unknown := set(kinds) - {RESIDUAL, TIMESTEP, ATTENTION}:
                raise ValueError(f"block_types_per_layer names {min(unknown)}")
            heads, width = self.num_attention_heads[level], self.block_out_channels[level]
            if ATTENTION in kinds and (heads < 1 or width % heads):
                raise ValueError(f"num_attention_heads is {heads} where block_out_channels is {width}")

    def attends_to_cells(self, level: int) -> bool:
        """Whether attention at `level` is to all cells too, or to the conditioning alone."""
        return self.self_attn if isinstance(self.self_attn, bool) else self.self_attn[level]


@dataclass(frozen=True)
class VQGANConfig:
    """Stage A."""

    in_channels: int = 3
    out_channels: int = 3
    up_down_scale_factor: int = 2
    levels: int = 2
    bottleneck_blocks: int = 12
    embed_dim: int = 384
    latent_channels: int = 4
    num_vq_embeddings: int = 8192
    scale_factor: float = 0.3764

    def __post_init__(self) -> None:
        if self.levels < 1 or self.up_down_scale_factor < 1 or self.embed_dim >> (self.levels - 1) < 1:
            raise ValueError(
                f"levels is {self.levels}, up_down_scale_factor {self.up_down_scale_factor} and embed_dim {self.embed_dim}"
            )


@dataclass(frozen=True)
class TextConfig:
    """A CLIP text encoder with a projection."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    projection_dim: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 49407

    def __post_init__(self) -> None:
        if self.hidden_act not in ("gelu", "quick_gelu"):
            raise ValueError(f"hidden_act is {self.hidden_act[:40]}, not gelu or quick_gelu")
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(f"num_attention_heads is {self.num_attention_heads} where hidden_size is {self.hidden_size}")


def config_from(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """`values` as a config of that kind.

    Raises:
        ValueError: a value is of another kind than it should be, or some do not go together.
    """
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind) if field.name in values]  # type: ignore[arg-type]
    return kind(**{name: _checked(name, values[name], hints[name]) for name in known})


def _checked(name: str, value: Any, hint: Any) -> Any:
    """`value` where it is what `hint` says, a list as a tuple."""
    choices = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    for choice in choices:
        if get_origin(choice) is tuple:
            if isinstance(value, (list, tuple)):
                return tuple(_checked(name, each, get_args(choice)[0]) for each in value)
        elif choice is float and type(value) is int:
            return float(value)
        elif type(value) is choice:  # True is no number here
            return value
    raise ValueError(f"{name} is {str(value)[:40]}")
