"""The walk over Stage C and Stage B: prepare once a run, predict once a step.

Stage C and Stage B are sequences of three block kinds: residual (C), timestep (T) and attention (A). What does not
depend on the latents is the same at every step and computed once by `prepare`: the conditioning tokens' keys and values in
each attention block, the factor and offset of each timestep block for every step, the maps of the image conditioning. `predict`
then walks the blocks. Both together equal diffusers' `StableCascadeUNet.forward` (tests/diffusion/test_unet.py).

The walk knows blocks by their parts, not their classes: those of `networks.py` and diffusers' own both do. Timesteps stay float32
until the embedding is made: cast to 16 bits before, it would be off by up to 0.6.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from cascade_app.diffusion.linear import linear

Need = Callable[[Any], None]  # told each module just before it is used, so that its weights can be brought


def all_there(module: Any) -> None:
    """The `Need` of a network whose weights are where it computes."""


_MAX_POSITIONS = 10_000  # of the sinusoidal embedding, as trained


@dataclass(frozen=True)
class Conditioning:
    """What one run is conditioned on, for N rows (images, or images twice with guidance).

    Attributes:
        pooled: (N, 1, P) pooled prompt embeddings.
        text: (N, L, D) prompt embeddings; Stage C only.
        image: (N, 1, I) CLIP image embeddings, zeros for none; Stage C only.
        effnet: (N, 16, h, w) Stage C latents; Stage B only.
    """

    pooled: Tensor
    text: Tensor | None = None
    image: Tensor | None = None
    effnet: Tensor | None = None


@dataclass
class Prepared:
    """What `prepare` computed; tables are found by the block they belong to.

    Attributes:
        keys_values: attention block -> keys and values of the conditioning tokens, each (N, heads, T, head size).
        tables: timestep block -> (steps, 2, C, 1, 1), factor and offset of each step.
        maps: (N, C, h, w) added to the embedded latents: image and pixel conditioning. None if the UNet has neither.
        replay: a quicker way to the same, told latents and step, where all N rows are asked for; None if there is none.
    """

    keys_values: dict[Any, tuple[Tensor, Tensor]] = field(default_factory=dict)
    tables: dict[Any, Tensor] = field(default_factory=dict)
    maps: Tensor | None = None
    replay: Callable[[Tensor, int], Tensor] | None = None

    @property
    def rows(self) -> int:
        """N; 0 where nothing depends on the conditioning."""
        if self.maps is not None:
            return len(self.maps)
        return next((len(keys) for keys, _values in self.keys_values.values()), 0)


def timestep_embedding(ratio: Tensor, size: int) -> Tensor:
    """Sinusoidal embedding of ratios in [0, 1]: (S,) -> (S, size) float32, sines then cosines.

    Vaswani et al. 2017, section 3.5, on ratio * 10,000.
    """
    half = size // 2
    exponent = -math.log(_MAX_POSITIONS) / (half - 1)
    frequencies = torch.arange(half, device=ratio.device).float().mul(exponent).exp()
    angles = (ratio.float() * _MAX_POSITIONS)[:, None] * frequencies[None, :]
    return functional.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, size % 2))


@torch.no_grad()
def prepare(
    unet: Any, conditioning: Conditioning, *, ratios: Tensor, size: tuple[int, int], need: Need = all_there,
    known: Prepared | None = None,
) -> Prepared:
    """Compute everything that a run's steps have in common.

    Args:
        unet: a CascadeUNet, or diffusers' StableCascadeUNet, in eval mode.
        conditioning: of N rows, on the UNet's device, any float dtype.
        ratios: (S,) float32, the ratio the network is told at each step.
        size: (h, w) of the latents.
        need: told each module before it is used.
        known: prepared before for the same rows of `pooled`, `text` and `image` and the same ratios; only the maps are made anew.
    """
    dtype = unet.embedding[1].weight.dtype
    maps = _maps(unet, conditioning, size=size, dtype=dtype, need=need)
    if known is not None:
        return Prepared(known.keys_values, known.tables, maps)
    tokens = _tokens(unet, conditioning, dtype, need)
    embeddings = _step_embeddings(unet, ratios.to(tokens.device), dtype)
    prepared = Prepared(maps=maps)
    for block in all_blocks(unet):
        if hasattr(block, "kv_mapper"):
            prepared.keys_values[block] = _conditioning_keys_values(block, tokens, need)
        elif hasattr(block, "mapper"):
            prepared.tables[block] = _timestep_table(block, embeddings, need)
    return prepared


@torch.no_grad()
def predict(unet: Any, latents: Tensor, step: int, prepared: Prepared, need: Need = all_there) -> Tensor:
    """The network's output for `latents` at `step` of the prepared run.

    Args:
        latents: (N, C, h, w) float32, N at most the rows prepared: fewer use the first rows' conditioning.
        step: index into the prepared ratios.
        need: told each module before it is used.

    Returns:
        (N, C, h, w) float32: noise, x0 or v, as the network was trained.
    """
    if prepared.replay is not None and len(latents) == prepared.rows:
        return prepared.replay(latents, step)
    need(unet.embedding)
    x = unet.embedding(latents.to(unet.embedding[1].weight.dtype))
    if prepared.maps is not None:
        x = x + prepared.maps[: x.shape[0]]
    skips: list[Tensor] = []
    for blocks, scale, mappers in zip(unet.down_blocks, unet.down_downscalers, unet.down_repeat_mappers, strict=True):
        need(scale)
        x = _level(blocks, mappers, scale(x), None, step=step, prepared=prepared, need=need)
        skips.append(x)
    x = skips.pop()  # the lowest level has no skip: the way up goes on from it
    skip = None
    for blocks, scale, mappers in zip(unet.up_blocks, unet.up_upscalers, unet.up_repeat_mappers, strict=True):
        x = _level(blocks, mappers, x, skip, step=step, prepared=prepared, need=need)
        need(scale)
        x = scale(x)
        skip = skips.pop() if skips else None
    need(unet.clf)
    return unet.clf(x).float()


def _level(
    blocks: Any, mappers: Any, x: Tensor, skip: Tensor | None, *, step: int, prepared: Prepared, need: Need
) -> Tensor:
    """All blocks of a level, as often as it has repeat mappers, and once more."""
    for repeat in range(len(mappers) + 1):
        for number, block in enumerate(blocks):
            if block in prepared.tables:
                scale, offset = prepared.tables[block][step]  # its weights went into the table
                x = torch.addcmul(offset, x, scale)
                continue
            need(block)
            if block in prepared.keys_values:
                x = _attention_block(block, x, prepared.keys_values[block])
            else:
                x = _residual_block(block, x, skip if number == 0 else None)
        if repeat < len(mappers):
            need(mappers[repeat])
            x = mappers[repeat](x)
    return x


def _residual_block(block: Any, x: Tensor, skip: Tensor | None) -> Tensor:
    """ConvNeXt V2 block (Woo et al. 2023): depthwise convolution, then a channel MLP with global response norm."""
    if skip is not None and x.shape[-2:] != skip.shape[-2:]:
        # An odd side lost a row on the way down.
        x = functional.interpolate(x.float(), skip.shape[-2:], mode="bilinear", align_corners=True).to(x.dtype)
    hidden = block.norm(block.depthwise(x))
    if skip is not None:
        hidden = torch.cat([hidden, skip], dim=1)
    widen, _gelu, response_norm, _dropout, narrow = block.channelwise
    hidden = linear(widen, hidden.permute(0, 2, 3, 1), gelu=True)
    # The squares' sum is torch.norm's result and several times faster on a CPU.
    norm = (hidden * hidden).sum((1, 2), keepdim=True).sqrt()
    norm = norm / (norm.mean(dim=-1, keepdim=True) + 1e-6)
    hidden = torch.addcmul(response_norm.beta, hidden, response_norm.gamma * norm + 1)
    return x + linear(narrow, hidden).permute(0, 3, 1, 2)


def _attention_block(block: Any, x: Tensor, keys_values: tuple[Tensor, Tensor]) -> Tensor:
    """Attention from each cell to the conditioning tokens, and with `self_attn` to all cells before them."""
    attention = block.attention
    rows, channels, height, width = x.shape
    cells = block.norm(x).flatten(2).transpose(1, 2)  # (N, h*w, C)
    key, value = (part[:rows] for part in keys_values)
    if block.self_attn:
        key = torch.cat([_heads(linear(attention.to_k, cells), attention.heads), key], dim=2)
        value = torch.cat([_heads(linear(attention.to_v, cells), attention.heads), value], dim=2)
    query = _heads(linear(attention.to_q, cells), attention.heads)
    out = functional.scaled_dot_product_attention(query, key, value)
    out = linear(attention.to_out[0], out.transpose(1, 2).reshape(rows, -1, channels))
    return x + out.transpose(1, 2).reshape(rows, channels, height, width)


def _heads(tokens: Tensor, heads: int) -> Tensor:
    """(N, T, C) -> (N, heads, T, C / heads)."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


