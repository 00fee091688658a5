"""A run's share of the cascade: sketches, developing, and every way for Stage C to begin."""

from __future__ import annotations

from dataclasses import replace

import numpy
import pytest
import torch

from cascade_app.catalogue import find_checkpoint
from cascade_app.diffusion import stages
from cascade_app.errors import InvalidRequest
from cascade_app.events import ImageReady, Notice, RunStarted, StageStarted, StepDone
from cascade_app.explore import blend, develop, develop_all, regenerate, sketches, vary
from cascade_app.grid import Axis, Grid
from cascade_app.negative import Noise, Start
from cascade_app.record import Record
from cascade_app.request import GenerationRequest
from cascade_app.runtime import generate as engine
from cascade_app.runtime.generate import generate
from cascade_app.runtime.manager import PipelineManager
from cascade_app.serving.grids import grid_events
from cascade_app.settings import Settings
from cascade_app.work import WHOLE, Origin, Work


def made(manager, request, work=WHOLE) -> list[ImageReady]:
    return [event for event in generate(manager, request, work) if isinstance(event, ImageReady)]


def pixels(event):
    return numpy.asarray(event.image)


def developing(event: ImageReady) -> Origin:
    record = event.record
    return Origin(event.seed, "develop", (record.id,), start=record.start, negative=record.negative)


def varied(*starts: Start, seed: int = 7) -> Work:
    return Work(origins=tuple(Origin(seed, "vary", start=start) for start in starts))


@pytest.fixture
def network_calls(monkeypatch) -> list[int]:
    """Channels of what each network evaluation was given: 16 is Stage C, 4 Stage B."""
    calls = []

    def counted(unet, latents, *rest, **more):
        calls.append(latents.shape[1])
        return predict(unet, latents, *rest, **more)

    predict = stages.predict
    monkeypatch.setattr(stages, "predict", counted)
    return calls


def test_a_sketch_is_stage_c_alone_and_all_of_it_at_once(manager, ask, network_calls):
    events = list(generate(manager, ask(images=6), Work(sketch=True)))
    assert {event.stage for event in events if isinstance(event, StageStarted)} == {"conditioning", "prior"}
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [(step.step, step.steps, step.indices) for step in steps] == [(n, 3, tuple(range(6))) for n in (1, 2, 3)]
    assert all(len(step.previews) == 6 for step in steps) and steps[-1].fraction == pytest.approx(1)
    sketches = [event for event in events if isinstance(event, ImageReady)]
    assert set(network_calls) == {16}
    assert [(one.seed, one.record.kind, one.record.action) for one in sketches] == [
        (7 + n, "sketch", "sketch") for n in range(6)
    ]
    whole = made(manager, ask(images=6))
    assert [one.record.negative for one in sketches] == [one.record.negative for one in whole]
    assert sketches[0].record.request == whole[0].record.request
    assert (pixels(sketches[0]) == numpy.asarray(steps[-1].previews[0])).mean() > 0.9, "the picture it formed to"


def test_developing_runs_no_prior_and_gives_the_pixels_of_the_whole_run(manager, ask, network_calls):
    request = ask(images=3, decoder_guidance=1.5)
    whole = made(manager, request)
    sketches = made(manager, request, Work(sketch=True))
    network_calls.clear()
    once, twice = (made(manager, request, Work(origins=tuple(map(developing, sketches[1:])))) for _ in range(2))
    assert set(network_calls) == {4}
    for number, image in enumerate(once):
        assert (pixels(image) == pixels(twice[number])).all() and (pixels(image) == pixels(whole[1 + number])).all()
        record = image.record
        assert (record.kind, record.action, record.parents) == ("picture", "develop", (sketches[1 + number].record.id,))
        assert record.negative == sketches[1 + number].record.negative and record.request.seed == 8 + number
    other = made(manager, ask(decoder_steps=3), Work(origins=(developing(sketches[0]),)))[0]
    assert (pixels(other) != pixels(whole[0])).any()


def test_developing_encodes_no_more_than_stage_b_reads(manager, ask):
    sketch = made(manager, ask(negative_prompt="black sea"), Work(sketch=True))[0]
    calls = manager.text_encoder_calls
    request = ask(prompt="a white boat", negative_prompt="over the sun")
    made(manager, request, Work(origins=(developing(sketch),)))
    assert manager.text_encoder_calls == calls + 1, "the negative prompt is read with guidance only"


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_a_mix_goes_from_one_seed_to_the_other(manager, ask, sampler):
    first, second = (made(manager, ask(seed=seed, sampler=sampler), Work(sketch=True))[0] for seed in (7, 8))
    starts = [Start(noise=Noise(mix=(Noise(7), Noise(8), amount))) for amount in (0.0, 0.1, 0.5, 1.0)]
    same, near, far, other = made(manager, ask(sampler=sampler), Work(True, varied(*starts).origins))
    assert same.record.negative == first.record.negative
    assert other.record.negative == second.record.negative
    distances = [distance(first, one) for one in (same, near, far, other)]
    assert distances == sorted(distances) and 0 < distances[1] < distances[2]


