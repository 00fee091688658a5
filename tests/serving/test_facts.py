"""What `/plan` and `/checkpoints` tell: the truth about a run that follows, and nothing is run for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from cascade_app import published
from cascade_app.catalogue import find_checkpoint
from cascade_app.errors import CheckpointDamaged
from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.png import read_record
from cascade_app.serving.api import function_of
from cascade_app.serving.backend import BackendStatus
from cascade_app.serving.caller import current
from cascade_app.serving.endpoints import endpoints
from tests.fakes import FakeBackend


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend(spec=replace(find_checkpoint("pocket"), defaults={"prior_steps": 6}))


@pytest.fixture
def call(backend, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    gallery = Gallery(tmp_path / "pictures")
    gallery.open()
    functions = {one.name: function_of(one, backend, gallery) for one in endpoints(backend, backend.spec)}
    yield lambda name, **named: functions[name](gr.Request(headers={}), **named)
    gallery.close()


def test_a_plan_is_what_is_made_then(call, backend):
    asked = {"prompt": "a {red|blue|teal} boat", "width": 320, "height": 256, "images": 3, "seed": 5, "style": "night"}
    plan = call("plan", **asked)
    assert backend.steps_done == 0
    files, made = call("generate", **asked)
    assert {name: plan[name] for name in ("seeds", "prompts", "width", "height", "checkpoint")} == {
        name: made[name] for name in ("seeds", "prompts", "width", "height", "checkpoint")
    }
    assert plan["images"] == len(files) and plan["prior_steps"] + plan["decoder_steps"] == backend.steps_done
    negative = read_record(Path(files[0]["path"])).negative
    assert plan["latents"]["prior"] == list(negative.shape)
    assert plan["latents"]["decoder"] == [4, 64, 80]
    assert json.loads(json.dumps(plan)) == plan


def test_a_sketch_is_planned_without_its_decoder(call):
    plan = call("plan", prompt="hills", sketch=True)
    assert plan["decoder_steps"] == 0 and plan["latents"]["decoder"] is None
    assert 0 < plan["weights_bytes"] < call("plan", prompt="hills")["weights_bytes"]


def test_what_a_plan_notes(call, backend):
    plan = call("plan", prompt="far " * 40, seed=1)
    assert len(plan["notes"]) == 1 and "far" in plan["notes"][0]
    open_seed = call("plan", prompt="hills")
    assert open_seed["notes"] == [
        f"The seed was left open and is drawn anew each time; send {open_seed['seeds'][0]} to have these."
    ]
    backend.spec = replace(backend.spec, license_to_accept="stable-cascade-nc-community")
    assert "has to be accepted" in call("plan", prompt="hills", seed=1)["notes"][0]


def test_a_plan_tells_where_the_engine_is(call, backend):
    engine = call("plan", prompt="hills")["engine"]
    assert (engine["state"], engine["device"], engine["placement"]) == ("ready", "Drawing Board 3000", "resident")
    backend.state = BackendStatus("loading", "Loading.")
    assert call("plan", prompt="hills")["engine"] == {"state": "loading"}


@pytest.mark.parametrize(
    ("values", "sentence"), [({"width": 250}, "Choose 224 or 256"), ({"style": "nigth"}, "did you mean"), ({"seed": -1}, "Seed")]
)
def test_what_cannot_be_made_is_not_planned(call, values, sentence):
    with pytest.raises(gr.Error, match=sentence):
        call("plan", prompt="hills", **values)


def test_checkpoints_are_those_that_may_be_asked_for(call, backend):
    told = call("checkpoints")
    assert [one["name"] for one in told] == ["pocket", *published.CHECKPOINTS]
    pocket, large = told[0], told[1]
    assert pocket["parts"]["prior"]["parameters"] == backend.spec.parts["prior"].parameters > 0
    assert pocket["license_accepted"] and pocket["defaults"] == {"prior_steps": 6} and pocket["on_this_machine"]
    assert (pocket["default_size"], pocket["min_size"], pocket["max_size"], pocket["size_step"]) == (
        backend.spec.default_size_px, backend.spec.min_size_px, backend.spec.max_size_px, backend.spec.size_step_px
    )  # fmt: skip
    assert large["license_to_accept"] and not large["license_accepted"]
    assert json.loads(json.dumps(told)) == told


def test_a_checkpoint_that_cannot_be_read_says_so(call, backend):
    backend.failure = CheckpointDamaged("prior/config.json is missing. Restore it.")
    assert call("checkpoints")[0] == {"name": "pocket", "problem": "prior/config.json is missing. Restore it."}


def test_a_run_of_the_api_has_a_caller(call, backend, monkeypatch):
    seen = []
    drawn = FakeBackend._run
    monkeypatch.setattr(FakeBackend, "_run", lambda self, *order: seen.append(current()) or drawn(self, *order))
    call("generate", prompt="hills", prior_steps=1, decoder_steps=1)
    assert seen[0].request_id and seen[0].visitor == ""
