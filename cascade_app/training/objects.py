"""The nine things that stand in a landscape, drawn in their own coordinates: foot at (0, 0), height 1."""

from __future__ import annotations

import math

from cascade_app.training.canvas import Colour, Pen, darker, lighter, luminance, mix
from cascade_app.training.palettes import Light, under

LAMP: Colour = (255, 224, 120)


class Paint:
    """The colours of one object in one light: `main` is the named one."""

    def __init__(self, colour: Colour, light: Light):
        self.light = light
        self.main = under(light, colour, 0.55)
        self.shade = darker(self.main, 0.24)
        self.bright = lighter(self.main, 0.28)
        pale = luminance(colour) > 0.62
        self.roof = under(light, (128, 52, 46) if pale else (66, 52, 58), 0.7)
        self.trim = under(light, (204, 60, 54) if pale else (246, 242, 234), 0.6)
        self.wood = under(light, (112, 74, 48), 0.8)
        self.window = LAMP if light.night else under(light, (70, 96, 128), 0.6)

    def of(self, colour: Colour) -> Colour:
        return under(self.light, colour, 0.7)


def _window(pen: Pen, paint: Paint, u: float, v: float, size: float) -> None:
    if paint.light.night:
        pen.glow(u, v, size * 2.6, LAMP, 0.55)
    pen.box(u - size / 2, v - size / 2, u + size / 2, v + size / 2, paint.window)


def pine_trees(pen: Pen, paint: Paint) -> None:
    for u, height in ((-0.36, 0.74), (0.38, 0.64), (0.0, 1.0)):
        pen.box(u - 0.035, 0, u + 0.035, 0.2 * height, paint.wood)
        for low, high, half in ((0.12, 0.55, 0.27), (0.36, 0.78, 0.22), (0.58, 1.0, 0.16)):
            half *= height
            pen.polygon([(u - half, low * height), (u, high * height), (u + half, low * height)], paint.main)
            pen.polygon([(u, high * height), (u + half, low * height), (u + half * 0.1, low * height)], paint.shade)


def house(pen: Pen, paint: Paint) -> None:
    pen.box(0.20, 0.66, 0.31, 0.98, paint.shade)
    pen.box(-0.44, 0, 0.44, 0.58, paint.main)
    pen.box(0.16, 0, 0.44, 0.58, paint.shade)
    pen.polygon([(-0.54, 0.56), (-0.26, 0.94), (0.26, 0.94), (0.54, 0.56)], paint.roof)
    pen.polygon([(0.10, 0.56), (0.26, 0.94), (0.54, 0.56)], darker(paint.roof, 0.25))
    pen.box(-0.09, 0, 0.09, 0.32, darker(paint.roof, 0.1))
    _window(pen, paint, -0.27, 0.34, 0.15)
    _window(pen, paint, 0.29, 0.34, 0.15)


def cabin(pen: Pen, paint: Paint) -> None:
    pen.box(0.30, 0.5, 0.42, 0.92, paint.of((110, 108, 112)))
    pen.box(-0.62, 0, 0.62, 0.42, paint.main)
    for k in range(1, 5):
        pen.line([(-0.62, 0.084 * k), (0.62, 0.084 * k)], 0.014, paint.shade)
    pen.polygon([(-0.76, 0.38), (-0.08, 0.82), (0.08, 0.82), (0.76, 0.38)], paint.roof)
    pen.polygon([(-0.76, 0.38), (-0.72, 0.44), (-0.06, 0.86), (0.06, 0.86), (0.0, 0.80)], lighter(paint.roof, 0.16))
    pen.polygon([(-0.30, 0.40), (0.0, 0.66), (0.30, 0.40)], paint.bright)
    pen.box(-0.10, 0, 0.10, 0.31, darker(paint.roof, 0.1))
    _window(pen, paint, -0.36, 0.22, 0.16)
    _window(pen, paint, 0.36, 0.22, 0.16)


def sailboat(pen: Pen, paint: Paint) -> None:
    pen.line([(0.02, 0.1), (0.02, 1.0)], 0.022, paint.wood)
    pen.polygon([(0.05, 0.98), (0.05, 0.22), (0.52, 0.22)], paint.main)
    pen.polygon([(0.05, 0.98), (0.05, 0.22), (0.24, 0.22)], paint.bright)
    pen.polygon([(-0.02, 0.86), (-0.02, 0.22), (-0.40, 0.22)], paint.shade)
    hull = paint.of((120, 70, 48))
    pen.polygon([(-0.52, 0.16), (0.58, 0.16), (0.40, -0.02), (-0.38, -0.02)], hull)
    pen.polygon([(-0.52, 0.16), (0.58, 0.16), (0.54, 0.115), (-0.48, 0.115)], paint.of((246, 240, 230)))
    pen.polygon([(-0.44, -0.05), (0.46, -0.05), (0.30, -0.075), (-0.30, -0.075)], darker(hull, 0.35))


