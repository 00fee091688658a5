"""The pocket's two UNets: their configurations, a start near the identity, and what their commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import DDPMScheduler, StableCascadeUNet
from torch import Tensor, nn
from torch.nn import functional

from cascade_app.diffusion.schedule import CosineSchedule
from cascade_app.training.clip import PROJECTION
from cascade_app.training.loop import Budget, Part, Trainer, part_parser
from cascade_app.training.stage_a import save_final

SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "sample",
    "timestep_spacing": "trailing",
    "clip_sample": False,
}

PRIOR = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 1,
    "conditioning_dim": 224,
    "block_out_channels": (224, 224),
    "num_attention_heads": (7, 7),
    "down_num_layers_per_block": (2, 2),
    "up_num_layers_per_block": (3, 3),
    "down_blocks_repeat_mappers": (1, 1),
    "up_blocks_repeat_mappers": (1, 1),
    "block_types_per_layer": (
        ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
        ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
    ),
    "clip_text_in_channels": 192,
    "clip_text_pooled_in_channels": PROJECTION,
    "clip_image_in_channels": PROJECTION,
    "clip_seq": 2,
    "kernel_size": 5,
    "dropout": (0.0, 0.0),
    "self_attn": True,
    "timestep_conditioning_type": ("sca", "crp"),
    "switch_level": (False,),
}

DECODER = {
    "in_channels": 4,
    "out_channels": 4,
    "patch_size": 2,
    "conditioning_dim": 128,
    "block_out_channels": (96, 144, 192),
    "num_attention_heads": (-1, -1, 6),
    "down_num_layers_per_block": (1, 2, 2),
    "up_num_layers_per_block": (2, 3, 4),
    "down_blocks_repeat_mappers": (1, 1, 1),
    "up_blocks_repeat_mappers": (1, 1, 1),
    "block_types_per_layer": (
        ("SDCascadeResBlock", "SDCascadeTimestepBlock"),
        ("SDCascadeResBlock", "SDCascadeTimestepBlock"),
        ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
    ),
    "clip_text_pooled_in_channels": PROJECTION,
    "clip_seq": 2,
    "effnet_in_channels": 16,
    "pixel_mapper_in_channels": 3,
    "kernel_size": 5,
    "dropout": (0.0, 0.0, 0.0),
    "self_attn": True,
    "timestep_conditioning_type": ("sca",),
}


class LeanResponseNorm(nn.Module):
    """GlobalResponseNorm (ConvNeXt V2, Woo et al. 2023) with the same weights in half as many passes over memory."""

    def __init__(self, gamma: nn.Parameter, beta: nn.Parameter):
        super().__init__()
        self.gamma, self.beta = gamma, beta

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same."""
        norm = ((x * x).sum(dim=(1, 2), keepdim=True, dtype=torch.float32) + 1e-12).sqrt()
        scale = self.gamma * (norm / (norm.mean(dim=-1, keepdim=True) + 1e-6)) + 1
        # What is large stays in the dtype it came in; under autocast the parameters alone would make it float32.
        return torch.addcmul(self.beta.to(x.dtype), x, scale.to(x.dtype))


