"""Sentences for a scene: many wordings of the same description, from one word to every attribute.

`caption(scene, rng)` draws a wording; `full_caption(scene)` is the plain one that names everything, which the
evaluation uses. A caption never says anything about a picture that is not so (but that a thing may be called by its
plural, as people do), and leaves out only what is ordinary: who names no place gets the middle, who names no colour a
natural one. Were a place left out at random, "a cactus" would mean three places at once, and three half cactuses are
what Stage C drew.
"""

from __future__ import annotations

import random

from cascade_app.training.world import (
    AT_HOME,
    ICON_COLOURS,
    NATURAL_COLOURS,
    NEUTRAL_BACKGROUNDS,
    Icon,
    Landscape,
    Scene,
)

WORDS = {
    "dawn": ("at dawn", "at dawn", "at sunrise", "in the early morning", "in the morning"),
    "noon": ("at noon", "at noon", "at midday", "by day", "in daylight"),
    "sunset": ("at sunset", "at sunset", "at sundown", "in the evening"),
    "dusk": ("at dusk", "at dusk", "at twilight", "in the twilight"),
    "night": ("at night", "at night", "at midnight", "in the dark"),
    "mountains": ("mountains", "mountains", "mountain peaks", "a mountain range"),
    "hills": ("hills", "rolling hills", "meadows", "a valley"),
    "desert": ("a desert", "the desert", "desert dunes", "sand dunes"),
    "sea": ("the sea", "a sea", "the ocean", "calm water"),
    "snowfield": ("a snowfield", "a snowfield", "a snowy field", "a winter landscape", "snow"),
    "city": ("a city skyline", "a city", "the city skyline", "skyscrapers", "a city skyline"),
    "pine trees": ("pine trees", "pine trees", "trees", "fir trees", "a forest"),
    "house": ("house", "house", "cottage"),
    "cabin": ("cabin", "log cabin", "hut"),
    "sailboat": ("sailboat", "sailboat", "boat", "sailing boat", "ship"),
    "lighthouse": ("lighthouse",),
    "windmill": ("windmill", "windmill", "mill"),
    "cactus": ("cactus",),
    "tent": ("tent", "tent", "camping tent"),
    "balloon": ("balloon", "hot air balloon", "hot-air balloon"),
    "left": ("on the left", "on the left", "at the left", "to the left", "on the left side"),
    "centre": ("in the centre", "in the center", "in the middle", "in the centre"),
    "right": ("on the right", "on the right", "at the right", "to the right", "on the right side"),
    "stars": ("stars", "a starry sky", "many stars"),
    "clouds": ("clouds", "a few clouds", "white clouds"),
    "birds": ("birds", "flying birds", "a flock of birds"),
    "snow": ("falling snow", "snowfall", "snowflakes"),
    "circle": ("circle", "circle", "disc"),
    "square": ("square",),
    "triangle": ("triangle",),
    "star": ("star",),
    "diamond": ("diamond",),
    "above": ("above", "above", "over", "on top of"),
    "below": ("below", "below", "under", "beneath"),
    "small": ("small", "tiny", "little"),
    "large": ("large", "big", "huge"),
    "medium": ("",),
}
STYLES = (
    "a poster of",
    "a flat poster of",
    "an illustration of",
    "a picture of",
    "a vector landscape,",
    "a painting of",
    "artwork of",
    "minimal poster of",
    "travel poster,",
    "a photo of",
    "a beautiful",
    "a view of",
)
ICON_STYLES = ("an icon of", "a flat icon,", "a picture of", "a logo with", "a simple drawing of", "icon,")
PRAISE = (
    "beautiful",
    "highly detailed",
    "minimalist",
    "calm",
    "masterpiece",
    "4k",
    "trending",
    "peaceful",
    "flat vector art",
    "crisp",
    "best quality",
    "in the style of an old poster",
    "very nice",
    "cinematic",
    "atmospheric",
    "lovely",
    "wallpaper",
)
_SYLLABLES = tuple("ba lor mi ten qua ri zo fel nu sha gre vok pi dun ket ol wex ja thra sim".split())


