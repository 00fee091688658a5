"""A small random checkpoint, written once, and a manager that has it loaded."""

from __future__ import annotations

import pytest

from cascade_app.request import GenerationRequest
from cascade_app.runtime.manager import PipelineManager
from cascade_app.settings import Settings
from tests.small import write_checkpoint


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def manager(small_folder):
    return PipelineManager(Settings(device="cpu", dtype="float32"), preview_share=float("inf"))  # at every step


@pytest.fixture
def ask(small_folder):
    """A request for the small checkpoint, few steps."""

    def make(**values) -> GenerationRequest:
        defaults = {
            "prompt": "a red sun", "seed": 7, "prior_steps": 3, "decoder_steps": 2, "width": 128, "height": 128,
            "checkpoint": str(small_folder),
        }  # fmt: skip
        return GenerationRequest.from_values({**defaults, **values})

    return make
