"""How many of the stars that a night has stand in a picture: the attribute classifier does not look at things so small."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

NEAR_PX, AROUND_PX = 2, 7
STANDS_OUT = 60  # of 255; a render's stars stand out by 200


def standing_out(picture: np.ndarray, places: Sequence[tuple[float, float]]) -> float:
    """Share of places (x, y), in shares of the picture, at which something is brighter than what surrounds it.

    Args:
        picture: (H, W, 3) uint8.
    """
    light = picture.astype(np.float64).mean(axis=-1)
    height, width = light.shape

    def cut(x: float, y: float, reach: int) -> np.ndarray:
        row, column = round(y * height), round(x * width)
        return light[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]

    found = [cut(x, y, NEAR_PX).max() - np.median(cut(x, y, AROUND_PX)) > STANDS_OUT for x, y in places]
    return float(np.mean(found))
