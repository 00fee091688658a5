"""How many bytes a part takes: its weights block by block, and what lives beside them while it computes. Pure.

Everything is counted from a part's config, so that a plan needs no weights. Activations are estimates from the shapes of
the walk in `diffusion/unet.py` and of Stage A's blocks: the largest set of tensors that live at once, not a sum over layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SAME_SIZE_TENSORS = 15  # tensors of (cells, width) alive in a residual block: three 4x wide hidden ones, and three more
_VQGAN_TENSORS = 11  # the same in Stage A: two 4x wide hidden ones, and three more
_TEXT_TENSORS = 24  # the same in a text encoder's layer, its two prompts included


@dataclass(frozen=True)
class UNetCount:
    """Parameters of a Stage C or Stage B network.

    Attributes:
        total: all of them.
        largest_block: of the largest residual, timestep or attention block.
        outside_blocks: of everything outside the blocks.
        only_to_prepare: read only while conditioning and timestep tables are made (kv_mapper, timestep mappers, clip mappers).
    """

    total: int
    largest_block: int
    outside_blocks: int
    only_to_prepare: int


def count_unet(config: Mapping[str, Any]) -> UNetCount:
    """Count a UNet's parameters from its config."""
    widths = list(config["block_out_channels"])
    blocks, prepare = _block_parameters(config)
    outside = _outside_parameters(config, widths)
    return UNetCount(
        total=sum(blocks) + outside["all"],
        largest_block=max(blocks),
        outside_blocks=outside["all"],
        only_to_prepare=prepare + outside["clip"],
    )


def _block_parameters(config: Mapping[str, Any]) -> tuple[list[int], int]:
    """(parameters of each block, parameters of all kv_mapper and timestep mappers)."""
    widths = list(config["block_out_channels"])
    kernel, conditioning = config.get("kernel_size", 3), config["conditioning_dim"]
    self_attention_conditions = 1 + len(config.get("timestep_conditioning_type", ("sca", "crp")))
    timestep_dim = config.get("timestep_ratio_embedding_dim", 64)
    blocks: list[int] = []
    prepare = 0
    for way, layers in (("down", config["down_num_layers_per_block"]), ("up", config["up_num_layers_per_block"][::-1])):
        for level, width in enumerate(widths):
            for layer in range(layers[level]):
                skip = width if way == "up" and level < len(widths) - 1 and layer == 0 else 0
                for kind in config["block_types_per_layer"][level]:
                    if kind == "SDCascadeResBlock":
                        multilayer = (width + skip + 1) * 4 * width + 8 * width + (4 * width + 1) * width
                        blocks.append((kernel**2 + 1) * width + multilayer)
                    elif kind == "SDCascadeTimestepBlock":
                        blocks.append(self_attention_conditions * (timestep_dim + 1) * 2 * width)
                        prepare += blocks[-1]
                    else:
                        mapper = (conditioning + 1) * width
                        blocks.append(4 * (width + 1) * width + mapper)
                        prepare += mapper
    return blocks, prepare


def _outside_parameters(config: Mapping[str, Any], widths: list[int]) -> dict[str, int]:
    """Parameters outside the blocks: {"clip": of the clip mappers, "all": of everything}."""
    conditioning, sequence, patch = config["conditioning_dim"], config.get("clip_seq", 4), config.get("patch_size", 1) ** 2
    clip = (config.get("clip_text_pooled_in_channels", 1280) + 1) * conditioning * sequence
    if config.get("clip_text_in_channels"):
        clip += (config["clip_text_in_channels"] + 1) * conditioning
    if config.get("clip_image_in_channels"):
        clip += (config["clip_image_in_channels"] + 1) * conditioning * sequence
    total = clip + (config["in_channels"] * patch + 1) * widths[0] + (widths[0] + 1) * config["out_channels"] * patch
    for key in ("effnet_in_channels", "pixel_mapper_in_channels"):
        if config.get(key):
            total += (config[key] + 1) * widths[0] * 4 + (widths[0] * 4 + 1) * widths[0]
    kernel = 1 if config.get("switch_level") is not None else 4  # 1x1 mapping, or 2x2 strided
    for above, below in zip(widths, widths[1:], strict=False):
        total += above * below * kernel * 2 + above + below
    for repeats, sides in (
        (config.get("down_blocks_repeat_mappers") or [1] * len(widths), widths),
        ((config.get("up_blocks_repeat_mappers") or [1] * len(widths))[::-1], widths),
    ):
        total += sum((count - 1) * (width * width + width) for count, width in zip(repeats, sides, strict=True))
    return {"clip": clip, "all": total}


def unet_activation_bytes(config: Mapping[str, Any], size: tuple[int, int], *, rows: int, element_bytes: int) -> int:
    """Peak bytes beside the weights during one step.

    Args:
        size: (h, w) of the latents.
        rows: images, twice where guidance is on.
        element_bytes: of the dtype the network runs in.
    """
    patch = config.get("patch_size", 1)
    height, width = (side // patch for side in size)
    switch = config.get("switch_level")
    skips = peak = keys_values = 0
    tokens = config.get("clip_seq", 4) * 2 + 77
    ways = zip(config["down_num_layers_per_block"], config["up_num_layers_per_block"][::-1], strict=True)
    layers = [down + up for down, up in ways]
    for level, channels in enumerate(config["block_out_channels"]):
        if level and (switch is None or switch[level - 1]):
            height, width = max(1, height // 2), max(1, width // 2)
        cells = height * width
        peak = max(peak, _SAME_SIZE_TENSORS * cells * channels)
        skips += cells * channels * (2 if level == 0 else 1)  # the map of the image conditioning is level 0's size
        if "SDCascadeAttnBlock" in config["block_types_per_layer"][level]:
            keys_values += 2 * layers[level] * tokens * channels
    return rows * element_bytes * (peak + skips + keys_values)


def vqgan_activation_bytes(config: Mapping[str, Any], size: tuple[int, int], *, images: int, element_bytes: int) -> int:
    """Peak bytes beside the weights while Stage A decodes latents of `size` (h, w)."""
    levels, width = config.get("levels", 2), config.get("embed_dim", 384)
    cells = size[0] * size[1] * 4 ** (levels - 1)
    top = width // 2 ** (levels - 1)
    pixels = cells * config.get("up_down_scale_factor", 2) ** 2 * 3
    return images * (element_bytes * (_VQGAN_TENSORS * max(cells * top, size[0] * size[1] * width) + pixels) + 4 * pixels)


def text_activation_bytes(config: Mapping[str, Any], *, element_bytes: int) -> int:
    """Peak bytes beside the weights while one prompt is encoded."""
    length, width = config.get("max_position_embeddings", 77), config.get("hidden_size", 1280)
    return _TEXT_TENSORS * length * width * element_bytes
