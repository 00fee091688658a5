"""Which parts of a cascade a safetensors file holds, and how they are built, told by its tensors and never by its name.

Reads headers only. Knows the authors' names (stage_a, stage_b[_lite], stage_c[_lite]), diffusers' names, and files that
hold several parts behind prefixes, as ComfyUI writes them. What a shape does not tell (heads, scales) is as published.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cascade_app import published
from cascade_app.weights import Header, TensorInfo

HEAD_WIDTH = 64  # of every attention head in the published networks
Shapes = Mapping[str, tuple[int, ...]]

# A tensor that only this part has. What comes before it in a key is the part's prefix in that file.
_SIGNS: Mapping[str, tuple[str, ...]] = {
    "prior": ("clip_txt_mapper.weight",),
    "decoder": ("effnet_mapper.0.weight",),
    "vqgan": ("vquantizer.codebook.weight", "vquantizer.embedding.weight"),
    "text_encoder": ("text_model.embeddings.token_embedding.weight",),
    "previewer": ("blocks.2.running_mean",),
}
_CONDITIONS = ("sca", "crp")  # the order in which the networks are told them
_BLOCK_SIGNS = {
    "depthwise.weight": "SDCascadeResBlock",
    "mapper.weight": "SDCascadeTimestepBlock",
    "kv_mapper.1.weight": "SDCascadeAttnBlock",
}


class NotRecognised(ValueError):
    """The tensors are no part of a cascade; the message ends a sentence that starts with the file's name."""


def find_parts(header: Header) -> dict[str, str]:
    """The parts in a file: name to the prefix of its keys.

    Raises:
        NotRecognised: there is none; says what the file seems to be.
    """
    found: dict[str, str] = {}
    for name, signs in _SIGNS.items():
        prefixes = {key.removesuffix(sign) for sign in signs for key in header if key.endswith(sign)}
        prefixes = {prefix for prefix in prefixes if not prefix or prefix.endswith(".")}
        if name in ("prior", "decoder"):
            prefixes = {prefix for prefix in prefixes if f"{prefix}clf.1.weight" in header}
        if name == "text_encoder":  # ComfyUI and diffusers both end a CLIP's prefix before "text_model"
            prefixes = {prefix for prefix in prefixes if f"{prefix}text_model.final_layer_norm.weight" in header}
        if len(prefixes) > 1:
            raise NotRecognised(f"holds more than one {name}")
        if prefixes:
            found[name] = prefixes.pop()
    if not found:
        raise NotRecognised(what_it_is(header) or "holds no part of a Stable Cascade")
    return found


def what_it_is(keys: Iterable[str]) -> str:
    """What else tensors of these names seem to be, to end a sentence with; "" if nobody knows."""
    keys = list(keys)
    if any("lora" in key.lower() for key in keys):
        return "is a LoRA, which changes a checkpoint and is none itself"
    if any("input_blocks." in key or "double_blocks." in key for key in keys):
        return "is a model of another family than Stable Cascade"
    if any("controlnet" in key.lower() or key.startswith("projections.") for key in keys):
        return "is a ControlNet, which guides a checkpoint and is none itself"
    return ""


def infer_config(name: str, header: Header, prefix: str = "") -> dict[str, Any]:
    """The config of the part `name` whose keys start with `prefix`.

    Raises:
        NotRecognised: its shapes are not those of a cascade's part.
    """
    shapes = {key: info.shape for key, info in part_tensors(name, header, prefix).items()}
    build: Callable[[Shapes], dict[str, Any]] = {
        "prior": _prior, "decoder": _decoder, "vqgan": _vqgan, "text_encoder": _text_encoder,
    }[name]  # fmt: skip
    try:
        return build(shapes)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        missing = f", {error} is missing" if isinstance(error, KeyError) else ""
        raise NotRecognised(f"holds a {name} whose tensors do not fit together{missing}") from error