def lighthouse(pen: Pen, paint: Paint) -> None:
    if paint.light.night:
        for side in (-1, 1):
            pen.polygon([(0, 0.86), (side * 0.95, 0.99), (side * 0.95, 0.75)], mix(paint.light.haze, LAMP, 0.42))

    def half(v: float) -> float:
        return 0.20 - 0.085 * v

    def band(v0: float, v1: float, colour: Colour, shade: Colour) -> None:
        pen.polygon([(-half(v0), v0), (half(v0), v0), (half(v1), v1), (-half(v1), v1)], colour)
        pen.polygon([(half(v0) * 0.3, v0), (half(v0), v0), (half(v1), v1), (half(v1) * 0.3, v1)], shade)

    band(0, 0.78, paint.main, paint.shade)
    band(0.52, 0.60, paint.trim, darker(paint.trim, 0.2))
    band(0.20, 0.28, paint.trim, darker(paint.trim, 0.2))
    pen.box(-0.17, 0.77, 0.17, 0.80, paint.roof)
    pen.box(-0.09, 0.80, 0.09, 0.91, LAMP if paint.light.night else paint.of((190, 220, 236)))
    pen.polygon([(-0.13, 0.91), (0, 1.02), (0.13, 0.91)], paint.roof)
    pen.box(-0.045, 0, 0.045, 0.12, paint.roof)
    if paint.light.night:
        pen.glow(0, 0.86, 0.26, LAMP, 0.8)


def windmill(pen: Pen, paint: Paint) -> None:
    pen.polygon([(-0.24, 0), (0.24, 0), (0.14, 0.62), (-0.14, 0.62)], paint.main)
    pen.polygon([(0.06, 0), (0.24, 0), (0.14, 0.62), (0.04, 0.62)], paint.shade)
    pen.polygon([(-0.18, 0.61), (-0.10, 0.76), (0.10, 0.76), (0.18, 0.61)], paint.roof)
    pen.box(-0.06, 0, 0.06, 0.18, paint.roof)
    _window(pen, paint, 0, 0.42, 0.09)
    sail = paint.of((250, 246, 236))
    for k in range(4):
        angle = math.radians(28 + 90 * k)
        cos, sin = math.cos(angle), math.sin(angle)
        pen.line([(0, 0.66), (cos * 0.47, 0.66 + sin * 0.47)], 0.022, paint.wood)
        corners = [(0.12, 0.012), (0.47, 0.012), (0.47, 0.115), (0.12, 0.115)]
        pen.polygon([(cos * a - sin * b, 0.66 + sin * a + cos * b) for a, b in corners], sail)
    pen.disc(0, 0.66, 0.035, paint.wood)


def cactus(pen: Pen, paint: Paint) -> None:
    def limb(points: list[tuple[float, float]], width: float) -> None:
        pen.line(points, width, paint.main)
        for u, v in points:
            pen.disc(u, v, width / 2, paint.main)

    limb([(0, 0.0), (0, 0.90)], 0.20)
    limb([(0, 0.34), (-0.30, 0.40), (-0.30, 0.68)], 0.13)
    limb([(0, 0.46), (0.30, 0.52), (0.30, 0.82)], 0.13)
    for u, low, high in ((0.045, 0.04, 0.90), (-0.27, 0.44, 0.66), (0.33, 0.55, 0.80)):
        pen.line([(u, low), (u, high)], 0.03, paint.shade)
    pen.line([(-0.045, 0.04), (-0.045, 0.90)], 0.03, paint.bright)


def tent(pen: Pen, paint: Paint) -> None:
    if paint.light.night:
        pen.glow(0, 0.25, 0.8, LAMP, 0.45)
    pen.polygon([(-0.72, 0), (0.0, 0.80), (0.72, 0)], paint.main)
    pen.polygon([(0.0, 0.80), (0.72, 0), (0.30, 0)], paint.shade)
    pen.polygon([(-0.72, 0), (-0.56, 0), (0.0, 0.80)], paint.bright)
    pen.polygon([(-0.22, 0), (0.0, 0.52), (0.22, 0)], LAMP if paint.light.night else paint.of((52, 44, 48)))
    pen.line([(0.0, 0.80), (0.0, 0.90)], 0.025, paint.wood)


def balloon(pen: Pen, paint: Paint) -> None:
    pen.line([(-0.10, 0.13), (-0.22, 0.40)], 0.014, paint.wood)
    pen.line([(0.10, 0.13), (0.22, 0.40)], 0.014, paint.wood)
    pen.box(-0.10, 0, 0.10, 0.14, paint.wood)

    def slice_at(low: float, high: float, colour: Colour) -> None:
        """A gore of the envelope between two fractions of its half width."""
        left, right = [], []
        for i in range(25):
            angle = math.pi * i / 24
            v = 0.66 + 0.34 * math.cos(angle) * (1.0 if angle < math.pi / 2 else 0.98)
            half = 0.36 * math.sin(angle) ** (1.0 if angle < math.pi / 2 else 0.82) + (0.07 if angle > 3 else 0)
            left.append((half * low, v))
            right.append((half * high, v))
        pen.polygon([*left, *reversed(right)], colour)

    slice_at(-1.0, 1.0, paint.main)
    slice_at(0.55, 1.0, paint.shade)
    slice_at(-0.85, -0.5, paint.bright)
    slice_at(-0.17, 0.20, paint.bright)
    pen.box(-0.12, 0.31, 0.12, 0.35, paint.shade)


DRAW = {
    "pine trees": pine_trees,
    "house": house,
    "cabin": cabin,
    "sailboat": sailboat,
    "lighthouse": lighthouse,
    "windmill": windmill,
    "cactus": cactus,
    "tent": tent,
    "balloon": balloon,
}
# Height as a fraction of the picture's shorter side.
HEIGHT = {
    "pine trees": 0.42,
    "house": 0.34,
    "cabin": 0.30,
    "sailboat": 0.38,
    "lighthouse": 0.50,
    "windmill": 0.44,
    "cactus": 0.36,
    "tent": 0.31,
    "balloon": 0.38,
}
