"""What words do to pictures of the bundled checkpoint: weights move them, each image has its own, and what is cut is told."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cascade_app.events import ImageReady, Notice
from cascade_app.request import GenerationRequest
from cascade_app.runtime.generate import generate
from cascade_app.runtime.manager import PipelineManager
from cascade_app.settings import Settings
from cascade_app.work import Work

SKETCH = {"seed": 0, "prior_steps": 8}


@pytest.fixture
def manager(pocket):
    return PipelineManager(Settings(dtype="float32", device="cpu"))


def sketch(manager, prompt: str, **values) -> list[ImageReady]:
    request = GenerationRequest.from_values({**SKETCH, "prompt": prompt, **values})
    return [event for event in generate(manager, request, Work(sketch=True)) if isinstance(event, ImageReady)]


def redness(image: Image.Image) -> float:
    """How far red lies above the other two, over the whole picture; 0 to 1."""
    red, green, blue = np.moveaxis(np.asarray(image, dtype=float) / 255, -1, 0)
    return float(np.clip(red - np.maximum(green, blue), 0, None).mean())


def test_a_weight_makes_the_picture_redder_or_less_so(manager):
    weak, fair, plain = (
        [redness(event.image) for event in sketch(manager, f"a (red:{weight}) house on green hills at noon", images=4)]
        for weight in (0.2, 0.6, 1)  # a house is red enough at 1: more changes little
    )
    assert all(a < b < c for a, b, c in zip(weak, fair, plain, strict=True)), (weak, fair, plain)


def test_each_image_of_a_run_has_the_words_of_its_seed(manager):
    together = sketch(manager, "a {red|blue|green} house", images=3, seed=1)
    told = [event.record.request for event in together]
    assert len({one.prompt for one in told}) > 1
    for event, request in zip(together, told, strict=True):
        (alone,) = sketch(manager, request.prompt, seed=request.seed)
        assert alone.record.negative == event.record.negative and request.images == 1


def test_a_long_prompt_runs_and_says_what_was_left_out(manager):
    request = GenerationRequest.from_values(
        {**SKETCH, "prior_steps": 1, "prompt": "a (red:1.2) boat " * 20 + "at night"}
    )
    events = list(generate(manager, request, Work(sketch=True)))
    (notice,) = (event for event in events if isinstance(event, Notice))
    assert notice.message.startswith("The encoder reads the first 38 words of the prompt; left out: boat a red boat")
    assert notice.message.endswith("at night.")
    assert isinstance(events[-2], ImageReady)