class LeanDepthwise(nn.Module):
    """A depthwise convolution that autocast leaves in float32: in bfloat16 its backward takes several times as long on CPUs."""

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        self.weight, self.bias, self.padding = convolution.weight, convolution.bias, convolution.padding

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same, float32 on a CPU."""
        if x.is_cuda:
            return functional.conv2d(x, self.weight, self.bias, padding=self.padding, groups=len(self.weight))
        with torch.autocast(x.device.type, enabled=False):
            return functional.conv2d(x.float(), self.weight, self.bias, padding=self.padding, groups=len(self.weight))


class LeanMixing(nn.Module):
    """Stage A's residual block with the same weights: its gates inside the norms and sums, in the dtype that comes in."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.depthwise, self.channelwise, self.gammas = block.depthwise, block.channelwise, block.gammas

    def _normed(self, x: Tensor, first: int) -> Tensor:
        """(B, H, W, C), LayerNorm with gate `first` as its scale and the next as its shift."""
        width = x.shape[-1]
        scale, shift = (1 + self.gammas[first]).expand(width), self.gammas[first + 1].expand(width)
        return functional.layer_norm(x, (width,), scale.to(x.dtype), shift.to(x.dtype), eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same."""
        x = x.permute(0, 2, 3, 1)
        gates = self.gammas.to(x.dtype)
        spread = self.depthwise(self._normed(x, 0).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).to(x.dtype)
        x = torch.addcmul(x, spread, gates[2])
        return torch.addcmul(x, self.channelwise(self._normed(x, 3)).to(x.dtype), gates[5]).permute(0, 3, 1, 2)


Network = TypeVar("Network", bound=nn.Module)


def lean(network: Network) -> Network:
    """The same network, quicker to train on a CPU: lean norms, channels last. The state dict is unchanged."""
    for module in network.modules():
        for name, child in list(module.named_children()):
            if type(child).__name__ == "MixingResidualBlock":
                setattr(module, name, LeanMixing(child))
            elif type(child).__name__ == "GlobalResponseNorm":
                setattr(module, name, LeanResponseNorm(child.gamma, child.beta))
            elif isinstance(child, nn.Conv2d) and child.groups == child.in_channels > 1:
                setattr(module, name, LeanDepthwise(child))
    return network.to(memory_format=torch.channels_last)


def new_unet(config: dict) -> StableCascadeUNet:
    """A UNet whose blocks start as small corrections.

    The first LayerNorm would take the latents' magnitude away; a spread-out bias before it keeps it almost linear.
    """
    unet = StableCascadeUNet(**config)
    with torch.no_grad():
        first = unet.embedding[1]
        nn.init.normal_(first.weight, std=first.in_channels**-0.5)
        nn.init.normal_(first.bias, std=2.0)
        nn.init.zeros_(unet.clf[1].weight)
        nn.init.zeros_(unet.clf[1].bias)
        for name, module in unet.named_modules():
            if ".mapper" in name and isinstance(module, nn.Linear) or name.rsplit(".", 1)[-1].startswith("mapper_"):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)
            if name.endswith(("channelwise.4", "to_out.0")):
                module.weight.mul_(0.5)
                nn.init.zeros_(module.bias)
    return lean(unet)


def grown(state: dict[str, Tensor], unet: StableCascadeUNet) -> dict[str, Tensor]:
    """Weights for `unet` that compute what those of a smaller UNet, `state`, compute: training goes on where it was.

    Kernels get a border of zeros; a level's new blocks come after those it had and add nothing yet (Chen et al. 2016,
    "Net2Net").

    Raises:
        ValueError: the two differ in more than kernel size and depth.
    """
    result = {}
    for name, value in unet.state_dict().items():
        if name not in state:
            silent = name.endswith(("channelwise.4.weight", "channelwise.4.bias", "to_out.0.weight", "to_out.0.bias"))
            result[name] = torch.zeros_like(value) if silent else value
            continue
        border = (value.shape[-1] - state[name].shape[-1]) // 2 if value.dim() == 4 else 0
        result[name] = functional.pad(state[name].float(), (border,) * 4) if border > 0 else state[name].float()
        if result[name].shape != value.shape:
            raise ValueError(f"{name} is {tuple(state[name].shape)} and cannot grow to {tuple(value.shape)}.")
    if unknown := sorted(state.keys() - result.keys()):
        raise ValueError(f"The UNet to grow into has no {unknown[0]}.")
    return result


def new_scheduler() -> DDPMScheduler:
    return DDPMScheduler(**SCHEDULER)


def new_schedule() -> CosineSchedule:
    """What both stages are trained with: exactly what the exported scheduler's file will say."""
    return CosineSchedule.from_config({**new_scheduler().config, "_class_name": DDPMScheduler.__name__})


def stage_parser(description: str | None, *, minutes: float, latents: int) -> argparse.ArgumentParser:
    """The options of Stage B's and Stage C's command."""
    parser = part_parser(description, minutes=minutes)
    parser.add_argument(
        "--latents", type=int, default=latents, help=f"how many pictures' latents to train on (default {latents})"
    )
    parser.add_argument(
        "--refine",
        action="store_true",
        help="go on from the finished part, on what is still wrong when both are trained",
    )
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="with --refine, of what was learnt, in the weights that are kept: the rest is what it began from (default 1)",
    )
    return parser


def blended(begun: dict[str, Tensor], refined: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights between those a run began with and those it ended with (Wortsman et al. 2022, "Robust fine-tuning of zero-shot
    models"): a short run forgets a little of what it does not practise, and half-way back that is there again.
    """
    return {name: torch.lerp(begun[name], new, share) if new.is_floating_point() else new for name, new in refined.items()}


def train_stage(part: Part, work: Path, arguments: argparse.Namespace, *, kept: dict[str, str]) -> None:
    """Run a stage's loop and keep its averages; `kept`: module -> the name of its finished weights."""
    begun: dict[str, dict[str, Tensor]] = {}
    state = work / "state" / (f"{part.name}_refined.pt" if arguments.refine else f"{part.name}.pt")
    if arguments.init_from or arguments.refine:
        for module, name in kept.items():
            network, weights = part.modules[module], torch.load(work / "final" / f"{name}.pt", weights_only=True)
            network.load_state_dict(grown(weights, network) if isinstance(network, StableCascadeUNet) else weights)
            begun[module] = {name: value.clone() for name, value in network.state_dict().items()}
    trainer = Trainer(part, state, Budget(arguments.minutes, arguments.steps), seed=arguments.seed + arguments.refine)
    trainer.run(sample_every_s=60 * arguments.sample_minutes)
    for module, name in kept.items():
        weights = trainer.ema[module].state_dict()
        save_final(work, name, blended(begun[module], weights, arguments.share) if arguments.refine else weights)
