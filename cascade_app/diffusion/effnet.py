"""The image encoder of a small checkpoint: a picture to Stage C latents, for reconstruction and image-to-image.

It plays the published EffNet encoder's part (16 channels, one value per 42.67 px, last a BatchNorm without affine terms) with a
few residual convolutions. Its structure is read off its state dict, so the weights file is all that is needed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

COMPRESSION = 42.67
_UNSHUFFLE = 4
_PX_PER_LATENT = 32  # of the resized picture the network sees


class Residual(nn.Module):
    """x + conv(gelu(norm(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same."""
        return x + self.conv(functional.gelu(self.norm(x)))


class ImageEncoder(nn.Module):
    """Pictures of any size to latents.

    Args:
        widths: channels of the levels; each level after the first halves the sides.
        depths: residual blocks a level.
        latent_channels: channels of the latents.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (64, 96, 128, 192),
        depths: tuple[int, ...] = (1, 2, 2, 2),
        latent_channels: int = 16,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3 * _UNSHUFFLE**2, widths[0], 3, padding=1)
        self.levels = nn.ModuleList()
        for i, (width, depth) in enumerate(zip(widths, depths)):
            first = nn.Conv2d(widths[i - 1], width, 3, stride=2, padding=1) if i else nn.Identity()
            self.levels.append(nn.Sequential(first, *(Residual(width) for _ in range(depth))))
        self.head = nn.Conv2d(widths[-1], latent_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(latent_channels, affine=False)

    def forward(self, pictures: Tensor, latent_size: tuple[int, int] | None = None) -> Tensor:
        """(B, 3, H, W) float in [0, 1] -> (B, 16, h, w) of about unit variance.

        (h, w) is `latent_size`, or (ceil(H / 42.67), ceil(W / 42.67)).
        """
        sides = latent_size or [math.ceil(side / COMPRESSION) for side in pictures.shape[-2:]]
        size = [_PX_PER_LATENT * side for side in sides]
        if list(pictures.shape[-2:]) != size:
            pictures = functional.interpolate(pictures, size=size, mode="bilinear", antialias=True)
        x = self.stem(functional.pixel_unshuffle(pictures * 2 - 1, _UNSHUFFLE))
        for level in self.levels:
            x = level(x)
        return self.norm(self.head(x))

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> ImageEncoder:
        """An encoder in eval mode with these weights; its widths and depths are read off their names and shapes.

        Raises:
            RuntimeError: the tensors are not an image encoder's.
        """
        if "stem.weight" not in state or "head.weight" not in state:
            raise RuntimeError("these weights are not an image encoder's: stem.weight or head.weight is missing")
        widths, depths = [], []
        while any(name.startswith(f"levels.{len(widths)}.") for name in state):
            prefix = f"levels.{len(widths)}."
            blocks = {
                int(name.split(".")[2]): tensor
                for name, tensor in state.items()
                if name.startswith(prefix) and name.endswith("conv.weight")
            }
            if not blocks:
                raise RuntimeError(f"level {len(widths)} of the image encoder has no residual block")
            widths.append(next(iter(blocks.values())).shape[0])
            depths.append(len(blocks))
        model = cls(tuple(widths), tuple(depths), state["head.weight"].shape[0])
        model.load_state_dict(dict(state))
        return model.eval()