def all_blocks(unet: Any) -> Iterator[Any]:
    """Every block of the walk, in order, each once."""
    for level in (*unet.down_blocks, *unet.up_blocks):
        yield from level


def only_to_prepare(unet: Any) -> Iterator[Any]:
    """The modules that `prepare` reads and `predict` does not: their weights may leave once it is done."""
    for name in ("clip_txt_pooled_mapper", "clip_txt_mapper", "clip_img_mapper"):
        if hasattr(unet, name):
            yield getattr(unet, name)
    for block in all_blocks(unet):
        if hasattr(block, "kv_mapper"):
            yield block.kv_mapper
        elif hasattr(block, "mapper"):
            yield block


def _tokens(unet: Any, conditioning: Conditioning, dtype: torch.dtype, need: Need) -> Tensor:
    """The conditioning tokens (N, T, conditioning_dim): text, pooled text, image; pooled text alone for Stage B."""
    sequence = unet.config.clip_seq

    def mapped(mapper: Any, vector: Tensor) -> Tensor:
        need(mapper)
        return mapper(vector.to(dtype)).view(vector.shape[0], vector.shape[1] * sequence, -1)

    tokens = mapped(unet.clip_txt_pooled_mapper, conditioning.pooled)
    if conditioning.text is not None and conditioning.image is not None:
        need(unet.clip_txt_mapper)
        text = unet.clip_txt_mapper(conditioning.text.to(dtype))
        tokens = torch.cat([text, tokens, mapped(unet.clip_img_mapper, conditioning.image)], dim=1)
    return unet.clip_norm(tokens)


