"""How round the circles of icons are: what the attribute classifier, which knows a dented circle for a circle, cannot say."""

from __future__ import annotations

import numpy as np

_BORDER_PX = 6
_FEWEST_PX = 50  # of a shape; fewer are specks


def roundness(picture: np.ndarray) -> float:
    """How far an icon's only shape covers the disc of the same area and centre: intersection over union, 1 for a perfect circle.

    Each pixel is the shape's or the background's, whichever colour is nearer; the shape's shadow is nearer to the background.

    Args:
        picture: (H, W, 3) uint8, one shape that does not touch the border, on one colour.
    """
    pixels = picture.astype(np.float64)
    border = np.ones(picture.shape[:2], dtype=bool)
    border[_BORDER_PX:-_BORDER_PX, _BORDER_PX:-_BORDER_PX] = False
    background = np.median(pixels[border], axis=0)
    apart = np.linalg.norm(pixels - background, axis=-1)
    colour = np.median(pixels[apart > 0.6 * np.quantile(apart, 0.995)], axis=0) if apart.any() else background
    inside = np.linalg.norm(pixels - colour, axis=-1) < apart
    if inside.sum() < _FEWEST_PX:
        return 0.0
    rows, columns = np.nonzero(inside)
    y, x = np.ogrid[: picture.shape[0], : picture.shape[1]]
    disc = (y - rows.mean()) ** 2 + (x - columns.mean()) ** 2 <= inside.sum() / np.pi
    return float((inside & disc).sum() / (inside | disc).sum())
