"""What the pocket world is made of: its vocabulary, and one seeded description per picture.

Owns the words (colours, times of day, terrains, objects, shapes), the rules about what goes with what,
and the combinations held out from training. Knows nothing of pixels (scenes.py) or sentences (captions.py).
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

DATA_VERSION = "3"

COLOURS = ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink", "brown", "black", "white", "grey")
TIMES = ("dawn", "noon", "sunset", "dusk", "night")
TERRAINS = ("mountains", "hills", "desert", "sea", "snowfield", "city")
OBJECTS = ("pine trees", "house", "cabin", "sailboat", "lighthouse", "windmill", "cactus", "tent", "balloon")
BODIES = ("sun", "moon")
POSITIONS = ("left", "centre", "right")
WEATHERS = ("clouds", "birds", "snow", "stars")
SHAPES = ("circle", "square", "triangle", "star", "diamond")
RELATIONS = ("above", "below", "beside")
SIZES = ("small", "medium", "large")

# What an object looks like when nobody names its colour.
NATURAL_COLOURS = {
    "pine trees": ("green", "teal"),
    "house": ("white", "red", "yellow", "orange"),
    "cabin": ("brown", "red", "orange"),
    "sailboat": ("white", "red", "orange"),
    "lighthouse": ("white", "red", "blue"),
    "windmill": ("white", "brown", "grey"),
    "cactus": ("green", "teal"),
    "tent": ("orange", "yellow", "red", "green"),
    "balloon": ("red", "orange", "purple", "blue", "yellow", "pink"),
}
# What a shape looks like when nobody names its colour (of two, Stage C drew the mean), and what it then lies on.
ICON_COLOURS = {
    "circle": ("red",),
    "square": ("blue",),
    "triangle": ("orange",),
    "star": ("yellow",),
    "diamond": ("purple",),
}
NEUTRAL_BACKGROUNDS = ("white", "grey", "black")
# Objects that suit a terrain are drawn there more often; every other pairing still occurs.
AT_HOME = {
    "mountains": ("pine trees", "cabin", "tent", "balloon", "house"),
    "hills": ("windmill", "house", "pine trees", "balloon", "tent", "lighthouse"),
    "desert": ("cactus", "tent", "balloon", "cactus"),
    "sea": ("sailboat", "lighthouse", "sailboat", "lighthouse", "balloon"),
    "snowfield": ("cabin", "pine trees", "tent", "house", "windmill"),
    "city": ("balloon", "pine trees", "house", "lighthouse"),
}
BODY_COLOURS = {"sun": ("yellow", "orange", "red", "white", "pink"), "moon": ("white", "yellow", "orange", "blue")}


@dataclass(frozen=True)
class Landscape:
    """A poster landscape. A `None` colour means the natural one, which captions do not name."""

    seed: int
    time: str
    terrain: str
    terrain_colour: str | None
    sky_colour: str | None
    body: str | None
    body_colour: str | None
    body_position: str
    object: str | None
    object_colour: str | None  # always set when there is an object
    object_position: str
    weather: tuple[str, ...]

    kind = "landscape"


@dataclass(frozen=True)
class Icon:
    """One or two flat shapes on a plain background."""

    seed: int
    background: str
    shape: str
    colour: str
    size: str
    position: str  # of a single shape; "centre" when there are two
    relation: str | None
    other_shape: str | None
    other_colour: str | None

    kind = "icon"


Scene = Landscape | Icon


def _share(*words: str) -> float:
    """A fixed number in [0, 1) that belongs to these words."""
    return int(hashlib.sha256("/".join(words).encode()).hexdigest()[:8], 16) / 2**32


def is_held_out(scene: Scene) -> bool:
    """Whether training must never see this combination: (terrain, time, object) or (colour, shape)."""
    if isinstance(scene, Landscape):
        return scene.object is not None and _share("scene", scene.terrain, scene.time, scene.object) < 0.10
    pairs = [(scene.colour, scene.shape), (scene.other_colour, scene.other_shape)]
    return any(colour is not None and _share("icon", colour, shape) < 0.10 for colour, shape in pairs)


def _landscape(seed: int, rng: random.Random) -> Landscape:
    time, terrain = rng.choice(TIMES), rng.choice(TERRAINS)
    thing = None
    if rng.random() < 0.82:
        thing = rng.choice(AT_HOME[terrain]) if rng.random() < 0.55 else rng.choice(OBJECTS)
        if thing == "sailboat" and terrain != "sea":
            terrain = "sea"  # a boat needs water
    colour = None
    if thing:
        colour = rng.choice(NATURAL_COLOURS[thing]) if rng.random() < 0.35 else rng.choice(COLOURS)
    night = time in ("dusk", "night")
    body = rng.choice(("moon", "moon", "moon", None, None) if night else ("sun", "sun", "sun", "sun", None))
    body_colour = None
    if body and rng.random() < 0.4:
        body_colour = rng.choice(BODY_COLOURS[body]) if rng.random() < 0.8 else rng.choice(COLOURS[:8])
    weather = []
    if time == "night" and rng.random() < 0.6 or time == "dusk" and rng.random() < 0.3:
        weather.append("stars")
    if rng.random() < 0.28:
        weather.append("clouds")
    if not night and rng.random() < 0.2:
        weather.append("birds")
    if rng.random() < (0.25 if terrain == "snowfield" else 0.05):
        weather.append("snow")
    return Landscape(
        seed=seed,
        time=time,
        terrain=terrain,
        terrain_colour=rng.choice(COLOURS) if rng.random() < 0.42 else None,
        sky_colour=rng.choice(COLOURS) if rng.random() < 0.14 else None,
        body=body,
        body_colour=body_colour,
        body_position=rng.choice(POSITIONS),
        object=thing,
        object_colour=colour,
        object_position=rng.choice(POSITIONS),
        weather=tuple(weather),
    )


def _icon(seed: int, rng: random.Random) -> Icon:
    background = rng.choice(COLOURS)
    visible = [colour for colour in COLOURS if colour != background]
    two = rng.random() < 0.6
    other = rng.choice(SHAPES) if two else None
    shape = rng.choice([s for s in SHAPES if s != other])
    return Icon(
        seed=seed,
        background=background,
        shape=shape,
        colour=rng.choice(visible),
        size="medium" if two else rng.choice(SIZES),
        position="centre" if two or rng.random() < 0.4 else rng.choice(POSITIONS),
        relation=rng.choice(RELATIONS) if two else None,
        other_shape=other,
        other_colour=rng.choice(visible) if two else None,
    )


def describe(seed: int, *, held_out: bool = False, kind: str | None = None) -> Scene:
    """The scene that belongs to `seed`; with `held_out` one of the combinations training never sees."""
    rng = random.Random(f"cascade-studio/{DATA_VERSION}/{'held-out' if held_out else 'train'}/{seed}")
    wanted = kind or ("icon" if rng.random() < 0.27 else "landscape")
    while True:
        scene = _icon(seed, rng) if wanted == "icon" else _landscape(seed, rng)
        if is_held_out(scene) == held_out:
            return scene


# Integer labels, for classifiers and auxiliary losses. -1: the attribute does not apply to this scene.
# A circle above a square is a square below a circle: labels say "above", and "shape" is the upper one (beside: the left one).
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "time": TIMES,
    "terrain": TERRAINS,
    "terrain_colour": COLOURS,
    "body": ("none", *BODIES),
    "body_position": POSITIONS,
    "object": ("none", *OBJECTS),
    "object_colour": COLOURS,
    "object_position": POSITIONS,
    "background": COLOURS,
    "shape": SHAPES,
    "shape_colour": COLOURS,
    "relation": ("none", *RELATIONS),
    "other_shape": ("none", *SHAPES),
    "other_colour": COLOURS,
    "shape_position": POSITIONS,
    "size": SIZES,
}


def _index(name: str, value: str | None) -> int:
    values = ATTRIBUTES[name]
    if value is None:
        return 0 if values[0] == "none" else -1
    return values.index(value)


def labels(scene: Scene) -> dict[str, int]:
    """Attribute name -> index into ATTRIBUTES[name], -1 where it does not apply."""
    result = dict.fromkeys(ATTRIBUTES, -1)
    if isinstance(scene, Landscape):
        result["time"] = _index("time", scene.time)
        result["terrain"] = _index("terrain", scene.terrain)
        result["terrain_colour"] = _index("terrain_colour", scene.terrain_colour)
        result["body"] = _index("body", scene.body)
        result["body_position"] = _index("body_position", scene.body_position) if scene.body else -1
        result["object"] = _index("object", scene.object)
        result["object_colour"] = _index("object_colour", scene.object_colour)
        result["object_position"] = _index("object_position", scene.object_position) if scene.object else -1
        return result
    first, second = (scene.shape, scene.colour), (scene.other_shape, scene.other_colour)
    if scene.relation == "below":
        first, second = second, first
    result["background"] = _index("background", scene.background)
    result["shape"], result["shape_colour"] = _index("shape", first[0]), _index("shape_colour", first[1])
    result["relation"] = _index("relation", "above" if scene.relation == "below" else scene.relation)
    result["other_shape"], result["other_colour"] = _index("other_shape", second[0]), _index("other_colour", second[1])
    if not scene.relation:
        result["shape_position"] = _index("shape_position", scene.position)
        result["size"] = _index("size", scene.size)
    return result
