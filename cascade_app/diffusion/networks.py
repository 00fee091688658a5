"""The module trees of Stage C, Stage B and Stage A: which weights there are, and under which names they were published.

The names in a state dict are those of diffusers' `StableCascadeUNet` and `PaellaVQModel`, whose files these are filled from
(tests/diffusion/test_networks.py). They are written out here because importing that library for two classes costs a process
over a hundred megabytes and seconds. The UNet has no forward: `unet.py` walks its blocks. Trees are meant to be built on the meta
device, where they take no memory, and to be filled; drawing weights anew is training's business, with diffusers' classes.

Sources: Pernias et al. 2023, "Würstchen" (the stages and their blocks); Woo et al. 2023, "ConvNeXt V2" (the residual block);
Rampas et al. 2022, "Paella" (Stage A).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cascade_app.diffusion.configs import ATTENTION, RESIDUAL, UNetConfig, VQGANConfig
from cascade_app.diffusion.packed import linear

_EPS = 1e-6  # of every LayerNorm here, none of which has weights
_CELLS_AT_ONCE = 2048  # of Stage A, on a CPU


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (B, C, H, W), without weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """The same shape, laid out with channels last."""
        return functional.layer_norm(x.permute(0, 2, 3, 1), (self.channels,), eps=_EPS).permute(0, 3, 1, 2)


class ResponseNorm(nn.Module):
    """The two vectors of a global response norm over (B, H, W, C) (ConvNeXt V2, eq. 1 to 3)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, channels))


class ResidualBlock(nn.Module):
    """Depthwise convolution, then a channel MLP that may also be given `skip` channels of the way down."""

    def __init__(self, width: int, kernel: int, skip: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        # The fourth place is that of a dropout, which only training has.
        self.channelwise = nn.Sequential(
            nn.Linear(width + skip, 4 * width), nn.GELU(), ResponseNorm(4 * width), nn.Identity(), nn.Linear(4 * width, width)
        )


class TimestepBlock(nn.Module):
    """Factor and offset a channel, as a sum over the timestep's embedding and one for each of `conds`."""

    def __init__(self, width: int, embedding: int, conds: tuple[str, ...]) -> None:
        super().__init__()
        self.conds = conds
        self.mapper = nn.Linear(embedding, 2 * width)
        for name in conds:
            self.add_module(f"mapper_{name}", nn.Linear(embedding, 2 * width))


class Attention(nn.Module):
    """The projections of multi-head attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])


class AttentionBlock(nn.Module):
    """Attention to the conditioning tokens, and with `self_attn` to all cells."""

    def __init__(self, width: int, heads: int, conditioning: int, *, self_attn: bool) -> None:
        super().__init__()
        self.self_attn = self_attn
        self.attention = Attention(width, heads)
        self.kv_mapper = nn.Sequential(nn.SiLU(), nn.Linear(conditioning, width))


class Switch(nn.Module):
    """Between two levels by a 1x1 convolution; where `resizes`, with a bilinear resizing on the finer one's side of it."""

    def __init__(self, inputs: int, outputs: int, *, factor: float, resizes: bool) -> None:
        super().__init__()
        mapping = nn.Conv2d(inputs, outputs, 1)
        resizing = nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=True) if resizes else nn.Identity()
        self.blocks = nn.Sequential(*([resizing, mapping] if factor > 1 else [mapping, resizing]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H * factor, W * factor), the sides unchanged where nothing is resized."""
        return self.blocks(x)


class CascadeUNet(nn.Module):
    """Stage C or Stage B, as `config` says."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, patches = config.block_out_channels, config.patch_size**2
        if config.effnet_in_channels is not None:
            self.effnet_mapper = _image_mapper(config.effnet_in_channels, widths[0])
        if config.pixel_mapper_in_channels is not None:
            self.pixels_mapper = _image_mapper(config.pixel_mapper_in_channels, widths[0])
        tokens = config.conditioning_dim * config.clip_seq
        self.clip_txt_pooled_mapper = nn.Linear(config.clip_text_pooled_in_channels, tokens)
        if config.clip_text_in_channels is not None:
            self.clip_txt_mapper = nn.Linear(config.clip_text_in_channels, config.conditioning_dim)
        if config.clip_image_in_channels is not None:
            self.clip_img_mapper = nn.Linear(config.clip_image_in_channels, tokens)
        self.clip_norm = nn.LayerNorm(config.conditioning_dim, eps=_EPS, elementwise_affine=False)
        self.embedding = nn.Sequential(
            nn.PixelUnshuffle(config.patch_size), nn.Conv2d(config.in_channels * patches, widths[0], 1), ChannelNorm(widths[0])
        )
        down, up = range(len(widths)), range(len(widths))[::-1]
        self.down_downscalers = nn.ModuleList(_downscaler(config, level) for level in down)
        self.down_blocks = nn.ModuleList(
            _blocks(config, level, config.down_num_layers_per_block[level]) for level in down
        )
        self.down_repeat_mappers = nn.ModuleList(
            _repeat_mappers(widths[level], config.down_blocks_repeat_mappers[level]) for level in down
        )
        self.up_blocks = nn.ModuleList(
            _blocks(config, level, layers, skip=level < len(widths) - 1)
            for level, layers in zip(up, config.up_num_layers_per_block, strict=True)
        )
        self.up_repeat_mappers = nn.ModuleList(
            _repeat_mappers(widths[level], repeats)
            for level, repeats in zip(up, config.up_blocks_repeat_mappers, strict=True)
        )
        self.up_upscalers = nn.ModuleList(_upscaler(config, level) for level in up)
        self.clf = nn.Sequential(
            ChannelNorm(widths[0]), nn.Conv2d(widths[0], config.out_channels * patches, 1), nn.PixelShuffle(config.patch_size)
        )


def _image_mapper(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 4 * width, 1), nn.GELU(), nn.Conv2d(4 * width, width, 1), ChannelNorm(width))


