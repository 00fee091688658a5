"""Draws a description from world.py: anti-aliased flat-vector posters and icons at any size.

`render(scene, width_px, height_px)` is deterministic: everything not in the description (the outline of a hill,
on which side the birds are) comes from dice seeded with the description's own seed. What has a shape of its own, a sun,
a house, an icon's circle, stands exactly where the description puts it: a place that nobody has named is one more thing which
the cells of Stage C's latent have to agree on. What is small and many, stars, snowflakes, lit windows, stands where it always
stands: Stage C's latent has no room for the places of thirty stars, and Stage B, which had to make them up, drew fog instead.
Knows nothing of sentences.
"""

from __future__ import annotations

import math
import random

import numpy as np

from cascade_app.training import objects, terrain
from cascade_app.training.canvas import Canvas, Colour, Pen, darker, lighter, luminance, mix
from cascade_app.training.palettes import LIGHTS, NAMED, TERRAIN_COLOURS, Light, sky_stops, under
from cascade_app.training.world import Icon, Landscape, Scene

COLUMNS = {"left": 0.23, "centre": 0.5, "right": 0.77}
CLOUDS = ((0.17, 0.17, 1.0), (0.52, 0.13, 0.85), (0.83, 0.21, 1.1))  # x, y, size


def _scattered(count: int, seed: str, height: float) -> list[tuple[float, float]]:
    """Places (x, y) in a band of that height, none near another: of some dice's throws always the one with most room."""
    rng, places = random.Random(seed), [(0.05, 0.05)]
    while len(places) < count:
        thrown = [(rng.uniform(0.01, 0.99), rng.uniform(0.01, 0.99) * height) for _ in range(6)]
        places.append(max(thrown, key=lambda at: min(math.dist(at, other) for other in places)))
    return places


STARS = _scattered(30, "stars", 0.56)
FLAKES = _scattered(44, "snow", 1.0)


def render(scene: Scene, width_px: int = 256, height_px: int = 256) -> np.ndarray:
    """The picture of a scene, (height_px, width_px, 3) uint8."""
    canvas = Canvas(width_px, height_px)
    rng = random.Random(f"pixels/{scene.seed}")
    if isinstance(scene, Icon):
        _icon(canvas, scene)
    else:
        _landscape(canvas, scene, rng)
    return canvas.finish()


def _landscape(canvas: Canvas, scene: Landscape, rng: random.Random) -> None:
    light = LIGHTS[scene.time]
    horizon = terrain.HORIZON + (0.04 if scene.terrain != "sea" else 0.0)
    canvas.sky([(y * horizon, colour) for y, colour in sky_stops(light, scene.sky_colour)])
    if "stars" in scene.weather:
        _specks(canvas, STARS, (0.0042, 0.0055, 0.0085), (240, 244, 255))
    body = _body(canvas, scene, light)
    if "clouds" in scene.weather:
        _clouds(canvas, light, rng)
    if "birds" in scene.weather:
        _birds(canvas, light, rng)
    colour = NAMED[scene.terrain_colour] if scene.terrain_colour else TERRAIN_COLOURS[scene.terrain]
    ground = terrain.Ground(scene.time, colour, rng)
    if scene.terrain == "sea":
        terrain.sea(canvas, ground, body=body)
    else:
        getattr(terrain, scene.terrain)(canvas, ground)
    if scene.object:
        _object(canvas, scene, light, ground)
    if "snow" in scene.weather:
        _specks(canvas, FLAKES, (0.007, 0.010), under(light, (255, 255, 255), 0.3))


def _specks(canvas: Canvas, places: list[tuple[float, float]], sizes: tuple[float, ...], colour: Colour) -> None:
    for i, (x, y) in enumerate(places):
        canvas.disc(x, y, sizes[i % len(sizes)], colour)


def _body(canvas: Canvas, scene: Landscape, light: Light):
    """The sun or the moon; returns (x, y, size, colour), or None without one."""
    if scene.body is None:
        return None
    x = COLUMNS[scene.body_position]
    if scene.body == "moon":
        y, size = 0.20, 0.085
        colour = mix(NAMED[scene.body_colour], (255, 255, 255), 0.1) if scene.body_colour else light.body
    else:
        y = {"noon": 0.17, "dawn": 0.40, "sunset": 0.42}.get(scene.time, 0.4)
        size = 0.085 if scene.time == "noon" else 0.12
        colour = NAMED[scene.body_colour] if scene.body_colour else light.body
    glow = mix(light.glow, colour, 0.4) if scene.body_colour else light.glow
    canvas.glow(x, y, size=size * 3.2, colour=glow, strength=0.55 if scene.body == "moon" else 0.75)
    if scene.body == "moon" and scene.seed % 2:
        _crescent(canvas, x, y, size, colour)
    else:
        canvas.disc(x, y, size, colour)
        if scene.body == "moon":
            for u, v, r in ((-0.3, -0.25, 0.2), (0.3, 0.15, 0.26), (-0.15, 0.45, 0.15)):
                canvas.disc(
                    x + u * size * canvas.unit / canvas.width,
                    y + v * size * canvas.unit / canvas.height,
                    r * size,
                    darker(colour, 0.12),
                )
    return x, y, size, colour


