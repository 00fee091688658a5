"""The ground of a landscape: six terrains in layers, each fading into the haze with its distance.

Every function draws on a Canvas and returns nothing; where objects may stand is `GROUND_Y`.
"""

from __future__ import annotations

import math
import random

from cascade_app.training.canvas import Canvas, Colour, darker, lighter, mix
from cascade_app.training.palettes import LIGHTS, under

HORIZON = 0.60  # where the sky ends
GROUND_Y = {"mountains": 0.86, "hills": 0.84, "desert": 0.85, "sea": 0.80, "snowfield": 0.84, "city": 0.90}

# Tops of a city's towers from left to right, those far away and those near; by time of day, which captions tell: the outlines
# of twenty towers are more than Stage C's latent can hold, and of skylines that no word tells apart it draws the mean.
SKYLINES = {
    "dawn": ((0.52, 0.44, 0.56, 0.40, 0.50, 0.46, 0.55), (0.62, 0.70, 0.56, 0.66, 0.72, 0.60)),
    "noon": ((0.55, 0.50, 0.42, 0.48, 0.56, 0.45, 0.51), (0.70, 0.58, 0.66, 0.74, 0.54, 0.64)),
    "sunset": ((0.46, 0.54, 0.49, 0.56, 0.43, 0.52, 0.47), (0.58, 0.66, 0.73, 0.62, 0.68, 0.55)),
    "dusk": ((0.50, 0.56, 0.45, 0.41, 0.53, 0.56, 0.48), (0.67, 0.61, 0.71, 0.57, 0.64, 0.73)),
}
SKYLINES["night"] = SKYLINES["noon"]


class Ground:
    """What the terrains need to know: the time of day and its light, the base colour and the scene's own dice."""

    def __init__(self, time: str, colour: Colour, rng: random.Random):
        self.time, self.light, self.colour, self.rng = time, LIGHTS[time], colour, rng

    def layer(self, depth: float) -> Colour:
        """The base colour at a depth, 0 in front to 1 at the horizon."""
        return mix(under(self.light, self.colour), self.light.haze, 0.72 * depth)


def wave(rng: random.Random, height: float, amplitude: float, bumps: float) -> list[tuple[float, float]]:
    """A smooth line across the picture from two sines."""
    phase, second = rng.random() * math.tau, rng.random() * math.tau
    return [
        (
            x,
            height
            - amplitude
            * (0.7 * math.sin(math.tau * bumps * x + phase) + 0.3 * math.sin(math.tau * bumps * 2.1 * x + second)),
        )
        for x in (i / 48 for i in range(-1, 50))
    ]