def distance(first: ImageReady, second: ImageReady) -> float:
    a, b = (engine.to_latents(one.record.negative) for one in (first, second))
    return float((a - b).norm())


def test_from_a_source_only_the_last_steps_run(manager, ask, network_calls):
    request = ask(prior_steps=10)
    first = made(manager, request, Work(sketch=True))[0]
    source = first.record.negative
    starts = [Start(noise=Noise(99), source=source, strength=strength) for strength in (0.0, 0.3, 0.8, 1.0)]
    network_calls.clear()
    events = list(generate(manager, request, Work(True, varied(*starts).origins)))
    assert len(network_calls) == 3 + 8 + 10
    assert [event.steps for event in events if isinstance(event, StageStarted) and event.stage == "prior"] == [3, 8, 10]
    fractions = [event.fraction for event in events if isinstance(event, StepDone)]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1)
    kept, near, far, forgotten = (event for event in events if isinstance(event, ImageReady))
    assert kept.record.negative == source
    assert distance(first, near) < distance(first, far)
    assert forgotten.record.negative == made(manager, ask(prior_steps=10, seed=99), Work(sketch=True))[0].record.negative


def test_words_are_blended_in_both_stages(manager, ask):
    here, there = (made(manager, ask(prompt=prompt))[0] for prompt in ("a red sun", "a blue boat"))
    starts = [Start(blend_prompt="a blue boat", blend=blend) for blend in (0.0, 0.5, 1.0)]
    same, between, other = made(manager, ask(), varied(*starts))
    assert (pixels(same) == pixels(here)).all() and (pixels(other) == pixels(there)).all()
    assert 0 < distance(here, between) < distance(here, there) and distance(there, between) > 0
    developed = made(manager, ask(), Work(origins=(developing(other),)))[0]
    assert (pixels(developed) == pixels(there)).all()


STARTS = [
    None,
    Start(noise=Noise(mix=(Noise(7), Noise(mix=(Noise(8), Noise(9), 0.5)), 0.3))),
    Start(blend_prompt="a white boat", blend=0.4),
    Start(noise=Noise(5)),
]


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_an_image_of_a_batch_of_starts_equals_its_single_run(manager, ask, sampler):
    source = made(manager, ask(seed=3), Work(sketch=True))[0].record.negative
    starts = [*STARTS, Start(source=source, strength=0.5, noise=Noise(4)), Start(source=source, strength=0.7)]
    request = ask(sampler=sampler, decoder_guidance=1.5, guidance_rescale=0.7)
    for number, image in enumerate(made(manager, request, varied(*starts))):
        alone = made(manager, image.record.request, Work(origins=(Origin(image.seed, "vary", start=starts[number]),)))[0]
        assert alone.record.negative == image.record.negative
        assert (pixels(alone) == pixels(image)).all()


def test_closing_a_sketch_frees_the_engine(manager, ask):
    run = generate(manager, ask(images=4), Work(sketch=True))
    while not isinstance(next(run), StepDone):
        pass
    run.close()
    assert not manager.turnstile.busy


def test_a_negative_of_another_size_is_refused_before_anything_runs(manager, ask):
    sketch = made(manager, ask(), Work(sketch=True))[0]
    with pytest.raises(InvalidRequest, match="3 x 3 cells; Small at 160 x 128 px takes 4 x 3"):
        next(generate(manager, ask(width=160), Work(origins=(developing(sketch),))))
    assert not manager.turnstile.busy


def test_other_weights_are_told_of_and_used(manager, ask):
    record = made(manager, ask(), Work(sketch=True))[0].record
    assert record.checkpoint_digest == find_checkpoint(record.request.checkpoint).digest != ""
    for digest, told in ((record.checkpoint_digest, 0), ("", 0), ("0" * 32, 1)):
        events = list(generate(manager, *develop(replace(record, checkpoint_digest=digest))))
        notices = [event.message for event in events if isinstance(event, Notice)]
        assert len(notices) == told and all("other weights than Small" in notice for notice in notices)
        assert sum(isinstance(event, ImageReady) for event in events) == 1


