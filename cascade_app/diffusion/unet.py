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

from cascade_app.diffusion.packed import linear

Need = Callable[[Any], None]  # told each module just before it is used, so that its weights can be brought


def all_there(module: Any) -> None:
    """The `Need` of a network whose weights are where it computes."""


_MAX_POSITIONS = 10_000  # of the sinusoidal embedding, as trained
_EPS = 1e-6  # of every LayerNorm and response norm


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
        keys_values: attention block -> (N, T, 2C), keys and then values of the conditioning tokens.
        tables: timestep block -> factor and offset of each step, both (C,).
        maps: (N, C, h, w) added to the embedded latents: image and pixel conditioning. None if the UNet has neither.
        replay: a quicker way to the same, told latents and step, where all N rows are asked for; None if there is none.
    """

    keys_values: dict[Any, Tensor] = field(default_factory=dict)
    tables: dict[Any, tuple[tuple[Tensor, Tensor], ...]] = field(default_factory=dict)
    maps: Tensor | None = None
    replay: Callable[[Tensor, int], Tensor] | None = None

    @property
    def rows(self) -> int:
        """N; 0 where nothing depends on the conditioning."""
        if self.maps is not None:
            return len(self.maps)
        return next(map(len, self.keys_values.values()), 0)


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


@torch.inference_mode()  # at thousands of small operations a picture, what else autograd keeps account of is 5% of it
def predict(
    unet: Any, latents: Tensor, step: int, prepared: Prepared, need: Need = all_there, *, times: int = 1
) -> Tensor:
    """The network's output for `latents` at `step` of the prepared run.

    Args:
        latents: (N, C, h, w) float32.
        step: index into the prepared ratios.
        need: told each module before it is used.
        times: under how many conditionings, N prepared rows each, one after another. What comes before the first of them is met
            is the same for all and computed once. Where fewer rows are asked for than prepared, the first ones' are used.

    Returns:
        (N * times, C, h, w) float32: noise, x0 or v, as the network was trained.
    """
    rows = len(latents) * times
    if prepared.replay is not None and rows == prepared.rows:
        return prepared.replay(_rows(latents, rows), step)
    need(unet.embedding)
    x = unet.embedding(latents.to(unet.embedding[1].weight.dtype))
    if prepared.maps is not None:
        x = _rows(x, rows) + prepared.maps[:rows]
    skips: list[Tensor] = []
    for blocks, scale, mappers in zip(unet.down_blocks, unet.down_downscalers, unet.down_repeat_mappers, strict=True):
        need(scale)
        x = _level(blocks, mappers, scale(x), None, step=step, rows=rows, prepared=prepared, need=need)
        skips.append(x)
    x = skips.pop()  # the lowest level has no skip: the way up goes on from it
    skip = None
    for blocks, scale, mappers in zip(unet.up_blocks, unet.up_upscalers, unet.up_repeat_mappers, strict=True):
        x = _level(blocks, mappers, x, skip, step=step, rows=rows, prepared=prepared, need=need)
        need(scale)
        x = scale(x)
        skip = skips.pop() if skips else None
    need(unet.clf)
    return unet.clf(x).float()


def _level(
    blocks: Any, mappers: Any, x: Tensor, skip: Tensor | None, *, step: int, rows: int, prepared: Prepared, need: Need
) -> Tensor:
    """All blocks of a level, as often as it has repeat mappers, and once more. (N, C, h, w) here, (N, h, w, C) within.

    Where attention meets the conditioning, and at the latest behind the level, there are `rows` rows.
    """
    if skip is not None:
        if x.shape[-2:] != skip.shape[-2:]:
            # An odd side lost a row on the way down.
            x = functional.interpolate(x.float(), skip.shape[-2:], mode="bilinear", align_corners=True).to(x.dtype)
        skip = skip.permute(0, 2, 3, 1)
    x = x.permute(0, 2, 3, 1)
    for repeat in range(len(mappers) + 1):
        for number, block in enumerate(blocks):
            if block in prepared.tables:
                factor, offset = prepared.tables[block][step]  # its weights went into the table
                x = torch.addcmul(offset, x, factor)
                continue
            need(block)
            if block in prepared.keys_values:
                x = _attention_block(block, x, prepared.keys_values[block][:rows])
            else:
                x = _residual_block(block, x, skip if number == 0 else None)
        if repeat < len(mappers):
            need(mappers[repeat])
            x = mappers[repeat](x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return _rows(x, rows).permute(0, 3, 1, 2)


def _rows(x: Tensor, rows: int) -> Tensor:
    """All of `x` one after another until there are so many rows."""
    return x if len(x) == rows else x.repeat(rows // len(x), *[1] * (x.dim() - 1))


def _normed(x: Tensor) -> Tensor:
    """Every block's `norm`: over the channels of (N, h, w, C), without weights."""
    return functional.layer_norm(x, x.shape[-1:], eps=_EPS)


