"""A whole run: its events, its pictures, and what is left when it is stopped."""

from __future__ import annotations

import threading

import numpy
import pytest
import torch

from cascade_app.errors import CheckpointNotFound, InvalidRequest, RenderFailed
from cascade_app.events import Finished, ImageReady, RunStarted, StageStarted, StepDone, Waiting
from cascade_app.runtime.generate import generate
from cascade_app.runtime.memory import MODEL_BATCHES


def pictures(manager, request):
    return [event for event in generate(manager, request) if isinstance(event, ImageReady)]


def pixels(event):
    return numpy.asarray(event.image)


def test_events_come_in_their_order(manager, ask):
    events = list(generate(manager, ask(images=2)))
    kinds = [type(event) for event in events]
    assert kinds == [
        RunStarted, StageStarted, StageStarted, *[StepDone] * 3, StageStarted, *[StepDone] * 2, StageStarted, StepDone,
        ImageReady, ImageReady, Finished,
    ]  # fmt: skip
    steps = [event for event in events if isinstance(event, StepDone)]
    assert [(step.stage, step.step, step.steps) for step in steps] == [
        ("prior", 1, 3), ("prior", 2, 3), ("prior", 3, 3), ("decoder", 1, 2), ("decoder", 2, 2), ("vqgan", 1, 1),
    ]  # fmt: skip
    fractions = [step.fraction for step in steps]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1)
    assert all(len(step.previews) == 2 for step in steps[:-1])
    seconds = events[-1].seconds
    assert set(seconds) == {"conditioning", "prior", "decoder", "vqgan", "total"}
    assert 0 < sum(seconds[stage] for stage in seconds if stage != "total") <= seconds["total"]
    first, second = (event for event in events if isinstance(event, ImageReady))
    assert (first.seed, second.seed) == (7, 8) and first.image.size == (128, 128)


def test_the_same_seed_gives_the_same_pixels_and_another_gives_others(manager, ask):
    once, twice, other = (pictures(manager, ask(seed=seed))[0] for seed in (7, 7, 8))
    assert (pixels(once) == pixels(twice)).all() and once.record.negative == twice.record.negative
    assert (pixels(once) != pixels(other)).any()


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_an_image_of_a_batch_equals_its_single_run(manager, ask, sampler):
    batch = pictures(manager, ask(images=3, sampler=sampler, decoder_guidance=1.5, guidance_rescale=0.7))
    for number, image in enumerate(batch):
        alone = pictures(manager, ask(seed=7 + number, sampler=sampler, decoder_guidance=1.5, guidance_rescale=0.7))[0]
        assert (pixels(alone) == pixels(image)).all() and alone.record.negative == image.record.negative


def test_more_images_than_a_batch(manager, ask):
    count = MODEL_BATCHES[0] + 1
    made = pictures(manager, ask(images=count))
    assert [image.index for image in made] == list(range(count))
    assert [image.seed for image in made] == [7 + index for index in range(count)]


@pytest.mark.parametrize("size", [(128, 96), (96, 160), (320, 320), (224, 352)])
def test_every_size_comes_out_as_asked(manager, ask, size):
    made = pictures(manager, ask(width=size[0], height=size[1]))[0]
    assert made.image.size == size


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a blue boat"}, {"negative_prompt": "a black sea"}, {"prior_steps": 4}, {"decoder_steps": 3},
        {"prior_guidance": 2.0}, {"decoder_guidance": 3.0}, {"sampler": "ddim"}, {"prior_shift": 2.0},
        {"guidance_rescale": 0.7}, {"guidance_stop": 0.5}, {"guidance_start": 0.5},
    ],
)  # fmt: skip
def test_every_setting_changes_the_picture(manager, ask, change):
    assert (pixels(pictures(manager, ask())[0]) != pixels(pictures(manager, ask(**change))[0])).any()


def test_guidance_of_one_or_less_is_off(manager, ask):
    off, one = (pictures(manager, ask(prior_guidance=scale, negative_prompt="a black sea"))[0] for scale in (0.0, 1.0))
    assert (pixels(off) == pixels(one)).all()


def test_a_repeated_prompt_is_not_encoded_again(manager, ask):
    pictures(manager, ask(prompt="the black boat"))
    calls = manager.text_encoder_calls
    pictures(manager, ask(prompt="the black boat", seed=8))
    assert manager.text_encoder_calls == calls


@pytest.mark.parametrize("stop_after", range(1, 11))
def test_closing_frees_the_lock_wherever_it_happens(manager, ask, stop_after):
    run = generate(manager, ask())
    for _ in range(stop_after):
        next(run)
    assert manager.turnstile.busy
    run.close()
    assert not manager.turnstile.busy
    assert pictures(manager, ask())


def test_closing_stops_the_computing_within_a_step(manager, ask, monkeypatch):
    steps = []

    def counted(unet, latents, step, prepared, need, times=1):
        steps.append(step)
        return torch.zeros(len(latents) * times, *latents.shape[1:])

    monkeypatch.setattr("cascade_app.diffusion.stages.predict", counted)
    run = generate(manager, ask(prior_steps=50))
    while not isinstance(next(run), StepDone):
        pass
    run.close()
    assert len(steps) == 1


def test_a_second_run_waits_for_the_first_and_says_so(manager, ask):
    first = generate(manager, ask())
    next(first)
    second = generate(manager, ask(seed=9))
    waiting = next(second)
    assert isinstance(waiting, Waiting) and waiting.ahead == 1 and waiting.reason
    third = generate(manager, ask(seed=10))
    assert next(third).ahead == 2
    second.close()
    first.close()
    assert isinstance(next(third), Waiting | RunStarted)
    third.close()
    assert not manager.turnstile.busy


def test_runs_from_many_threads_never_overlap(manager, ask):
    running, overlaps, done = [], [], []

    def work(seed):
        for event in generate(manager, ask(seed=seed)):
            if isinstance(event, RunStarted):
                running.append(seed)
                overlaps.append(len(running))
            if isinstance(event, Finished):
                running.remove(seed)
        done.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert sorted(done) == list(range(5)) and max(overlaps) == 1


def test_what_cannot_be_made_is_refused_before_anything_runs(manager, ask):
    with pytest.raises(InvalidRequest, match="multiples of 32"):
        next(generate(manager, ask(width=130)))
    with pytest.raises(CheckpointNotFound, match="neither a known name"):
        next(generate(manager, ask(checkpoint="no-such-checkpoint")))
    assert not manager.turnstile.busy


@pytest.mark.parametrize("fault", [torch.OutOfMemoryError("no memory"), None])
def test_a_failing_network_ends_in_a_sentence_and_a_free_lock(manager, ask, monkeypatch, fault):
    def broken(unet, latents, step, prepared, need, times=1):
        if fault:
            raise fault
        return torch.full((len(latents) * times, *latents.shape[1:]), float("nan"))

    monkeypatch.setattr("cascade_app.diffusion.stages.predict", broken)
    with pytest.raises(RenderFailed, match="Memory ran out" if fault else "CASCADE_DTYPE"):
        list(generate(manager, ask()))
    monkeypatch.undo()
    assert pictures(manager, ask())