def _say(word: str, rng: random.Random | None) -> str:
    return rng.choice(WORDS[word]) if rng else WORDS[word][0]


def article(phrase: str) -> str:
    """`phrase` with "a" or "an", unless it is plural."""
    if phrase.endswith("trees"):
        return phrase
    if phrase.startswith(("a ", "an ")):
        return phrase
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def plural(phrase: str) -> str:
    """Several of them, as people write who do not count: "red tents", "hot air balloons"."""
    if phrase.endswith(("trees", "forest")):
        return phrase
    return phrase.removesuffix("us") + "i" if phrase.endswith("cactus") else f"{phrase}s"


def _ground(scene: Landscape, rng: random.Random | None, colour: bool) -> str:
    """The terrain with its colour: "blue mountains", "a green sea"."""
    words = _say(scene.terrain, rng)
    if not colour or scene.terrain_colour is None:
        return words
    for start in ("a ", "the "):
        if words.startswith(start):
            rest = f"{scene.terrain_colour} {words[len(start) :]}"
            return article(rest) if start == "a " else f"the {rest}"
    return f"{scene.terrain_colour} {words}"


def _thing(scene: Landscape, rng: random.Random | None, *, colour: bool, place: bool) -> str:
    words = _say(scene.object, rng)
    if words.startswith("a "):
        words = words[2:]
    if colour:
        words = f"{scene.object_colour} {words}"
    words = plural(words) if rng and rng.random() < PLURAL else article(words)
    if scene.terrain == "sea" and scene.object not in ("balloon", "sailboat") and rng and rng.random() < 0.5:
        words += " on a rock" if scene.object == "lighthouse" else " on an island"
    return f"{words} {_say(scene.object_position, rng)}" if place else words


def _light(scene: Landscape, rng: random.Random | None, *, colour: bool, place: bool) -> str:
    words = scene.body if not (colour and scene.body_colour) else f"{scene.body_colour} {scene.body}"
    return f"{article(words)} {_say(scene.body_position, rng)}" if place else article(words)


def _preposition(ground: str, scene: Landscape, rng: random.Random | None) -> str:
    if scene.object == "balloon":
        return "over"
    if scene.terrain == "sea":
        return rng.choice(("on", "in", "at")) if rng else "on"
    if scene.terrain in ("mountains", "hills", "city"):
        near = ("in front of", "in", "near") if scene.terrain != "city" else ("in front of", "near")
        return rng.choice(near) if rng else "in front of"
    return "in"


def full_caption(scene: Scene) -> str:
    """The plain caption that names every attribute."""
    if isinstance(scene, Icon):
        return _icon_caption(scene, None)
    return _sentence(scene, None, dict.fromkeys(_PARTS, True))


_PARTS = (
    "object",
    "object_colour",
    "object_place",
    "ground",
    "ground_colour",
    "time",
    "body",
    "body_colour",
    "body_place",
    "sky",
    "weather",
)


PLURAL = 0.06  # share of the objects that are named as several
ORDINARY = 0.6  # share in which what is ordinary is named all the same
FEW_WORDS = 0.7  # share of the scenes that one word or two can stand for, and not named in full, that get them
UNSAID_OBJECT = 0.04  # share in which an object in the middle is not named: an empty landscape is the ordinary one


def _is_ordinary(scene: Landscape) -> dict[str, bool]:
    """Whether a part is as one expects it when nobody names it."""
    central = scene.object_position == "centre"
    natural = scene.object is None or scene.object_colour in NATURAL_COLOURS[scene.object]
    at_home = scene.object is None or scene.object in AT_HOME[scene.terrain]
    body_central, body_natural = scene.body_position == "centre", scene.body_colour is None
    return {
        "object": scene.object is None,
        "object_colour": natural,
        "object_place": central,
        "ground": scene.terrain_colour is None and at_home,  # "cactus" alone was drawn half in a desert, half in a city
        "ground_colour": scene.terrain_colour is None,
        "time": True,
        "body": scene.body is None or body_central and body_natural,
        "body_colour": body_natural,
        "body_place": body_central,
        "sky": scene.sky_colour is None,
        "weather": True,
    }


