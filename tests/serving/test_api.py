"""The endpoint's function: its signature is the table of fields, its errors are sentences."""

from __future__ import annotations

import inspect
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import gradio as gr
import pytest

from cascade_app import published
from cascade_app.errors import RenderFailed
from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.png import read_request
from cascade_app.request import FIELDS, SAMPLERS
from cascade_app.serving import handover
from cascade_app.serving.api import function_of
from cascade_app.serving.caller import current
from cascade_app.serving.endpoints import endpoints
from cascade_app.serving.visitors import COOKIE, visitor_of
from cascade_app.work import WHOLE
from tests.fakes import SPEC, FakeBackend


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Gradio's folder of files, which it asks for at each call."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def gallery(tmp_path):
    gallery = Gallery(tmp_path / "pictures")
    gallery.open()
    yield gallery
    gallery.close()


def caller(id: str | None = None) -> gr.Request:
    return gr.Request(headers={"cookie": f"{COOKIE}={id}"} if id else {})


@pytest.fixture
def generate(backend, gallery):
    return partial(functions(backend, gallery, replace(SPEC, defaults={"prior_steps": 5}))["generate"], caller())


def functions(backend, gallery, spec=SPEC):
    """The endpoints' functions by name, as Gradio has them."""
    return {one.name: function_of(one, backend, gallery) for one in endpoints(backend, spec)}


def test_the_signature_is_the_table(generate):
    parameters = inspect.signature(generate).parameters
    assert list(parameters) == [*(field.name for field in FIELDS), "style"]
    required = [name for name, one in parameters.items() if one.default is inspect.Parameter.empty]
    assert required == ["prompt"]
    assert parameters["sampler"].annotation == Literal[SAMPLERS]
    assert parameters["seed"].annotation == int | None and parameters["prior_guidance"].annotation is float
    assert parameters["prior_steps"].default == 5


def test_every_parameter_is_documented(generate):
    lines = {line.strip() for line in generate.func.__doc__.splitlines()}
    assert {"Args:", "Returns:"} <= lines
    for field in FIELDS:
        assert any(line.startswith(f"{field.name}: {field.help}") for line in lines)
    assert any(line.startswith("style: ") and "night: A starry sky" in line for line in lines)


def test_only_the_prompt_is_needed(generate):
    files, made = generate("hills")
    request = read_request(Path(files[0]["path"]))
    assert (request.prompt, request.prior_steps, request.seed) == ("hills", 5, made["seed"])
    assert (made["width"], made["height"], made["checkpoint"]) == (256, 256, "pocket")
    assert made["seconds"]["total"] >= 0 and made["files"] == [Path(files[0]["path"]).name]


def test_the_answer_says_what_the_log_calls_the_run(gallery):
    class Noting(FakeBackend):
        def generate(self, request, work=WHOLE):
            self.reference = current().request_id
            return super().generate(request, work)

    backend = Noting()
    generate = functions(backend, gallery)["generate"]
    for _ in range(2):
        before = getattr(backend, "reference", "")
        _files, made = generate(caller(), "hills")
        assert made["reference"] == backend.reference != before


def test_all_arguments_in_order_as_gradio_calls_it(generate):
    values = {field.name: field.default for field in FIELDS} | {"prompt": "hills", "images": 2, "seed": 4}
    files, made = generate(*values.values())
    assert len(files) == 2 and made["seeds"] == [4, 5]


def test_words_are_drawn_and_told(generate):
    asked = {"prompt": "a {red|blue|green|teal} (boat:1.2)", "style": "night", "seed": 3, "images": 4}
    files, made = generate(**asked)
    recorded = [read_request(Path(file["path"])).prompt for file in files]
    assert made["prompts"] == recorded and len(set(recorded)) > 1
    assert all(" (boat:1.2), at night, stars" in one and "{" not in one for one in recorded)
    assert generate(**asked)[1]["prompts"] == recorded


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"prompt": "a (boat"}, "is never closed"),
        ({"prompt": "a __color__ boat"}, "did you mean colour"),
        ({"prompt": "hills", "style": "nigth"}, "did you mean night"),
        ({"prompt": "hills", "style": ["night"]}, "There is no style"),
        ({"prompt": ""}, "Prompt is empty. Describe the picture in a few words."),
        ({"prompt": None}, "Prompt"),
        ({"prompt": "x" * 20_000}, "20,000 characters"),
        ({"prompt": "hills", "prior_guidance": float("nan")}, "Prior guidance must be a number"),
        ({"prompt": "hills", "images": [1]}, "Images must be a whole number"),
        ({"prompt": "hills", "width": 250}, "Choose 224 or 256"),
        ({"prompt": "hills", "sampler": "none such"}, "choose one of ddpm, ddim"),
        ({"prompt": "hills", "checkpoint": "/"}, "is not served here"),
        ({"prompt": "hills", "colour": 1}, "is not a setting"),
    ],
)
def test_a_mistake_is_a_sentence(generate, values, sentence):
    with pytest.raises(gr.Error) as caught:
        generate(**values)
    assert sentence in caught.value.message


def test_who_calls_without_a_cookie_gets_files_and_keeps_no_gallery(generate, gallery, cache):
    files, _made = generate("hills", images=2)
    paths = [Path(file["path"]) for file in files]
    assert all(path.is_relative_to(cache) for path in paths) and len({path.parent for path in paths}) == 2
    assert not list(gallery.folder.rglob("*.png"))


def test_a_visitor_finds_the_pictures_in_the_gallery_too(backend, gallery, cache):
    http = caller("A" * 43)
    files, _made = functions(backend, gallery)["generate"](http, "hills")
    (item,) = gallery.of(visitor_of(http)).page().items
    path = Path(files[0]["path"])
    assert path.name == item.name and path.is_relative_to(cache)
    assert path.read_bytes() == gallery.of(visitor_of(http)).path(item.id).read_bytes()


def test_what_was_handed_over_is_removed_after_an_hour(generate, cache):
    old, new = (Path(generate("hills")[0][0]["path"]) for _ in range(2))
    os.utime(old.parent, (0, 0))
    (cache / "uploaded").mkdir()
    os.utime(cache / "uploaded", (0, 0))
    generate("hills")
    assert not old.parent.exists() and new.exists() and (cache / "uploaded").exists()
    assert handover.KEPT_S == 3600


def test_a_failed_run_is_a_sentence_and_a_bug_is_not_shown(generate, backend, caplog):
    backend.failure = RenderFailed("The device ran out of memory; choose a smaller size.")
    with pytest.raises(gr.Error, match="ran out of memory"):
        generate("hills")
    backend.failure = KeyError("secret detail")
    with pytest.raises(gr.Error) as caught:
        generate("hills")
    assert "secret" not in caught.value.message and "secret detail" in caplog.text
    assert not backend.lock.locked()


def test_every_known_checkpoint_is_served_and_no_other(generate):
    for name in published.CHECKPOINTS:
        _files, made = generate("hills", width=256, height=256, prior_steps=1, decoder_steps=1, checkpoint=name)
        assert made["checkpoint"] == name
    with pytest.raises(gr.Error, match="not served here; choose one of pocket, stable-cascade"):
        generate("hills", checkpoint="/etc")