def published_part(name: str, config: Mapping[str, Any]) -> published.PublishedPart | None:
    """The published part of this shape, if it is one."""
    telling = {
        "prior": ("block_out_channels", "down_num_layers_per_block", "conditioning_dim"),
        "decoder": ("block_out_channels", "down_num_layers_per_block", "conditioning_dim"),
        "vqgan": ("embed_dim", "bottleneck_blocks", "latent_channels"),
        "text_encoder": ("hidden_size", "num_hidden_layers", "projection_dim"),
    }[name]
    for part in published.PARTS:
        if part.name == name and all(_plain(config.get(key)) == part.config[key] for key in telling):
            return part
    return None


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _unet(shapes: Shapes, channels: int) -> dict[str, Any]:
    """What Stage C and Stage B have in common."""
    down, up = _levels(shapes, "down_blocks"), _levels(shapes, "up_blocks")
    if [kinds for kinds, _ in down] != [kinds for kinds, _ in reversed(up)]:
        raise ValueError("the two halves of the network differ")
    widths = [shapes[f"down_blocks.{level}.0.depthwise.weight"][0] for level in range(len(down))]
    types = [kinds for kinds, _ in down]
    patch_cells = shapes["embedding.1.weight"][1] // channels
    kernel = shapes["down_blocks.0.0.depthwise.weight"][-1]
    told = next(key for key in shapes if re.fullmatch(r"down_blocks\.0\.\d+\.mapper\.weight", key))
    block = told.removesuffix("mapper.weight")
    conditions = [key.removeprefix(f"{block}mapper_").removesuffix(".weight") for key in shapes
                  if key.startswith(f"{block}mapper_") and key.endswith(".weight")]  # fmt: skip
    if not set(conditions) <= set(_CONDITIONS):
        raise ValueError("unknown timestep conditions")
    return {
        "_class_name": "StableCascadeUNet",
        "in_channels": channels,
        "out_channels": shapes["clf.1.weight"][0] // patch_cells,
        "timestep_ratio_embedding_dim": shapes[told][1],
        "patch_size": math.isqrt(patch_cells),
        "block_out_channels": widths,
        "num_attention_heads": [
            width // HEAD_WIDTH if _BLOCK_SIGNS["kv_mapper.1.weight"] in kinds else 0 for width, kinds in zip(widths, types)
        ],
        "down_num_layers_per_block": [count for _, count in down],
        "up_num_layers_per_block": [count for _, count in up],
        "down_blocks_repeat_mappers": [1 + _count(shapes, f"down_repeat_mappers.{level}") for level in range(len(down))],
        "up_blocks_repeat_mappers": [1 + _count(shapes, f"up_repeat_mappers.{level}") for level in range(len(up))],
        "block_types_per_layer": types,
        "kernel_size": kernel,
        "self_attn": True,
        "dropout": [0.0] * len(down),
        "timestep_conditioning_type": sorted(conditions, key=_CONDITIONS.index),
    }


