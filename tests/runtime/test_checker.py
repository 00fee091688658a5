"""The image checker, on a tiny one of random weights in the published layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cascade_app.errors import CheckpointDamaged, CheckpointNotFound, Withheld
from cascade_app.events import ImageReady
from cascade_app.request import GenerationRequest
from cascade_app.runtime.checker import load_checker
from cascade_app.serving.safe import Safe
from cascade_app.settings import Settings
from tests.fakes import FakeBackend

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
GREY = Image.new("RGB", (80, 80), (128, 128, 128))


def save_checker(folder, *, threshold: float) -> None:
    """A checker that finds something where a picture is nearer to its concepts than `threshold`, a cosine."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    torch.manual_seed(0)
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32,
        "patch_size": 16, "projection_dim": 8,
    }  # fmt: skip
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=8))
    checker.concept_embeds.data = torch.randn(17, 8)
    checker.special_care_embeds.data = torch.randn(3, 8)
    checker.concept_embeds_weights.data = torch.full((17,), threshold)
    checker.special_care_embeds_weights.data = torch.ones(3)
    for name, weights in checker.named_parameters():
        if "patch_embedding" in name:
            weights.data *= 50  # as it is initialised, one picture is as good as another
    checker.save_pretrained(folder, safe_serialization=True)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)


@pytest.fixture(scope="module")
def checkers(tmp_path_factory):
    """Folders of one that finds something in every picture and of one that never does."""
    folder = tmp_path_factory.mktemp("checkers")
    save_checker(folder / "strict", threshold=-1.1)
    save_checker(folder / "blind", threshold=1.1)
    return folder


def test_it_answers_for_each_picture(checkers):
    assert load_checker(str(checkers / "strict"), fetch=False).flagged([NOISE, GREY]) == [True, True]
    assert load_checker(str(checkers / "blind"), fetch=False).flagged([NOISE, GREY, GREY]) == [False, False, False]


def test_the_answer_depends_on_the_picture(checkers):
    """Between the two pictures' likeness to the concepts lies a threshold that parts them."""
    checker = load_checker(str(checkers / "blind"), fetch=False)
    answers = []
    for threshold in np.linspace(-1, 1, 401):
        checker._network.concept_embeds_weights.fill_(float(threshold))
        answers.append(tuple(checker.flagged([NOISE, GREY])))
    assert answers[0] == (True, True) and answers[-1] == (False, False)
    assert {(True, False), (False, True)} & set(answers)


@pytest.mark.parametrize("damage", ["cut", "absent", "other"])
def test_a_damaged_one_is_refused(checkers, tmp_path, damage):
    folder = tmp_path / "checker"
    save_checker(folder, threshold=1.1)
    weights = folder / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "absent":
        weights.unlink()
    else:
        (folder / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(CheckpointDamaged) as refused:
        load_checker(str(folder), fetch=False)
    assert str(tmp_path) not in str(refused.value)


def test_weights_that_are_not_here(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("nobody/has-this", "no such folder", "../../x"):
        with pytest.raises(CheckpointNotFound):
            load_checker(name, fetch=False)


def test_what_the_network_finds_is_withheld(checkers):
    request = GenerationRequest(prompt="hills", seed=1, width=128, height=128)
    made = {}
    for name in ("blind", "strict"):
        safe = Safe(FakeBackend(), Settings(image_checker=str(checkers / name)))
        safe.load()
        made[name] = safe.generate(request)
    assert any(isinstance(event, ImageReady) for event in made["blind"])
    with pytest.raises(Withheld, match="withheld"):
        list(made["strict"])