def can_be_short(scene: Scene) -> bool:
    """Whether a word or two can stand for this scene: the rest of it is ordinary."""
    return _few_words(scene, random.Random(0)) is not None


def is_plain(icon: Icon) -> bool:
    """Whether the shape's name alone says what is to be seen: a single one, of a natural colour, on a neutral background."""
    return _is_single(icon) and _is_natural(icon) and _is_neutral(icon)


def is_one_word(scene: Scene) -> bool:
    """Whether a single word can stand for this icon: the shape's name, or for a circle its colour."""
    alone = isinstance(scene, Icon) and _is_single(scene) and _is_neutral(scene)
    return alone and (scene.shape == "circle" or _is_natural(scene))


def _is_single(icon: Icon) -> bool:
    return icon.relation is None and icon.position == "centre"


def _is_natural(icon: Icon) -> bool:
    return icon.colour in ICON_COLOURS[icon.shape]


def _is_neutral(icon: Icon) -> bool:
    return icon.background in NEUTRAL_BACKGROUNDS


def _sentence(scene: Landscape, rng: random.Random | None, said: dict[str, bool]) -> str:
    ground = _ground(scene, rng, said["ground_colour"])
    when = _say(scene.time, rng) if said["time"] else ""
    extras = []
    if scene.body and said["body"]:
        extras.append(_light(scene, rng, colour=said["body_colour"], place=said["body_place"]))
    if scene.sky_colour and said["sky"]:
        extras.append(article(f"{scene.sky_colour} sky"))
    if said["weather"]:
        extras += [_say(w, rng) for w in scene.weather]
    if rng:
        rng.shuffle(extras)
    if scene.object and said["object"]:
        head = _thing(scene, rng, colour=said["object_colour"], place=said["object_place"])
        if said["ground"]:
            head = f"{head} {_preposition(ground, scene, rng)} {ground}"
    elif scene.body and extras and said["ground"] and rng and rng.random() < 0.5:
        head = _light(scene, rng, colour=said["body_colour"], place=said["body_place"])
        head = f"{head} {rng.choice(('over', 'above'))} {ground}"
        extras = [e for e in extras if scene.body not in e]
    else:
        head = ground if said["ground"] else ""
    if rng and when and rng.random() < 0.2:
        parts = [when[3:] if when.startswith("at ") else when, head, *extras]
    else:
        parts = [f"{head} {when}".strip(), *extras]
    parts = [p for p in parts if p]
    if rng is None or len(parts) < 2 or rng.random() < 0.6:
        return ", ".join(parts)
    return parts[0] + rng.choice((" with ", " and ", ", ")) + " and ".join(parts[1:])


def _tags(scene: Landscape, rng: random.Random, said: dict[str, bool]) -> str:
    """The attributes as a list of tags in any order."""
    parts = []
    if said["ground"]:
        parts.append(_ground(scene, rng, said["ground_colour"]).removeprefix("a ").removeprefix("the "))
    if said["time"]:
        parts.append(_say(scene.time, rng).split()[-1])
    if scene.object and said["object"]:
        parts.append(_thing(scene, rng, colour=said["object_colour"], place=said["object_place"]).removeprefix("a "))
    if scene.body and said["body"]:
        parts.append(_light(scene, rng, colour=said["body_colour"], place=said["body_place"]).removeprefix("a "))
    if scene.sky_colour and said["sky"]:
        parts.append(f"{scene.sky_colour} sky")
    if said["weather"]:
        parts += [_say(w, rng) for w in scene.weather]
    rng.shuffle(parts)
    return rng.choice((", ", ", ", " ")).join(parts)


def _few_icon_words(scene: Icon, rng: random.Random) -> str | None:
    """A background nobody names is white, grey or black, a colour nobody names the shape's natural one, a shape a circle."""
    if not _is_single(scene):
        return None
    choices = []
    if _is_neutral(scene):
        choices.append(f"{scene.colour} {_say(scene.shape, rng)}")
        if scene.shape == "circle":
            choices.append(scene.colour)
    if is_plain(scene):
        choices += [scene.shape] * 2
    elif _is_natural(scene):
        choices.append(f"{scene.background} background")
    return rng.choice(choices) if choices else None


