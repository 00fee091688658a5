"""Stage C and Stage B estimates (x0) to small pictures, cheap enough for every step.

Stage C goes through the previewer network that comes with the checkpoint, Stage B through a linear map of its four
channels; a checkpoint without a previewer has a linear map for Stage C too.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


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
        """A previewer in eval mode with these weights; its widths are read off their shapes.

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
        model = cls(widths, in_channels=convolutions[0][1].shape[1])
        model.load_state_dict(dict(state))
        return model.eval()


def linear_rgb(latents: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A picture by a linear map of the channels: (B, C, H, W), (3, C), (3,) -> (B, 3, H, W), about [0, 1]."""
    return torch.einsum("bchw,rc->brhw", latents.float(), weight) + bias.view(1, 3, 1, 1)