def _residual_block(block: Any, x: Tensor, skip: Tensor | None) -> Tensor:
    """ConvNeXt V2 block (Woo et al. 2023): depthwise convolution, then a channel MLP with global response norm."""
    hidden = _normed(block.depthwise(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    if skip is not None:
        hidden = torch.cat([hidden, skip], dim=-1)
    widen, _gelu, response_norm, _dropout, narrow = block.channelwise
    hidden = linear(widen, hidden, gelu=True)
    norm = _response(hidden)
    factor = (response_norm.gamma * norm).div_(norm.mean(dim=-1, keepdim=True).add_(_EPS)).add_(1)
    return linear(narrow, torch.addcmul(response_norm.beta, hidden, factor), add=x)


def _response(hidden: Tensor) -> Tensor:
    """Each channel's norm over the cells: (N, h, w, C) -> (N, 1, 1, C)."""
    if hidden.dtype == torch.float16:  # squares above 65,504 are none: over thousands of cells, values of 5 are too many
        return torch.linalg.vector_norm(hidden, dim=(1, 2), keepdim=True)
    # The squares' sum is torch.norm's result and several times faster on a CPU.
    return (hidden * hidden).sum((1, 2), keepdim=True).sqrt_()


def _attention_block(block: Any, x: Tensor, keys_values: Tensor) -> Tensor:
    """Attention from each cell to the conditioning tokens, and with `self_attn` to all cells.

    `keys_values` may have more rows than `x`: what is made of the cells alone is then repeated.
    """
    attention, channels, rows = block.attention, x.shape[-1], len(keys_values)
    cells = _normed(x).flatten(1, 2)  # (N, h*w, C)
    if block.self_attn:
        projected = _rows(_queries_keys_values(attention, cells), rows)
        query = projected.narrow(-1, 0, channels)
        keys_values = torch.cat([projected.narrow(-1, channels, 2 * channels), keys_values], dim=1)
    else:
        query = _rows(linear(attention.to_q, cells), rows)
    query = query.unflatten(-1, (attention.heads, -1)).transpose(1, 2)  # (N, heads, h*w, head size)
    key, value = keys_values.unflatten(-1, (2, attention.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
    out = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(rows, *x.shape[1:])
    return linear(attention.to_out[0], out, add=_rows(x, rows))


def _queries_keys_values(attention: Any, tokens: Tensor) -> Tensor:
    """(N, T, C) -> (N, T, 3C)."""
    if hasattr(attention, "to_qkv"):
        return linear(attention.to_qkv, tokens)
    return torch.cat([linear(each, tokens) for each in (attention.to_q, attention.to_k, attention.to_v)], dim=-1)


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
        return _once(mapper, vector.to(dtype)).view(vector.shape[0], vector.shape[1] * sequence, -1)

    tokens = mapped(unet.clip_txt_pooled_mapper, conditioning.pooled)
    if conditioning.text is not None and conditioning.image is not None:
        need(unet.clip_txt_mapper)
        text = _once(unet.clip_txt_mapper, conditioning.text.to(dtype))
        tokens = torch.cat([text, tokens, mapped(unet.clip_img_mapper, conditioning.image)], dim=1)
    return unet.clip_norm(tokens)


def _once(layer: Any, x: Tensor) -> Tensor:
    """A linear layer that a run computes once, in the dtype of `x`.

    On a CPU in float32 inside: oneDNN keeps some 300 kB for every shape it has multiplied in 16 bits.
    """
    if x.device.type != "cpu":
        return layer(x)
    return functional.linear(x.float(), layer.weight.float(), layer.bias.float()).to(x.dtype)


def _step_embeddings(unet: Any, ratios: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """The timestep's embedding for each step, then one for each further condition (sca, crp), all told zero."""
    size = unet.config.timestep_ratio_embedding_dim
    steps = timestep_embedding(ratios, size).to(dtype)
    zero = timestep_embedding(torch.zeros_like(ratios), size).to(dtype)
    return [steps] + [zero] * len(unet.config.timestep_conditioning_type)


def _timestep_table(block: Any, embeddings: list[Tensor], need: Need) -> tuple[tuple[Tensor, Tensor], ...]:
    need(block)
    scale, offset = _once(block.mapper, embeddings[0]).chunk(2, dim=1)
    for name, embedding in zip(block.conds, embeddings[1:], strict=True):
        more_scale, more_offset = _once(getattr(block, f"mapper_{name}"), embedding).chunk(2, dim=1)
        scale, offset = scale + more_scale, offset + more_offset
    return tuple(zip((1 + scale).unbind(), offset.unbind(), strict=True))


def _conditioning_keys_values(block: Any, tokens: Tensor, need: Need) -> Tensor:
    attention = block.attention
    need(block.kv_mapper)  # each just before it is used: the next one's coming may be this one's going
    activation, mapper = block.kv_mapper
    mapped = _once(mapper, activation(tokens))
    if hasattr(attention, "to_qkv"):
        return linear(attention.to_qkv, mapped)[..., mapped.shape[-1] :].contiguous()
    need(attention.to_k)
    keys = linear(attention.to_k, mapped)
    need(attention.to_v)
    return torch.cat([keys, linear(attention.to_v, mapped)], dim=-1)


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