def _few_words(scene: Scene, rng: random.Random) -> str | None:
    """One word or two, where all that they leave out is ordinary; None where they would not do."""
    if isinstance(scene, Icon):
        return _few_icon_words(scene, rng)
    ordinary = _is_ordinary(scene)
    if not (ordinary["body"] and ordinary["sky"] and ordinary["object_place"]):
        return None
    if not ordinary["ground_colour"]:
        return None if scene.object else f"{scene.terrain_colour} {scene.terrain}"
    if scene.object:
        if not ordinary["ground"]:
            return None
        plain = (
            [scene.object, _say(scene.object, rng), plural(_say(scene.object, rng))]
            if ordinary["object_colour"]
            else []
        )
        return rng.choice([*plain, f"{scene.object_colour} {scene.object}"])
    choices = [scene.terrain, scene.time, _say(scene.terrain, rng), *scene.weather]
    return rng.choice([*choices, scene.body] if scene.body else choices)


def _icon_caption(scene: Icon, rng: random.Random | None) -> str:
    back = (
        "on a {} background"
        if rng is None
        else rng.choice(("on a {} background", "on a {} background", "on {}", "{} background"))
    )
    back = back.format(scene.background).replace("a orange", "an orange")
    if scene.relation is None:
        size = _say(scene.size, rng)
        words = article(f"{size} {scene.colour} {_say(scene.shape, rng)}".strip())
        if scene.position != "centre" or rng and rng.random() < 0.3:
            words += f" {_say(scene.position, rng)}"
        return f"{words} {back}" if not back.startswith(scene.background) else f"{words}, {back}"
    first = (scene.colour, scene.shape)
    second = (scene.other_colour, scene.other_shape)
    relation = scene.relation
    if rng and relation != "beside" and rng.random() < 0.3:
        first, second = second, first
        relation = {"above": "below", "below": "above"}[relation]
    if relation == "beside":
        link = "beside" if rng is None else rng.choice(("beside", "beside", "next to", "left of", "to the left of"))
        if rng and rng.random() < 0.2:
            first, second, link = second, first, rng.choice(("right of", "to the right of"))
    else:
        link = _say(relation, rng)
    names = [article(f"{colour} {_say(shape, rng)}") for colour, shape in (first, second)]
    if rng and relation == "beside" and rng.random() < 0.2:
        return (
            f"{names[0]} and {names[1]} {back}"
            if not back.startswith(scene.background)
            else f"{names[0]} and {names[1]}, {back}"
        )
    joined = f"{names[0]} {link} {names[1]}"
    return f"{joined} {back}" if not back.startswith(scene.background) else f"{joined}, {back}"


def _landscape_caption(scene: Landscape, rng: random.Random, everything: bool) -> str:
    ordinary = _is_ordinary(scene)
    said = {part: everything or not ordinary[part] or rng.random() < ORDINARY for part in _PARTS}
    if not everything and ordinary["object_place"] and ordinary["object_colour"]:
        said["object"] = rng.random() >= UNSAID_OBJECT
    said["ground"] = said["ground"] or not (said["object"] and scene.object)
    return (_tags if rng.random() < 0.2 else _sentence)(scene, rng, said)


def _nonsense(rng: random.Random) -> str:
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(1, 3)))


def caption(scene: Scene, rng: random.Random, *, explicit: float = 0.5) -> str:
    """One wording of the scene; a share of `explicit` names every attribute."""
    everything = rng.random() < explicit
    text = _few_words(scene, rng) if not everything and rng.random() < FEW_WORDS else None
    if text is None:
        text = _icon_caption(scene, rng) if isinstance(scene, Icon) else _landscape_caption(scene, rng, everything)
    styles = ICON_STYLES if isinstance(scene, Icon) else STYLES
    if rng.random() < 0.15:
        text = f"{rng.choice(styles)} {text}"
    if rng.random() < 0.12:
        extra = rng.choice(PRAISE) if rng.random() < 0.75 else _nonsense(rng)
        text = f"{text}, {extra}" if rng.random() < 0.6 else f"{extra} {text}"
    return text