def _blocks(config: UNetConfig, level: int, layers: int, *, skip: bool = False) -> nn.ModuleList:
    """A level's blocks; with `skip` the first one is also given what left this level on the way down."""
    width, heads = config.block_out_channels[level], config.num_attention_heads[level]
    blocks: list[nn.Module] = []
    for kind in config.block_types_per_layer[level] * layers:
        if kind == RESIDUAL:
            blocks.append(ResidualBlock(width, config.kernel_size, width if skip and not blocks else 0))
        elif kind == ATTENTION:
            self_attn = config.attends_to_cells(level)
            blocks.append(AttentionBlock(width, heads, config.conditioning_dim, self_attn=self_attn))
        else:
            blocks.append(TimestepBlock(width, config.timestep_ratio_embedding_dim, config.timestep_conditioning_type))
    return nn.ModuleList(blocks)


def _repeat_mappers(width: int, repeats: int) -> nn.ModuleList:
    """What stands between a level's blocks and the same blocks once more."""
    return nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(repeats - 1))


def _downscaler(config: UNetConfig, level: int) -> nn.Module:
    """From the finer level to this one."""
    if level == 0:
        return nn.Identity()
    finer, width = config.block_out_channels[level - 1 : level + 1]
    if config.switch_level is None:
        return nn.Sequential(ChannelNorm(finer), nn.Conv2d(finer, width, 2, stride=2))
    return nn.Sequential(ChannelNorm(finer), Switch(finer, width, factor=0.5, resizes=config.switch_level[level - 1]))


def _upscaler(config: UNetConfig, level: int) -> nn.Module:
    """From this level to the finer one."""
    if level == 0:
        return nn.Identity()
    finer, width = config.block_out_channels[level - 1 : level + 1]
    if config.switch_level is None:
        return nn.Sequential(ChannelNorm(width), nn.ConvTranspose2d(width, finer, 2, stride=2))
    return nn.Sequential(ChannelNorm(width), Switch(width, finer, factor=2, resizes=config.switch_level[level - 1]))


