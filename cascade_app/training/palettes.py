"""Colours of the pocket world: what each colour word means, and the light of each time of day."""

from __future__ import annotations

from dataclasses import dataclass

from cascade_app.training.canvas import Colour, darker, lighter, mix

NAMED: dict[str, Colour] = {
    "red": (214, 48, 49),
    "orange": (240, 132, 38),
    "yellow": (250, 206, 60),
    "green": (62, 152, 78),
    "teal": (28, 162, 160),
    "blue": (48, 104, 208),
    "purple": (128, 70, 180),
    "pink": (240, 128, 170),
    "brown": (124, 80, 50),
    "black": (34, 34, 40),
    "white": (246, 244, 238),
    "grey": (142, 146, 154),
}

# The ground's own colour where the description names none.
TERRAIN_COLOURS: dict[str, Colour] = {
    "mountains": (84, 104, 140),
    "hills": (104, 160, 84),
    "desert": (226, 168, 96),
    "sea": (46, 122, 172),
    "snowfield": (226, 236, 246),
    "city": (92, 104, 134),
}


@dataclass(frozen=True)
class Light:
    """The light of one time of day."""

    sky: tuple[tuple[float, Colour], ...]  # (height in the sky 0 to 1, colour), zenith first
    haze: Colour  # what distance fades to
    body: Colour  # the sun's or moon's own colour
    glow: Colour
    tint: Colour  # what everything under it is shifted to
    tint_share: float
    night: bool  # windows are lit


LIGHTS: dict[str, Light] = {
    "dawn": Light(
        sky=((0.0, (138, 172, 222)), (0.5, (226, 196, 220)), (0.8, (250, 208, 204)), (1.0, (255, 228, 200))),
        haze=(244, 212, 214),
        body=(255, 244, 206),
        glow=(255, 236, 210),
        tint=(236, 196, 206),
        tint_share=0.16,
        night=False,
    ),
    "noon": Light(
        sky=((0.0, (56, 146, 226)), (0.6, (130, 198, 244)), (1.0, (222, 242, 250))),
        haze=(208, 232, 246),
        body=(255, 232, 120),
        glow=(255, 250, 220),
        tint=(255, 255, 255),
        tint_share=0.03,
        night=False,
    ),
    "sunset": Light(
        sky=((0.0, (112, 62, 138)), (0.4, (214, 84, 104)), (0.75, (250, 142, 76)), (1.0, (255, 208, 108))),
        haze=(252, 168, 104),
        body=(255, 236, 150),
        glow=(255, 220, 120),
        tint=(232, 110, 70),
        tint_share=0.20,
        night=False,
    ),
    "dusk": Light(
        sky=((0.0, (38, 44, 96)), (0.45, (78, 74, 140)), (0.8, (146, 108, 166)), (1.0, (216, 152, 176))),
        haze=(150, 120, 172),
        body=(250, 240, 226),
        glow=(220, 190, 220),
        tint=(72, 62, 128),
        tint_share=0.30,
        night=True,
    ),
    "night": Light(
        sky=((0.0, (10, 16, 46)), (0.6, (20, 40, 90)), (1.0, (48, 80, 136))),
        haze=(48, 78, 130),
        body=(246, 246, 230),
        glow=(150, 180, 230),
        tint=(12, 24, 62),
        tint_share=0.36,
        night=True,
    ),
}


def sky_stops(light: Light, named: str | None) -> tuple[tuple[float, Colour], ...]:
    """The sky's gradient; a named colour replaces its hue and keeps its brightness from top to horizon."""
    if named is None:
        return light.sky
    colour = NAMED[named]
    if light.night:
        colour = mix(colour, (14, 20, 52), 0.45)
    return ((0.0, darker(colour, 0.18)), (0.6, lighter(colour, 0.12)), (1.0, lighter(colour, 0.38)))


def under(light: Light, colour: Colour, share: float = 1.0) -> Colour:
    """`colour` as it looks in this light."""
    return mix(colour, light.tint, light.tint_share * share)