def test_the_plan_says_what_it_is(manager, ask):
    started = next(event for event in generate(manager, ask(images=2), Work(sketch=True)) if isinstance(event, RunStarted))
    assert started.plan.summary == "2 sketches of 3 x 3 negatives, 3 steps"


def test_memory_that_runs_out_in_a_sketch_changes_nothing(manager, ask, monkeypatch):
    expected = [one.record.negative for one in made(manager, ask(images=3), Work(sketch=True))]
    calls = []

    def short(unet, latents, *rest, **more):
        calls.append(1)
        if len(calls) == 4:
            raise torch.OutOfMemoryError("no memory")
        return predict(unet, latents, *rest, **more)

    predict = stages.predict
    monkeypatch.setattr(stages, "predict", short)
    monkeypatch.setattr(engine.Lease, "step_down", lambda lease: lease.offload.placement)
    again = made(manager, ask(images=3), Work(sketch=True))
    assert len(calls) > 9 and [one.record.negative for one in again] == expected


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_a_child_is_made_again_from_its_own_record_alone(manager, ask, sampler):
    boat, sun = (made(manager, ask(prompt=p, seed=n, sampler=sampler))[0].record for p, n in (("a boat", 7), ("the sun", 8)))
    renoised = made(manager, *vary(boat, "medium", 2, how="renoise", seed=1))
    children = [
        *renoised,
        *made(manager, *vary(boat, "strong", 2, seed=1)),
        *made(manager, *blend(boat, sun, 2)),
        *made(manager, *blend(renoised[0].record, sun, 2)),
        *made(manager, *vary(renoised[0].record, "subtle", 1, seed=2)),
    ]
    assert len({child.record.negative for child in children}) == 9
    for child in children:
        record = Record.from_json(child.record.to_json())
        [again] = made(manager, *regenerate(record))
        [developed] = made(manager, *develop(record))
        assert again.record.negative == child.record.negative
        assert (pixels(again) == pixels(child)).all() and (pixels(developed) == pixels(child)).all()


class Engine:
    """As much of a backend as a grid needs."""

    def __init__(self, manager):
        self.generate = lambda request, work: generate(manager, request, work)


def test_a_grid_runs_the_prior_once_for_each_negative(manager, ask, network_calls):
    grid = Grid.of(ask(prior_guidance=1), Axis.read("decoder_guidance", "0, 1.5, 2, 3"), Axis.read("seed", "7, 8, 9"))
    ready = [one for one in grid_events(Engine(manager), grid) if isinstance(one.event, ImageReady)]
    assert network_calls.count(16) == 3 * 3, "three seeds of three steps"
    assert network_calls.count(4) == 12 * 2
    for one in (ready[0], ready[6], ready[11]):
        assert (pixels(made(manager, one.cell.request)[0]) == pixels(one.event)).all()


@pytest.fixture
def two_threads():
    """With one, Stage A happens to add up a batch as it does a single picture."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sheet_of_the_pocket_has_the_negatives_that_each_seed_has_alone(pocket, dtype):
    """As the page makes it by default, 8 at the checkpoint's own size and guidance: enough for a batch's sums to be another's."""
    manager = PipelineManager(Settings(device="cpu", dtype=dtype))
    values = {"prompt": "a white lighthouse on a rock in a blue sea at sunset", "seed": 3479247220, "prior_steps": 4}
    request = GenerationRequest.from_values(values)
    sheet = [one.record for one in made(manager, *sketches(request, 8))]
    for number in (0, 3, 7):
        [alone] = made(manager, *sketches(replace(request, seed=request.seed + number), 1))
        assert alone.record.negative == sheet[number].negative


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_pocket_develops_and_generates_the_same_pixels_whoever_was_in_the_batch(pocket, dtype):
    """At a size at which Stage A's sums are another's in a batch, in the order of a session: a sheet, some of it, one alone."""
    manager = PipelineManager(Settings(device="cpu", dtype=dtype))
    values = {"prompt": "a red sun over blue mountains", "seed": 7, "prior_steps": 3, "decoder_steps": 2}
    request = GenerationRequest.from_values({**values, "width": 320, "height": 224, "decoder_guidance": 1.5})
    sheet = [one.record for one in made(manager, *sketches(request, 5))]
    [order] = develop_all([sheet[1], sheet[4]])
    for picture, sketch in zip(made(manager, *order), (sheet[1], sheet[4]), strict=True):
        record = Record.from_json(picture.record.to_json())
        [alone] = made(manager, *develop(sketch))
        [again] = made(manager, *regenerate(record))
        assert again.record.negative == sketch.negative
        assert (pixels(again) == pixels(picture)).all() and (pixels(alone) == pixels(picture)).all()
