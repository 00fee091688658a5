"""The form is the table of fields: same limits, defaults and help, and the way back to a request."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr
import pytest

from cascade_app.errors import InvalidRequest
from cascade_app.request import FIELD, GenerationRequest
from cascade_app.ui.aspects import label_of, presets
from cascade_app.ui.blocks import lay_out, read_prompts
from cascade_app.ui.form import ON_PAGE, plan_values, read_form
from tests.fakes import SPEC, FakeBackend


@pytest.fixture
def form(tmp_path):
    backend = FakeBackend(spec=replace(SPEC, defaults={"prior_steps": 12}))
    with gr.Blocks():
        return lay_out(backend, tmp_path, checkpoint="pocket").form


def sent(**changes):
    """What the browser sends for an untouched form, but for `changes`."""
    values = {name: FIELD[name].default for name in ON_PAGE}
    values |= {"prompt": "hills", "width": 256, "height": 256, "seed": 0, "style": "", "randomise": True}
    return list((values | changes).values())


def test_every_field_has_a_control_with_its_help_and_limits(form):
    assert set(form.controls) == set(ON_PAGE)
    for name, control in form.controls.items():
        if name != "checkpoint":
            assert (control.label, control.info) == (FIELD[name].label, FIELD[name].help)
        if isinstance(control, gr.Slider) and name not in ("width", "height"):
            assert (control.minimum, control.maximum, control.step) == (
                FIELD[name].minimum, FIELD[name].maximum, FIELD[name].step,
            )  # fmt: skip
    sides = form.controls["width"], form.controls["height"]
    assert all((side.minimum, side.maximum, side.step, side.value) == (128, 512, 32, 256) for side in sides)


def test_the_checkpoints_defaults_come_before_the_tables(form):
    assert form.controls["prior_steps"].value == 12
    assert form.controls["decoder_steps"].value == FIELD["decoder_steps"].default


def test_an_untouched_form_is_the_default_request():
    assert read_form(sent(), SPEC) == GenerationRequest(prompt="hills", width=256, height=256)


def test_randomise_leaves_the_seed_open():
    assert read_form(sent(seed=5, randomise=True), SPEC).seed is None
    assert read_form(sent(seed=5, randomise=False), SPEC).seed == 5


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 20_000}, "prompt"),
        ({"prompt": ["x"]}, "prompt"),
        ({"prior_guidance": float("nan")}, "prior_guidance"),
        ({"prior_guidance": float("inf")}, "prior_guidance"),
        ({"prior_steps": 1.5}, "prior_steps"),
        ({"decoder_steps": 101}, "decoder_steps"),
        ({"images": [1]}, "images"),
        ({"sampler": "unheard of"}, "sampler"),
        ({"seed": -1, "randomise": False}, "seed"),
        ({"guidance_start": 0.9, "guidance_stop": 0.1}, "guidance_start"),
    ],
)
def test_bad_input_names_its_field(changes, field):
    with pytest.raises(InvalidRequest) as caught:
        read_form(sent(**changes), SPEC)
    assert caught.value.field == field


def test_a_form_cut_short_is_refused():
    with pytest.raises(InvalidRequest, match="incomplete"):
        read_form(["only a prompt"], SPEC)


def test_a_plan_needs_no_prompt():
    assert read_form(plan_values(sent(prompt="  ")), SPEC).prompt
    assert read_form(plan_values(sent(prompt=None)), SPEC).prompt
    assert read_form(plan_values(sent()), SPEC).prompt == "hills"


def test_presets_are_sizes_the_checkpoint_makes():
    for spec in (SPEC, replace(SPEC, default_size_px=1024, min_size_px=256, max_size_px=2048)):
        found = presets(spec)
        assert found["1:1"] == (spec.default_size_px, spec.default_size_px)
        for label, size in found.items():
            assert all(side % spec.size_step_px == 0 for side in size)
            assert all(spec.min_size_px <= side <= spec.max_size_px for side in size)
            assert label_of(spec, *size) == label_of(spec, *reversed(size)) == label
    assert label_of(SPEC, 128, 512) is None


def test_there_are_about_ten_example_prompts():
    prompts = read_prompts()
    assert 8 <= len(prompts) <= 16
    assert all(GenerationRequest.from_values({"prompt": prompt}) for prompt in prompts)


def test_no_prompts_file_means_no_prompts(tmp_path):
    assert read_prompts(tmp_path / "none.txt") == []
