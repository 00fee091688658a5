"""Stage C and Stage B estimates (x0) to small pictures, cheap enough for every step.

Stage C goes through the previewer network that comes with the checkpoint, Stage B through a linear map of its four
channels; a checkpoint without a previewer has a linear map for Stage C too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Previewer(nn.Module):
    """Stage C latents to a picture: the published previewer's shape, for any widths.

    A 1x1 convolution to `widths[0]`; at each width a 3x3 convolution, and between two widths a 2x2 transposed convolution
    with stride 2; a last 1x1 convolution to RGB. GELU, then BatchNorm after each but the last.

    Args:
        widths: channels a level; the output is 2 ** (len(widths) - 1) times the latent's size.
        in_channels: channels of the latents.
    """

    def __init__(self, widths: tuple[int, ...] = (512, 256, 128, 128), in_channels: int = 16) -> None:
        super().__init__()
        self.widths = tuple(widths)
        layers: list[nn.Module] = [nn.Conv2d(in_channels, widths[0], 1), nn.GELU(), nn.BatchNorm2d(widths[0])]
        for level, width in enumerate(widths):
            if level:
                layers += [nn.ConvTranspose2d(widths[level - 1], width, 2, stride=2), nn.GELU(), nn.BatchNorm2d(width)]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.BatchNorm2d(width)]
        layers.append(nn.Conv2d(widths[-1], 3, 1))
        self.blocks = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, 16, h, w) -> (B, 3, 8h, 8w) at the published widths, about [0, 1], not clamped."""
        return self.blocks(latents)

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Previewer:
        """A previewer in eval mode of these very tensors; its widths are read off their shapes.

        Raises:
            RuntimeError: the tensors are not a previewer's.
        """
        convolutions = sorted(
            (int(name.split(".")[1]), tensor)
            for name, tensor in state.items()
            if name.startswith("blocks.") and name.endswith(".weight") and tensor.dim() == 4
        ) if state else []
        if len(convolutions) < 3:
            raise RuntimeError("no previewer convolutions found")
        widths = tuple(tensor.shape[0] for _, tensor in convolutions[1:-1] if tensor.shape[-1] == 3)
        with torch.device("meta"):  # filled at once: no memory for weights that would only be written over
            model = cls(widths, in_channels=convolutions[0][1].shape[1])
        model.load_state_dict(dict(state), assign=True)
        return model.eval()


@dataclass(frozen=True)
class LinearMap:
    """A picture by a linear map of a latent's channels, where the latent is. `weight` (3, C), `bias` (3,), both float32."""

    weight: Tensor
    bias: Tensor

    def __call__(self, latents: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 3, H, W) float32, about [0, 1], not clamped."""
        weight, bias = self.weight.to(latents.device), self.bias.to(latents.device)
        return torch.einsum("bchw,rc->brhw", latents.float(), weight) + bias.view(1, 3, 1, 1)


@torch.no_grad()
def fit_to_vqgan(vqgan: Any) -> LinearMap:
    """The linear map nearest to Stage A, by least squares over a smooth random latent (1, 4, H, W) of unit spread.

    One latent of the bundled checkpoint's size, rather than many small ones: what oneDNN sets up for its shapes, some 100 kB
    of code each, is then what a run uses anyway.
    """
    parameter = next(vqgan.parameters())
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, vqgan.config.latent_channels, 16, 16, generator=generator)
    latents = functional.interpolate(coarse, size=(64, 64), mode="bicubic", align_corners=True)
    scaled = (latents * vqgan.config.scale_factor).to(parameter.device, parameter.dtype)
    pictures = vqgan.decode(scaled).sample.float().cpu()
    colours = functional.avg_pool2d(pictures, pictures.shape[-1] // latents.shape[-1])
    inputs = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
    solution = _solve(inputs.T @ inputs, inputs.T @ colours.permute(0, 2, 3, 1).reshape(-1, 3))  # (C + 1, 3)
    return LinearMap(solution[:-1].T.contiguous().to(parameter.device), solution[-1].to(parameter.device))


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """X of matrix @ X = right by Gauss and Jordan, for a few well-conditioned unknowns: (N, N), (N, M) -> (N, M) float32.

    LAPACK would do it too, but the pages of its code stay in memory: 14 MB for five unknowns.
    """
    rows = torch.cat([matrix, right], dim=1).double()
    for pivot in range(len(rows)):
        rows[pivot] = rows[pivot] / rows[pivot, pivot]
        factors = rows[:, pivot].clone()
        factors[pivot] = 0
        rows = rows - factors[:, None] * rows[pivot]
    return rows[:, len(matrix) :].float()


def most_visible_directions(decoder: Any) -> LinearMap:
    """Stage C latents to false colours, for a checkpoint without a previewer.

    The three directions of the latent that Stage B's image conditioning weighs most; structure is right, colours are not.
    """
    weight = decoder.effnet_mapper[0].weight.detach().float().flatten(1)  # (hidden, 16)
    directions = torch.linalg.svd(weight, full_matrices=False).Vh[:3]
    return LinearMap(directions * 0.2, torch.full((3,), 0.5, device=weight.device))
