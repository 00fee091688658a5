"""A plan's sizes are exact and usable for every size a checkpoint offers, and its refusals name a size that works."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import InvalidRequest
from cascade_app.negative import Negative, Start
from cascade_app.plan import VQGAN_FACTOR, draw_seed, make_plan
from cascade_app.request import SEED_LIMIT, GenerationRequest
from cascade_app.work import Origin, Work

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
    assert make_plan(asked(images=8, prior_steps=9), SMALL, Work(sketch=True)).summary == "8 sketches of 6 x 6 negatives, 9 steps"
    assert make_plan(asked(), SMALL, Work(sketch=True)).summary == "1 sketch of a 6 x 6 negative, 20 steps"
    developed = make_plan(asked(), SMALL, Work(origins=(developing(), developing(8)))).summary
    assert developed == "2 pictures, 256 x 256 px, developed from 6 x 6 negatives, 10 steps"
    varied = make_plan(asked(), SMALL, Work(origins=(renoising(0.2),))).summary
    assert varied == "1 picture, 256 x 256 px, from a 6 x 6 negative, 4 + 10 steps"


def negative(side: int = 6, channels: int = 16) -> Negative:
    return Negative.checked(bytes(2 * channels * side * side), (channels, side, side))


def developing(seed: int = 7, **shape) -> Origin:
    return Origin(seed, "develop", negative=negative(**shape))


def renoising(strength: float, **shape) -> Origin:
    return Origin(7, "vary", start=Start(source=negative(**shape), strength=strength))


def test_a_run_of_origins_has_their_seeds_and_actions():
    plan = make_plan(asked(images=5), SMALL, Work(sketch=True, origins=(Origin(3, "vary"), Origin(3, "blend"))))
    assert (plan.seeds, plan.request.images, plan.sketch, plan.develops) == ((3, 3), 2, True, False)
    assert [origin.action for origin in make_plan(asked(images=2), SMALL, Work(sketch=True)).origins] == ["sketch"] * 2
    assert [origin.action for origin in make_plan(asked(), SMALL).origins] == ["generate"]


@pytest.mark.parametrize(("strength", "steps"), [(0, 0), (0.001, 1), (0.2, 4), (0.5, 10), (0.97, 19), (1, 20)])
def test_from_a_source_only_the_last_steps_are_run(strength: float, steps: int):
    assert make_plan(asked(), SMALL, Work(origins=(renoising(strength),))).prior_steps == (steps,)


def test_stages_that_are_left_out_take_no_passes():
    guided = asked(prior_guidance=4, decoder_guidance=2)
    sketch = make_plan(guided, SMALL, Work(sketch=True))
    assert (sketch.guides_prior, sketch.guides_decoder, sketch.decoder_steps) == (True, False, 0)
    developed = make_plan(guided, SMALL, Work(origins=(developing(),)))
    assert (developed.guides_prior, developed.guides_decoder, developed.prior_steps) == (False, True, (0,))


@pytest.mark.parametrize(
    ("work", "sentence"),
    [
        (Work(origins=(developing(side=8),)), "8 x 8 cells; Pocket at 256 x 256 px takes 6 x 6"),
        (Work(origins=(renoising(0.5, side=8),)), "8 x 8 cells; Pocket at 256 x 256 px takes 6 x 6"),
        (Work(origins=(developing(channels=8),)), "8 channels and Pocket takes 16"),
        (Work(origins=(developing(), Origin(8))), "develop those in a run of their own"),
        (Work(origins=(developing(),), sketch=True), "develop them instead"),
        (Work(origins=tuple(Origin(seed) for seed in range(17))), "17 images are too many for one run; the limit is 16"),
    ],
)
def test_work_that_does_not_fit_is_refused_in_a_sentence(work: Work, sentence: str):
    with pytest.raises(InvalidRequest, match=re.escape(sentence)):
        make_plan(asked(), SMALL, work)
