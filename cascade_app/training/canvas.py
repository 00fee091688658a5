"""A small anti-aliased canvas: pictures are drawn at twice their size with Pillow and reduced at the end.

Coordinates are fractions of the picture (x to the right, y down); lengths called `size` are fractions of
the shorter side, so that objects keep their shape at every aspect ratio. Colours are float RGB, 0 to 255.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[float, float, float]
SCALE = 2


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`a` moved towards `b` by `share`, 0 to 1."""
    return tuple(x + (y - x) * share for x, y in zip(a, b))


def lighter(colour: Colour, share: float) -> Colour:
    return mix(colour, (255.0, 255.0, 255.0), share)


def darker(colour: Colour, share: float) -> Colour:
    return mix(colour, (8.0, 8.0, 24.0), share)


def luminance(colour: Colour) -> float:
    return (0.30 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]) / 255


def _rgb(colour: Colour) -> tuple[int, int, int]:
    return tuple(int(min(255, max(0, round(c)))) for c in colour)


class Canvas:
    """One picture while it is being drawn."""

    def __init__(self, width_px: int, height_px: int):
        self.size_px = (width_px, height_px)
        self.width, self.height = width_px * SCALE, height_px * SCALE
        self.unit = min(self.width, self.height)
        self.image = Image.new("RGB", (self.width, self.height))
        self.pen = ImageDraw.Draw(self.image)

    def finish(self) -> np.ndarray:
        """The picture, (H, W, 3) uint8."""
        return np.asarray(self.image.reduce(SCALE))

    def _points(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * self.width, y * self.height) for x, y in points]

    def gradient(self, stops: Sequence[tuple[float, Colour]]) -> Image.Image:
        """A full-size vertical gradient through (y, colour) stops."""
        rows = (np.arange(self.height) + 0.5) / self.height
        places = [y for y, _ in stops]
        column = np.stack([np.interp(rows, places, [c[i] for _, c in stops]) for i in range(3)], axis=-1)
        column = np.clip(np.floor(column + 0.5), 0, 255).astype(np.uint8)
        return Image.fromarray(column[:, None, :]).resize((self.width, self.height), Image.NEAREST)

    def sky(self, stops: Sequence[tuple[float, Colour]]) -> None:
        self.image.paste(self.gradient(stops))

    def glow(self, x: float, y: float, *, size: float, colour: Colour, strength: float) -> None:
        """A soft light around a point."""
        small = 96
        axis = (np.arange(small) + 0.5) / small * 2 - 1
        distance = np.sqrt(axis[None, :] ** 2 + axis[:, None] ** 2)
        alpha = np.clip(1 - distance, 0, 1) ** 2 * strength * 255
        side = int(size * self.unit * 2)
        mask = Image.fromarray(alpha.astype(np.uint8)).resize((side, side), Image.BILINEAR)
        corner = (int(x * self.width - side / 2), int(y * self.height - side / 2))
        self.image.paste(_rgb(colour), (*corner, corner[0] + side, corner[1] + side), mask)

    def polygon(self, points: Sequence[tuple[float, float]], colour: Colour) -> None:
        self.pen.polygon(self._points(points), fill=_rgb(colour))

    def area(self, points: Sequence[tuple[float, float]], stops: Sequence[tuple[float, Colour]]) -> None:
        """A polygon filled with a vertical gradient."""
        mask = Image.new("1", (self.width, self.height))
        ImageDraw.Draw(mask).polygon(self._points(points), fill=1)
        self.image.paste(self.gradient(stops), mask=mask)

    def disc(self, x: float, y: float, size: float, colour: Colour, *, flat: float = 1.0) -> None:
        """A disc of radius `size`; `flat` below 1 squeezes it into an ellipse."""
        cx, cy, radius = x * self.width, y * self.height, size * self.unit
        self.pen.ellipse((cx - radius, cy - radius * flat, cx + radius, cy + radius * flat), fill=_rgb(colour))

    def line(self, points: Sequence[tuple[float, float]], size: float, colour: Colour) -> None:
        width = max(1, round(size * self.unit))
        self.pen.line(self._points(points), fill=_rgb(colour), width=width, joint="curve")


class Pen:
    """Draws on a canvas in an object's own coordinates: origin at its foot, y up, unit = its height."""

    def __init__(self, canvas: Canvas, x: float, y: float, size: float):
        self.canvas, self.x, self.y, self.size = canvas, x, y, size
        self.dx = size * canvas.unit / canvas.width
        self.dy = size * canvas.unit / canvas.height

    def _place(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(self.x + u * self.dx, self.y - v * self.dy) for u, v in points]

    def polygon(self, points: Sequence[tuple[float, float]], colour: Colour) -> None:
        self.canvas.polygon(self._place(points), colour)

    def box(self, u0: float, v0: float, u1: float, v1: float, colour: Colour) -> None:
        self.polygon([(u0, v0), (u1, v0), (u1, v1), (u0, v1)], colour)

    def disc(self, u: float, v: float, radius: float, colour: Colour, *, flat: float = 1.0) -> None:
        ((x, y),) = self._place([(u, v)])
        self.canvas.disc(x, y, radius * self.size, colour, flat=flat)

    def line(self, points: Sequence[tuple[float, float]], width: float, colour: Colour) -> None:
        self.canvas.line(self._place(points), width * self.size, colour)

    def glow(self, u: float, v: float, radius: float, colour: Colour, strength: float) -> None:
        ((x, y),) = self._place([(u, v)])
        self.canvas.glow(x, y, size=radius * self.size, colour=colour, strength=strength)
