"""A plan's sizes are exact and usable for every size a checkpoint offers, and its refusals name a size that works."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import InvalidRequest
from cascade_app.plan import VQGAN_FACTOR, draw_seed, make_plan
from cascade_app.request import SEED_LIMIT, GenerationRequest

SMALL = CheckpointSpec(
    "pocket", "Pocket", Path("pocket"), "ours", default_size_px=256, min_size_px=192, max_size_px=384, size_step_px=32
)
PUBLISHED = CheckpointSpec(
    "folder", "Cascade", Path("folder"), "theirs", default_size_px=1024, min_size_px=256, max_size_px=2048, size_step_px=32
)
SPECS = pytest.mark.parametrize("spec", [SMALL, PUBLISHED], ids=lambda spec: spec.title)


def asked(**values) -> GenerationRequest:
    return GenerationRequest.from_values({"prompt": "a boat", "seed": 7, **values})


def sides(spec: CheckpointSpec) -> list[int]:
    return list(range(spec.min_size_px, spec.max_size_px + 1, spec.size_step_px))


@SPECS
def test_every_size_comes_out_as_asked(spec: CheckpointSpec):
    for width, height in itertools.product(sides(spec), repeat=2):
        plan = make_plan(asked(width=width, height=height), spec)
        channels, rows, columns = plan.decoder_shape
        assert (plan.width, plan.height) == (width, height)
        assert (columns * VQGAN_FACTOR, rows * VQGAN_FACTOR) == (width, height)
        assert rows % 2 == columns % 2 == 0, "Stage B works on patches of 2"
        assert channels == spec.decoder_channels
        assert plan.prior_shape[0] == spec.prior_channels
        for cells, px in zip(plan.prior_shape[1:], (height, width), strict=True):
            assert (cells - 1) * spec.prior_factor < px <= cells * spec.prior_factor


def test_published_sizes_are_the_published_ones():
    plan = make_plan(asked(), PUBLISHED)
    assert (plan.width, plan.height) == (1024, 1024)
    assert plan.prior_shape == (16, 24, 24)
    assert plan.decoder_shape == (4, 256, 256)
    for px in range(512, 2049, 128):
        published_decoder_side = int(make_plan(asked(width=px), PUBLISHED).prior_shape[2] * 10.67)
        assert make_plan(asked(width=px), PUBLISHED).decoder_shape[2] == published_decoder_side


def test_one_side_left_alone_takes_the_checkpoints_own():
    plan = make_plan(asked(width=320), SMALL)
    assert (plan.width, plan.height) == (320, 256)
    assert plan.decoder_shape == (4, 64, 80)


@SPECS
@pytest.mark.parametrize("name", ["width", "height"])
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(spec: CheckpointSpec, name: str):
    fitting = set(sides(spec))
    for px in {1, 8, spec.min_size_px - 1, spec.max_size_px + 1, 8192, *range(spec.min_size_px, spec.max_size_px)} - fitting:
        with pytest.raises(InvalidRequest) as caught:
            make_plan(asked(**{name: px}), spec)
        message = caught.value.message
        assert caught.value.field == name
        assert message.startswith(f"{name.capitalize()} is {px} px; {spec.title} makes ")
        if spec.min_size_px < px < spec.max_size_px:
            near = {int(number) for number in re.findall(r"\d+", message.partition("Choose ")[2])}
            assert near
            assert near <= fitting
            assert all(abs(px - one) < spec.size_step_px for one in near)
        else:
            assert f"{spec.min_size_px} to {spec.max_size_px} px" in message


def test_seeds_count_up_and_wrap():
    assert make_plan(asked(images=3), SMALL).seeds == (7, 8, 9)
    assert make_plan(asked(images=3, seed=SEED_LIMIT - 1), SMALL).seeds == (SEED_LIMIT - 1, 0, 1)
    assert make_plan(asked(images=16, seed=SEED_LIMIT - 8), SMALL).seeds[-1] == 7


def test_an_open_seed_is_drawn_before_planning():
    open_request = replace(asked(), seed=None)
    with pytest.raises(InvalidRequest) as caught:
        make_plan(open_request, SMALL)
    assert caught.value.field == "seed"
    drawn = {draw_seed(open_request).seed for _ in range(20)}
    assert len(drawn) > 15
    assert all(0 <= seed < SEED_LIMIT for seed in drawn)
    assert draw_seed(asked()) == asked()


@pytest.mark.parametrize(("scale", "guides"), [(0, False), (0.5, False), (1, False), (1.001, True), (20, True)])
def test_guidance_of_one_or_less_is_off(scale: float, guides: bool):
    plan = make_plan(asked(prior_guidance=scale, decoder_guidance=scale), SMALL)
    assert (plan.guides_prior, plan.guides_decoder) == (guides, guides)


def test_the_summary_says_what_will_come_out():
    summary = make_plan(asked(width=320, images=2, prior_steps=9), SMALL).summary
    assert summary.startswith("2 pictures, 320 x 256 px")
    assert "9 + 10 steps" in summary
    assert make_plan(asked(), SMALL).summary.startswith("1 picture,")