def _levels(shapes: Shapes, blocks: str) -> list[tuple[list[str], int]]:
    """For each level: the kinds of blocks in a layer, and how many layers."""
    kinds: dict[int, dict[int, str]] = {}
    for key in shapes:
        match = re.fullmatch(rf"{blocks}\.(\d+)\.(\d+)\.(.+)", key)
        if match and match[3] in _BLOCK_SIGNS:
            kinds.setdefault(int(match[1]), {})[int(match[2])] = _BLOCK_SIGNS[match[3]]
    levels = []
    for level in range(len(kinds)):
        row = [kinds[level][index] for index in range(len(kinds[level]))]
        layers = row.count("SDCascadeResBlock")
        unit = row[: len(row) // layers]
        if unit * layers != row:
            raise ValueError("uneven layers")
        levels.append((unit, layers))
    if not levels:
        raise KeyError(blocks)
    return levels


def _count(shapes: Shapes, start: str) -> int:
    return sum(key.startswith(f"{start}.") and key.endswith(".weight") for key in shapes)


def _prior(shapes: Shapes) -> dict[str, Any]:
    conditioning, text = shapes["clip_txt_mapper.weight"]
    pooled = shapes["clip_txt_pooled_mapper.weight"]
    config = {
        **_unet(shapes, 16),
        "conditioning_dim": conditioning,
        "clip_text_in_channels": text,
        "clip_text_pooled_in_channels": pooled[1],
        "clip_image_in_channels": shapes["clip_img_mapper.weight"][1] if "clip_img_mapper.weight" in shapes else None,
        "clip_seq": pooled[0] // conditioning,
        "effnet_in_channels": None,
        "pixel_mapper_in_channels": None,
    }
    switched = "down_downscalers.1.1.blocks.0.weight" in shapes
    return {**config, "switch_level": [False] * (len(config["block_out_channels"]) - 1) if switched else None}


def _decoder(shapes: Shapes) -> dict[str, Any]:
    authors = "clip_mapper.weight" in shapes
    pooled = shapes["clip_mapper.weight" if authors else "clip_txt_pooled_mapper.weight"]
    conditioning = next(shape[1] for key, shape in shapes.items() if key.endswith(".kv_mapper.1.weight"))
    return {
        **_unet(shapes, 4),
        "conditioning_dim": conditioning,
        "clip_text_in_channels": None,
        "clip_text_pooled_in_channels": pooled[1],
        "clip_image_in_channels": None,
        "clip_seq": pooled[0] // conditioning,
        "effnet_in_channels": shapes["effnet_mapper.0.weight"][1],
        "pixel_mapper_in_channels": shapes["pixels_mapper.0.weight"][1],
        "switch_level": None,
    }


def _vqgan(shapes: Shapes) -> dict[str, Any]:
    width, latent_channels = shapes["up_blocks.0.0.weight"][:2]
    first_width, packed = shapes["in_block.1.weight"][:2]
    levels = 1 + round(math.log2(width // first_width))
    upscaler = next((index for index in range(1, len(shapes)) if f"up_blocks.{index}.weight" in shapes), None)
    residual = sum(bool(re.fullmatch(r"up_blocks\.\d+\.gammas", key)) for key in shapes)
    codebook = shapes.get("vquantizer.codebook.weight") or shapes["vquantizer.embedding.weight"]
    return {
        "_class_name": "PaellaVQModel",
        "in_channels": 3,
        "out_channels": 3,
        "up_down_scale_factor": math.isqrt(packed // 3),
        "levels": levels,
        "bottleneck_blocks": residual if upscaler is None else upscaler - 1,
        "embed_dim": width,
        "latent_channels": latent_channels,
        "num_vq_embeddings": codebook[0],
        "scale_factor": published.VQGAN.config["scale_factor"],
    }


def _text_encoder(shapes: Shapes) -> dict[str, Any]:
    words, width = shapes["text_model.embeddings.token_embedding.weight"]
    layers = {int(match[1]) for key in shapes if (match := re.match(r"text_model\.encoder\.layers\.(\d+)\.", key))}
    projection = shapes["text_projection.weight"][0] if "text_projection.weight" in shapes else width
    return {
        **published.TEXT_ENCODER.config,
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": shapes["text_model.encoder.layers.0.mlp.fc1.weight"][0],
        "projection_dim": projection,
        "num_hidden_layers": len(layers),
        "num_attention_heads": width // HEAD_WIDTH,
        "max_position_embeddings": shapes["text_model.embeddings.position_embedding.weight"][0],
        "bos_token_id": words - 2,  # CLIP's two special tokens are its last ones
        "eos_token_id": words - 1,
    }


def part_tensors(name: str, header: Header, prefix: str) -> dict[str, TensorInfo]:
    """The tensors of one part, their keys without its prefix."""
    tensors = {key.removeprefix(prefix): info for key, info in header.items() if key.startswith(prefix)}
    if name == "text_encoder" and (outside := header.get(outer_projection(prefix))) is not None:
        tensors["text_projection.weight"] = TensorInfo(outside.dtype, outside.shape[::-1], outside.offset)
    return tensors


def outer_projection(prefix: str) -> str:
    """The key of a text encoder's projection where it lies beside the transformer, transposed, as OpenAI's CLIP has it."""
    return prefix.removesuffix("transformer.") + "text_projection"