def _crescent(canvas: Canvas, x: float, y: float, size: float, colour: Colour) -> None:
    dx, dy = size * canvas.unit / canvas.width, size * canvas.unit / canvas.height
    outer = [(math.cos(a), math.sin(a)) for a in (math.radians(55 + 250 * i / 40) for i in range(41))]
    start, end = outer[0], outer[-1]
    inner = []
    for i in range(31):  # an arc of a smaller circle back from tip to tip
        t = i / 30
        angle = math.radians(305 - 250 * t)
        inner.append((0.42 + 0.83 * math.cos(angle) * 0.98, 0.92 * math.sin(angle)))
    inner = [p for p in inner if p[0] < start[0]]
    points = [*outer, end, *inner, start]
    canvas.polygon([(x + u * dx, y + v * dy) for u, v in points], colour)


def _clouds(canvas: Canvas, light: Light, rng: random.Random) -> None:
    colour = mix(light.haze, (255, 255, 255), 0.12 if light.night else 0.55)
    for x, y, scale in rng.sample(CLOUDS, 2):
        size = scale * canvas.unit / canvas.width
        for u, radius in ((-0.075, 0.032), (-0.02, 0.05), (0.045, 0.038)):
            canvas.disc(x + u * size, y - radius * 0.5 * canvas.unit / canvas.height, radius, colour)
        half, thick = 0.125 * size, 0.018 * canvas.unit / canvas.height
        canvas.polygon(
            [
                (x - half, y),
                (x - half + 0.02, y - thick),
                (x + half - 0.03, y - thick),
                (x + half, y),
                (x + half - 0.02, y + thick),
                (x - half + 0.02, y + thick),
            ],
            colour,
        )


def _birds(canvas: Canvas, light: Light, rng: random.Random) -> None:
    x, y = rng.choice((0.3, 0.62)), 0.25
    ink = mix((30, 30, 46), light.haze, 0.15)
    for u, v in ((0, 0), (0.08, -0.05), (0.15, 0.02)):
        wing = 0.032 * canvas.unit / canvas.width
        rise = 0.020 * canvas.unit / canvas.height
        cx, cy = x + u, y + v
        canvas.line(
            [
                (cx - wing, cy - rise),
                (cx - wing * 0.4, cy - rise * 1.1),
                (cx, cy),
                (cx + wing * 0.4, cy - rise * 1.1),
                (cx + wing, cy - rise),
            ],
            0.010,
            ink,
        )


def _object(canvas: Canvas, scene: Landscape, light: Light, ground: terrain.Ground) -> None:
    thing = scene.object
    x, y, size = COLUMNS[scene.object_position], terrain.GROUND_Y[scene.terrain], objects.HEIGHT[thing]
    paint = objects.Paint(NAMED[scene.object_colour], light)
    if thing == "balloon":
        y = 0.54
    elif thing == "sailboat":
        _reflection(canvas, x, y, paint.main, size)
    elif scene.terrain == "sea":
        y = 0.79
        size *= 0.92
        _island(canvas, x, y, light, rock=thing == "lighthouse")
    else:
        _shadow(canvas, x, y, size, scene, ground)
    objects.DRAW[thing](Pen(canvas, x, y, size), paint)


def _shadow(canvas: Canvas, x: float, y: float, size: float, scene: Landscape, ground: terrain.Ground) -> None:
    """A long shadow, away from the sun or moon."""
    colour = darker(ground.layer(0.0), 0.5)
    away = {"left": 1.0, "right": -1.0}.get(scene.body_position, 0.0) if scene.body else 0.0
    reach = 0.55 if scene.time in ("dawn", "sunset") else 0.3
    dx, dy = size * canvas.unit / canvas.width, size * canvas.unit / canvas.height
    half = 0.42 * dx
    canvas.disc(x, y, 0.46 * size, mix(ground.layer(0.0), colour, 0.8), flat=0.12)
    if not away:
        return
    canvas.polygon(
        [
            (x - half, y - 0.012),
            (x + half, y - 0.012),
            (x + half * 0.7 + away * reach * dx, y + 0.12 * dy),
            (x - half * 0.7 + away * reach * dx, y + 0.12 * dy),
        ],
        colour,
    )


