"""The drawn world: deterministic pictures, captions that tell the truth, combinations kept out of training."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from cascade_app.training import captions, terrain, tokenizer
from cascade_app.training.scenes import render
from cascade_app.training.stage_c import one_word_indices, short_rows
from cascade_app.training.world import (
    AT_HOME,
    ATTRIBUTES,
    COLOURS,
    ICON_COLOURS,
    NEUTRAL_BACKGROUNDS,
    Icon,
    Landscape,
    describe,
    is_held_out,
    labels,
)


@pytest.fixture(scope="module")
def scenes():
    return [describe(seed) for seed in range(600)]


def test_a_seed_is_one_picture():
    for seed in range(12):
        assert describe(seed) == describe(seed)
        assert np.array_equal(render(describe(seed)), render(describe(seed)))


def test_pictures_differ():
    assert len({render(describe(seed)).tobytes() for seed in range(24)}) == 24


@pytest.mark.parametrize(("width", "height"), [(192, 192), (256, 384), (384, 224), (320, 288)])
def test_any_size(width, height):
    for seed in range(8):
        picture = render(describe(seed), width, height)
        assert picture.shape == (height, width, 3)
        assert picture.dtype == np.uint8


def test_held_out_combinations_are_never_trained_on(scenes):
    assert not any(is_held_out(scene) for scene in scenes)
    others = [describe(seed, held_out=True) for seed in range(200)]
    assert all(is_held_out(scene) for scene in others)
    seen = {(s.terrain, s.time, s.object) for s in scenes if isinstance(s, Landscape) and s.object}
    assert not seen & {(s.terrain, s.time, s.object) for s in others if isinstance(s, Landscape)}


def test_every_value_occurs():
    seen = {name: set() for name in ATTRIBUTES}
    for seed in range(3000):
        for name, value in labels(describe(seed)).items():
            seen[name].add(value)
    seen["relation"].add(ATTRIBUTES["relation"].index("below"))  # labels say "above", with the shapes swapped
    for name, values in ATTRIBUTES.items():
        assert set(range(len(values))) <= seen[name], name


def test_labels_do_not_depend_on_which_shape_is_told_of():
    scene = next(s for s in (describe(i, kind="icon") for i in range(100)) if s.relation == "above")
    turned = replace(
        scene, relation="below", shape=scene.other_shape, colour=scene.other_colour,
        other_shape=scene.shape, other_colour=scene.colour,
    )  # fmt: skip
    assert labels(scene) == labels(turned)


def test_the_full_caption_names_every_attribute(scenes):
    for scene in scenes:
        text = captions.full_caption(scene)
        if isinstance(scene, Icon):
            named = [scene.shape, scene.colour, f"{scene.background} background"]
            if scene.relation:
                named += [scene.relation, scene.other_shape, scene.other_colour]
        else:
            named = [scene.time, captions.WORDS[scene.terrain][0].split()[-1]]
            named += [c for c in (scene.terrain_colour, scene.sky_colour) if c]
            if scene.object:
                named += [scene.object_colour, captions.WORDS[scene.object][0], scene.object_position]
            if scene.body:
                named += [scene.body, scene.body_position]
        for word in named:
            assert word in text, (word, text)


def test_a_caption_says_nothing_that_is_not_so(scenes):
    rng = random.Random(0)
    for scene in scenes:
        text = captions.caption(scene, rng)
        if isinstance(scene, Icon):
            true = {scene.colour, scene.other_colour, scene.background}
        else:
            true = {scene.terrain_colour, scene.sky_colour, scene.object_colour, scene.body_colour}
            if "clouds" in scene.weather:
                true.add("white")
            for other in set(ATTRIBUTES["time"]) - {scene.time}:
                assert other not in text.split(), text
        # "an orange" and the like may only be colours that are there.
        for colour in set(COLOURS) - true:
            assert colour not in text.replace(",", "").split(), (colour, text, scene)


def test_a_caption_leaves_out_only_what_is_ordinary(scenes):
    """Who names no place gets the middle: a word that stands for three places at once is drawn as all three."""
    rng = random.Random(0)
    for scene in scenes:
        for text in (captions.caption(scene, rng, explicit=0) for _ in range(4)):
            if isinstance(scene, Icon):
                words = text.replace(",", "").split()
                assert scene.position == "centre" or scene.position in words, text
                assert scene.background in words or scene.background in NEUTRAL_BACKGROUNDS, (text, scene)
                assert scene.colour in words or scene.colour in ICON_COLOURS[scene.shape], (text, scene)
                continue
            places = [p for p in (scene.object and scene.object_position, scene.body and scene.body_position) if p]
            for place in ("left", "right"):
                assert text.replace(",", "").split().count(place) == places.count(place), (text, scene)
            if scene.object and scene.object not in AT_HOME[scene.terrain]:  # a cactus is in a desert unless it is said where
                assert any(words.split()[-1] in text for words in captions.WORDS[scene.terrain]), text
            for colour in (scene.terrain_colour, scene.sky_colour, scene.body and scene.body_colour):
                assert colour is None or colour in text.replace(",", "").split(), (text, scene)


def test_what_has_a_shape_stands_where_the_description_puts_it():
    icon = Icon(1, "white", "circle", "red", "large", "left", None, None, None)
    assert np.array_equal(render(icon), render(replace(icon, seed=2)))
    view = Landscape(1, "sunset", "sea", None, None, "sun", "red", "left", "sailboat", "white", "right", ())
    first, second = render(view), render(replace(view, seed=3))
    assert np.array_equal(first[:120], second[:120])  # the sun in the sky, and the sails
    assert not np.array_equal(render(replace(view, terrain="mountains")), render(replace(view, terrain="mountains", seed=3)))


@pytest.mark.parametrize("weather", [("stars",), ("snow",)])
def test_what_is_small_and_many_stands_where_it_always_stands(weather):
    """Stage C's latent has no room for the places of thirty stars."""
    view = Landscape(1, "night", "sea", None, None, None, None, "left", None, None, "left", ())
    specks = [
        np.abs(render(replace(view, seed=seed, weather=weather)).astype(int) - render(replace(view, seed=seed))).sum(axis=2) > 60
        for seed in (1, 2)
    ]
    assert len({(y // 8, x // 8) for y, x in np.argwhere(specks[0])}) > 25
    # What the waves of the sea hide differs.
    assert np.array_equal(specks[0][:140], specks[1][:140])


def test_a_city_has_one_skyline_a_time_of_day():
    """Of skylines that no word tells apart Stage C draws the mean."""
    for time in terrain.SKYLINES:
        view = Landscape(1, time, "city", None, None, None, None, "left", None, None, "left", ())
        assert len({render(replace(view, seed=seed)).tobytes() for seed in range(20)}) == 1


def test_a_word_or_two_are_among_the_captions():
    rng = random.Random(0)
    scenes = [scene for scene in map(describe, range(2000)) if captions.can_be_short(scene)]
    short = {captions.caption(scene, rng, explicit=0) for scene in scenes for _ in range(80)}
    assert len(scenes) > 130 and {"mountains", "sunset", "cactus", "night"} <= short


def test_a_single_word_is_the_name_of_a_shape_or_the_colour_of_a_circle():
    rng = random.Random(0)
    for shape in ICON_COLOURS:
        for colour in COLOURS:
            icon = Icon(0, "white" if colour != "white" else "black", shape, colour, "medium", "centre", None, None, None)
            single = {text for text in (captions.caption(icon, rng, explicit=0) for _ in range(80)) if " " not in text}
            natural = {shape} if colour in ICON_COLOURS[shape] else set()
            assert single == natural | ({colour} if shape == "circle" else set())
            assert captions.is_one_word(icon) is bool(single)
            assert not captions.is_one_word(replace(icon, position="left"))
            assert not captions.is_one_word(replace(icon, background="teal"))
    assert not captions.is_one_word(next(scene for scene in map(describe, range(9)) if isinstance(scene, Landscape)))


def test_more_icons_are_found_for_which_one_word_stands():
    indices = one_word_indices(1000, 4)
    assert indices == sorted(set(indices)) and indices[0] >= 1000
    assert all(captions.is_one_word(describe(index)) for index in indices)
    assert one_word_indices(indices[0] + 1, 3) == indices[1:]


def test_the_few_icons_that_one_word_stands_for_are_drawn_as_often_as_the_others(scenes):
    landscapes, icons, plain = short_rows(np.arange(len(scenes)))
    assert all(isinstance(scenes[row], Landscape) for row in landscapes)
    rng = random.Random(0)
    for rows, bare in ((icons, False), (plain, True)):
        for scene in (scenes[row] for row in rows):
            words = {captions.caption(scene, rng, explicit=0) for _ in range(60)}
            assert (scene.shape in words) is bare, (scene, words)
    assert 0 < len(plain) < len(icons)


def test_relations_are_drawn_as_said():
    for seed in range(400):
        scene = describe(seed, kind="icon")
        if scene.relation not in ("above", "below"):
            continue
        picture = render(scene).astype(int)
        upper, lower = (
            (scene.colour, scene.other_colour) if scene.relation == "above" else (scene.other_colour, scene.colour)
        )
        if upper == lower:
            continue
        from cascade_app.training.palettes import NAMED

        assert np.abs(picture[70, 128] - NAMED[upper]).max() < 12, scene
        assert np.abs(picture[187, 128] - NAMED[lower]).max() < 12, scene


def test_the_tokenizer_holds_every_caption_and_any_text(tmp_path):
    made = tokenizer.train(tmp_path / "tokenizer")
    loaded = tokenizer.load(tmp_path / "tokenizer")
    rng = random.Random(1)
    for seed in range(500):
        tokens = loaded(captions.caption(describe(seed), rng)).input_ids
        assert len(tokens) <= tokenizer.MAX_TOKENS
    assert len(made) == len(loaded) == tokenizer.VOCABULARY
    odd = "Ünïcödé 日本 \U0001f600 zzyzx"
    assert loaded.unk_token_id not in loaded(odd).input_ids[1:-1]
    assert {p.name for p in (tmp_path / "tokenizer").iterdir()} >= {"vocab.json", "merges.txt", "tokenizer_config.json"}