# --- Stage A ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encoded:
    """latents: (B, 4, H/4, W/4) where Stage A has two levels."""

    latents: Tensor


@dataclass(frozen=True)
class Decoded:
    """sample: (B, 3, H, W), about [0, 1], not clamped."""

    sample: Tensor


class MixingBlock(nn.Module):
    """Depthwise convolution and channel MLP, each between a gate before it (factor, offset) and one behind it: six `gammas`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(nn.ReplicationPad2d(1), nn.Conv2d(width, width, 3, groups=width))
        self.channelwise = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.gammas = nn.Parameter(torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same. Much of it in place, at full resolution it is what takes the most memory: no gradients."""
        factor, offset, gate, channel_factor, channel_offset, channel_gate = self.gammas
        x = self.depthwise(_gated_norm(x, factor, offset)).mul_(gate).add_(x)
        cells = _gated_norm(x, channel_factor, channel_offset).permute(0, 2, 3, 1).flatten(0, 2)
        widen, _gelu, narrow = self.channelwise
        # Each cell is computed by itself: few at once stay in a processor's cache, their four times wider hidden values included.
        for some in cells.split(_CELLS_AT_ONCE) if cells.device.type == "cpu" else (cells,):
            some.copy_(linear(narrow, linear(widen, some, gelu=True)))
        rows, _channels, height, width = x.shape
        return cells.view(rows, height, width, -1).permute(0, 3, 1, 2).mul_(channel_gate).add_(x)


def _gated_norm(x: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """ChannelNorm, times 1 + `factor`, plus `offset`, as one operation: (B, C, H, W), both of the others scalars."""
    channels = x.shape[1]
    scale, shift = (1 + factor).expand(channels), offset.expand(channels)
    return functional.layer_norm(x.permute(0, 2, 3, 1), (channels,), scale, shift, _EPS).permute(0, 3, 1, 2)


class VQGAN(nn.Module):
    """Stage A: pictures to latents and back. Its codebook has a place and is not read: latents are continuous here."""

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.embed_dim // 2**level for level in range(config.levels)]  # from coarse to fine
        pixels = config.up_down_scale_factor**2
        self.in_block = nn.Sequential(
            nn.PixelUnshuffle(config.up_down_scale_factor), nn.Conv2d(config.in_channels * pixels, widths[-1], 1)
        )
        down: list[nn.Module] = [MixingBlock(widths[-1])]
        for width, coarser in zip(widths[:0:-1], widths[-2::-1], strict=True):
            down += [nn.Conv2d(width, coarser, 4, stride=2, padding=1), MixingBlock(coarser)]
        channels = config.latent_channels
        down.append(nn.Sequential(nn.Conv2d(widths[0], channels, 1, bias=False), nn.BatchNorm2d(channels)))
        self.down_blocks = nn.Sequential(*down)
        codebook = nn.ParameterDict({"weight": torch.empty(config.num_vq_embeddings, channels)})
        self.vquantizer = nn.ModuleDict({"embedding": codebook})
        up: list[nn.Module] = [nn.Sequential(nn.Conv2d(channels, widths[0], 1))]
        up += [MixingBlock(widths[0]) for _ in range(config.bottleneck_blocks)]
        for width, finer in zip(widths, widths[1:], strict=False):
            up += [nn.ConvTranspose2d(width, finer, 4, stride=2, padding=1), MixingBlock(finer)]
        self.up_blocks = nn.Sequential(*up)
        self.out_block = nn.Sequential(
            nn.Conv2d(widths[-1], config.out_channels * pixels, 1), nn.PixelShuffle(config.up_down_scale_factor)
        )

    def encode(self, pictures: Tensor) -> Encoded:
        """Pictures (B, 3, H, W) in [0, 1] to what Stage B makes, times the config's scale_factor."""
        return Encoded(self.down_blocks(self.in_block(pictures)))

    def decode(self, latents: Tensor) -> Decoded:
        """Latents, times the config's scale_factor, to pictures."""
        return Decoded(self.out_block(self.up_blocks(latents)))