def below(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The area under a line, down to the lower edge."""
    return [*line, (line[-1][0], 1.02), (line[0][0], 1.02)]


def _fill(canvas: Canvas, line: list[tuple[float, float]], top: Colour, bottom: Colour) -> None:
    highest = min(y for _, y in line)
    canvas.area(below(line), [(highest, top), (min(1.0, highest + 0.34), bottom)])


def _peak(
    canvas: Canvas, x: float, top: float, half: float, *, lit: Colour, shade: Colour, snow: Colour | None, lean: float
) -> None:
    """One mountain: a lit and a shaded face, perhaps a snow cap with a zigzag edge."""
    foot = 0.80
    ridge = x + lean * half
    canvas.polygon([(x - half, foot), (x, top), (x + half, foot)], lit)
    bend = top + 0.45 * (foot - top)
    canvas.polygon([(x, top), (x + half, foot), (ridge - 0.16 * half, foot), (ridge + 0.14 * half, bend)], shade)
    if snow is None:
        return
    cap, drop = 0.34, foot - top

    def on_slope(share: float, side: float) -> tuple[float, float]:
        return x + side * half * share, top + drop * share

    middle = ridge * 0.4 + x * 0.6
    zigzag = [
        on_slope(cap, -1),
        (x - half * 0.16, top + drop * cap * 0.72),
        (x - half * 0.06, top + drop * cap * 1.12),
        (middle, top + drop * cap * 0.70),
    ]
    right = [
        (middle, top + drop * cap * 0.70),
        (x + half * 0.12, top + drop * cap * 1.08),
        (x + half * 0.20, top + drop * cap * 0.74),
        on_slope(cap, 1),
    ]
    canvas.polygon([(x, top), *zigzag], snow)
    canvas.polygon([(x, top), *right], mix(snow, shade, 0.38))


def mountains(canvas: Canvas, ground: Ground) -> None:
    rng = ground.rng
    lean = rng.choice((-0.3, 0.3))
    far = ground.layer(0.85)
    for i in range(5):
        x = (i + 0.5) / 5 + rng.uniform(-0.06, 0.06)
        _peak(canvas, x, rng.uniform(0.44, 0.52), 0.24, lit=far, shade=darker(far, 0.06), snow=None, lean=lean)
    body = ground.layer(0.30)
    snow = under(ground.light, (250, 250, 252), 0.6)
    places = rng.choice(((0.24, 0.74), (0.32, 0.86), (0.14, 0.62), (0.5, 0.02, 0.98)))
    for i, x in enumerate(places):
        top = rng.uniform(0.30, 0.36) if i == 0 else rng.uniform(0.38, 0.46)
        half = (0.86 - top) * rng.uniform(0.62, 0.72)
        _peak(canvas, x + rng.uniform(-0.03, 0.03), top, half, lit=body, shade=darker(body, 0.24), snow=snow, lean=lean)
    mist = mix(body, ground.light.haze, 0.55)
    _fill(canvas, wave(rng, 0.73, 0.015, 1.3), mist, body)
    front = darker(ground.layer(0.0), 0.28)
    _fill(canvas, wave(rng, 0.81, 0.022, 0.9), mix(front, body, 0.35), front)


def hills(canvas: Canvas, ground: Ground) -> None:
    rng = ground.rng
    for depth, height, amplitude, bumps in (
        (0.9, 0.57, 0.035, 1.3),
        (0.62, 0.63, 0.045, 1.0),
        (0.34, 0.71, 0.045, 0.8),
    ):
        colour = ground.layer(depth)
        _fill(canvas, wave(rng, height, amplitude, bumps), lighter(colour, 0.10), darker(colour, 0.10))
    colour = ground.layer(0.0)
    _fill(canvas, wave(rng, 0.80, 0.03, 0.7), lighter(colour, 0.06), darker(colour, 0.26))


def desert(canvas: Canvas, ground: Ground) -> None:
    rng = ground.rng
    mesa = mix(under(ground.light, mix(ground.colour, (170, 84, 60), 0.45)), ground.light.haze, 0.45)
    x = rng.choice((0.2, 0.5, 0.8)) + rng.uniform(-0.05, 0.05)
    canvas.polygon(
        [(x - 0.20, 0.64), (x - 0.15, 0.50), (x + 0.08, 0.50), (x + 0.11, 0.55), (x + 0.17, 0.55), (x + 0.22, 0.64)],
        mesa,
    )
    canvas.polygon(
        [(x + 0.02, 0.50), (x + 0.08, 0.50), (x + 0.11, 0.55), (x + 0.17, 0.55), (x + 0.22, 0.64), (x + 0.07, 0.64)],
        darker(mesa, 0.16),
    )
    for depth, height, swing in ((0.6, 0.62, 1), (0.3, 0.70, -1), (0.0, 0.80, 1)):
        colour = ground.layer(depth)
        crest = 0.5 + swing * rng.uniform(0.12, 0.30)
        line = [
            (u, height - 0.055 * math.exp(-(((u - crest) / 0.22) ** 2)) + 0.02 * math.sin(3 * u + depth * 9))
            for u in (i / 40 for i in range(-1, 42))
        ]
        _fill(canvas, line, lighter(colour, 0.12), colour)
        # The face turned from the light, from the crest down to a curved foot.
        top = min(line, key=lambda p: p[1])
        side = [p for p in line if (p[0] >= top[0] if swing > 0 else p[0] <= top[0])]
        side.sort(key=lambda p: abs(p[0] - top[0]))
        end = side[-1]
        foot = [
            (end[0], 1.02 if depth == 0 else end[1] + 0.10),
            (top[0] + swing * 0.16, height + 0.11),
            (top[0] + swing * 0.02, height + 0.03),
        ]
        canvas.polygon([*side, *foot], darker(colour, 0.17))


def sea(canvas: Canvas, ground: Ground, *, body: tuple[float, float, float, Colour] | None) -> None:
    """Water to the horizon; `body` is the sun's or moon's (x, y, size, colour), which lays a path of light."""
    rng = ground.rng
    base = under(ground.light, ground.colour, 0.8)
    line = [(-0.01, HORIZON), (1.01, HORIZON)]
    canvas.area(below(line), [(HORIZON, mix(base, ground.light.haze, 0.45)), (0.72, base), (1.0, darker(base, 0.36))])
    if rng.random() < 0.5:
        x = rng.choice((0.12, 0.86))
        island = ground.layer(0.62)
        canvas.polygon(
            [(x - 0.16, HORIZON), (x - 0.05, HORIZON - 0.05), (x + 0.04, HORIZON - 0.03), (x + 0.15, HORIZON)],
            darker(mix(island, ground.light.haze, 0.3), 0.12),
        )
    for i in range(6):
        y = HORIZON + 0.03 + 0.062 * i
        shift = rng.random()
        for k in range(3):
            x = (shift + k / 3) % 1.0
            half = 0.03 + 0.012 * i
            canvas.polygon(
                [(x - half, y), (x, y - 0.003), (x + half, y), (x, y + 0.003)], mix(base, ground.light.haze, 0.42)
            )
    if body is None:
        return
    x, _, size, colour = body
    path = mix(colour, ground.light.glow, 0.3)
    for i in range(8):
        y = HORIZON + 0.012 + 0.044 * i
        half = size * (1.0 - 0.06 * i) * (0.8 + 0.35 * ((i * 7) % 3)) * canvas.unit / canvas.width
        canvas.polygon(
            [
                (x - half, y),
                (x - half * 0.6, y - 0.008),
                (x + half * 0.7, y - 0.008),
                (x + half, y),
                (x + half * 0.5, y + 0.008),
                (x - half * 0.8, y + 0.008),
            ],
            mix(path, base, 0.10 + 0.07 * i),
        )


def snowfield(canvas: Canvas, ground: Ground) -> None:
    rng = ground.rng
    far = mix(under(ground.light, (150, 176, 206)), ground.light.haze, 0.45)
    for i in range(3):
        x = (i + 0.5) / 3 + rng.uniform(-0.1, 0.1)
        _peak(canvas, x, rng.uniform(0.47, 0.53), 0.26, lit=lighter(far, 0.2), shade=far, snow=None, lean=0.3)
    for depth, height, amplitude, bumps in ((0.5, 0.62, 0.020, 1.1), (0.22, 0.70, 0.028, 0.9), (0.0, 0.79, 0.026, 0.7)):
        colour = ground.layer(depth)
        shade = mix(colour, under(ground.light, (120, 150, 200)), 0.34)
        _fill(canvas, wave(rng, height, amplitude, bumps), colour, shade)


def city(canvas: Canvas, ground: Ground) -> None:
    lamp = (255, 222, 130)
    for depth, towers in zip((0.62, 0.12), SKYLINES[ground.time], strict=True):
        colour = ground.layer(depth)
        step = 1.0 / len(towers)
        for i, top in enumerate(towers):
            width = step * (0.86 if depth < 0.5 else 0.94)
            x = (i + 0.5) * step - width / 2
            tone = darker(colour, (0.0, 0.14, 0.07)[i % 3])
            canvas.polygon([(x, 0.86), (x, top), (x + width, top), (x + width, 0.86)], tone)
            if depth > 0.5:
                if top == min(towers):
                    _spire(canvas, x + width / 2, top, tone)
                continue
            _windows(canvas, (x, top, width), lamp if ground.light.night else lighter(tone, 0.34), i)
    front = darker(ground.layer(0.0), 0.42)
    canvas.area(below([(-0.01, 0.84), (1.01, 0.84)]), [(0.84, front), (1.0, darker(front, 0.3))])


def _spire(canvas: Canvas, x: float, top: float, tone: Colour) -> None:
    canvas.polygon([(x - 0.012, top), (x, top - 0.09), (x + 0.012, top)], tone)


def _windows(canvas: Canvas, box: tuple[float, float, float], colour: Colour, which: int) -> None:
    """Panes in rows that all towers share, some of them dark."""
    x, top, width = box
    wide, high = 0.22 * width, 0.026
    for row in range(8):
        y = 0.80 - 0.052 * row
        if y < top + 0.025:
            return
        for column in range(2):
            if (row * 3 + column * 2 + which) % 4 == 0:
                continue
            left = x + width * (0.19 + 0.40 * column)
            canvas.polygon([(left, y), (left + wide, y), (left + wide, y + high), (left, y + high)], colour)