def _step_embeddings(unet: Any, ratios: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """The timestep's embedding for each step, then one for each further condition (sca, crp), all told zero."""
    size = unet.config.timestep_ratio_embedding_dim
    steps = timestep_embedding(ratios, size).to(dtype)
    zero = timestep_embedding(torch.zeros_like(ratios), size).to(dtype)
    return [steps] + [zero] * len(unet.config.timestep_conditioning_type)


def _timestep_table(block: Any, embeddings: list[Tensor], need: Need) -> Tensor:
    need(block)
    scale, offset = block.mapper(embeddings[0]).chunk(2, dim=1)
    for name, embedding in zip(block.conds, embeddings[1:], strict=True):
        more_scale, more_offset = getattr(block, f"mapper_{name}")(embedding).chunk(2, dim=1)
        scale, offset = scale + more_scale, offset + more_offset
    return torch.stack([1 + scale, offset], dim=1)[..., None, None]


def _conditioning_keys_values(block: Any, tokens: Tensor, need: Need) -> tuple[Tensor, Tensor]:
    attention = block.attention
    need(block.kv_mapper)  # each just before it is used: the next one's coming may be this one's going
    mapped = block.kv_mapper(tokens)
    need(attention.to_k)
    keys = _heads(attention.to_k(mapped), attention.heads)
    need(attention.to_v)
    return keys, _heads(attention.to_v(mapped), attention.heads)


def _maps(
    unet: Any, conditioning: Conditioning, *, size: tuple[int, int], dtype: torch.dtype, need: Need
) -> Tensor | None:
    """Image conditioning resized to the embedded latents, plus what the network makes of absent pixels (zeros)."""
    inner = tuple(side // unet.config.patch_size for side in size)
    total = None
    if hasattr(unet, "effnet_mapper") and conditioning.effnet is not None:
        effnet = functional.interpolate(conditioning.effnet.to(dtype), size=inner, mode="bilinear", align_corners=True)
        need(unet.effnet_mapper)
        total = unet.effnet_mapper(effnet)
    if hasattr(unet, "pixels_mapper"):
        absent = conditioning.pooled.new_zeros(1, unet.config.pixel_mapper_in_channels, 8, 8, dtype=dtype)
        need(unet.pixels_mapper)
        pixels = functional.interpolate(unet.pixels_mapper(absent), size=inner, mode="bilinear", align_corners=True)
        total = pixels.expand(conditioning.pooled.shape[0], -1, -1, -1) if total is None else total + pixels
    return total