def _island(canvas: Canvas, x: float, y: float, light: Light, *, rock: bool) -> None:
    dx, dy = canvas.unit / canvas.width, canvas.unit / canvas.height
    base = under(light, (104, 92, 90) if rock else (206, 176, 120))
    low = y + 0.075 * dy
    canvas.polygon(
        [
            (x - 0.25 * dx, low),
            (x - 0.18 * dx, y + 0.02 * dy),
            (x - 0.10 * dx, y - 0.012 * dy),
            (x + 0.11 * dx, y - 0.012 * dy),
            (x + 0.19 * dx, y + 0.03 * dy),
            (x + 0.26 * dx, low),
        ],
        base,
    )
    canvas.polygon(
        [
            (x + 0.02 * dx, y - 0.012 * dy),
            (x + 0.11 * dx, y - 0.012 * dy),
            (x + 0.19 * dx, y + 0.03 * dy),
            (x + 0.26 * dx, low),
            (x + 0.05 * dx, low),
        ],
        darker(base, 0.25),
    )
    canvas.polygon(
        [
            (x - 0.29 * dx, low),
            (x + 0.30 * dx, low),
            (x + 0.24 * dx, low + 0.014 * dy),
            (x - 0.23 * dx, low + 0.014 * dy),
        ],
        mix(under(light, (240, 248, 250)), base, 0.2),
    )


def _reflection(canvas: Canvas, x: float, y: float, colour: Colour, size: float) -> None:
    dx = size * canvas.unit / canvas.width
    dy = size * canvas.unit / canvas.height
    for i in range(3):
        half, level = dx * (0.30 - 0.07 * i), y + dy * (0.12 + 0.10 * i)
        canvas.polygon(
            [(x - half, level), (x, level - 0.006), (x + half, level), (x, level + 0.006)],
            mix(colour, (40, 60, 90), 0.35),
        )


def _icon(canvas: Canvas, scene: Icon) -> None:
    background = NAMED[scene.background]
    canvas.sky([(0.0, lighter(background, 0.07)), (1.0, darker(background, 0.07))])
    if scene.relation is None:
        x = {"left": 0.28, "centre": 0.5, "right": 0.72}[scene.position]
        size = {"small": 0.12, "medium": 0.19, "large": 0.27}[scene.size]
        if scene.position != "centre":
            size = min(size, 0.22)
        _shape(canvas, scene.shape, x, 0.5, size, NAMED[scene.colour], background)
        return
    first, second = {
        "above": ((0.5, 0.27), (0.5, 0.73)),
        "below": ((0.5, 0.73), (0.5, 0.27)),
        "beside": ((0.28, 0.5), (0.72, 0.5)),
    }[scene.relation]
    for (x, y), shape, colour in ((second, scene.other_shape, scene.other_colour), (first, scene.shape, scene.colour)):
        _shape(canvas, shape, x, y, 0.165, NAMED[colour], background)


def _outline(shape: str, size: float) -> list[tuple[float, float]]:
    """Corners around the origin, y down, of about equal visual weight."""
    if shape == "circle":
        return [(size * math.cos(a), size * math.sin(a)) for a in (math.tau * i / 72 for i in range(72))]
    if shape == "square":
        s = size * 0.88
        return [(-s, -s), (s, -s), (s, s), (-s, s)]
    if shape == "triangle":
        return [(0, -1.05 * size), (1.1 * size, 0.85 * size), (-1.1 * size, 0.85 * size)]
    if shape == "diamond":
        return [(0, -1.25 * size), (0.82 * size, 0), (0, 1.25 * size), (-0.82 * size, 0)]
    return [
        (
            (1.18 if i % 2 == 0 else 0.50) * size * math.sin(math.pi * i / 5),
            (-1.18 if i % 2 == 0 else -0.50) * size * math.cos(math.pi * i / 5) + 0.08 * size,
        )
        for i in range(10)
    ]


def _shape(canvas: Canvas, shape: str, x: float, y: float, size: float, colour: Colour, background: Colour) -> None:
    dx, dy = canvas.unit / canvas.width, canvas.unit / canvas.height
    corners = _outline(shape, size)
    shadow = darker(background, 0.30 if luminance(background) > 0.2 else 0.55)
    drop = 0.028
    canvas.polygon([(x + (u + drop) * dx, y + (v + drop) * dy) for u, v in corners], shadow)
    canvas.polygon([(x + u * dx, y + v * dy) for u, v in corners], colour)
