"""The exported folder: whole, small, and readable by diffusers' and transformers' own classes."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch
from diffusers import DDPMScheduler, StableCascadeUNet
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
from safetensors.torch import load_file
from transformers import CLIPImageProcessor, CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection

from cascade_app.diffusion.effnet import ImageEncoder
from cascade_app.diffusion.preview import Previewer
from cascade_app.training import evaluate
from cascade_app.training.darkroom import Darkroom, Setting
from cascade_app.training.export import export, unit_variance, unpack
from cascade_app.training.world import DATA_VERSION


@pytest.fixture(scope="module")
def folder(work, tmp_path_factory):
    target = tmp_path_factory.mktemp("assets") / "pocket"
    export(work, target)
    return target


def test_every_part_loads_with_its_own_class(folder):
    prior = StableCascadeUNet.from_pretrained(folder / "prior")
    decoder = StableCascadeUNet.from_pretrained(folder / "decoder")
    assert (prior.config.in_channels, decoder.config.in_channels) == (16, 4)
    assert PaellaVQModel.from_pretrained(folder / "vqgan").config.latent_channels == 4
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    text = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder")
    assert text.config.eos_token_id == tokenizer.eos_token_id
    assert text.config.hidden_size == prior.config.clip_text_in_channels
    image = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder")
    assert image.config.projection_dim == prior.config.clip_image_in_channels
    assert (
        CLIPImageProcessor.from_pretrained(folder / "feature_extractor").crop_size["height"] == image.config.image_size
    )
    scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
    assert scheduler.config.prediction_type == "sample"


def test_encoder_and_previewer_shapes(folder):
    encoder = ImageEncoder.from_state_dict(load_file(folder / "effnet_encoder.safetensors")).float()
    previewer = Previewer.from_state_dict(load_file(folder / "previewer.safetensors")).float()
    for height, width, rows, columns in ((256, 256, 6, 6), (192, 384, 5, 9), (320, 224, 8, 6), (288, 352, 7, 9)):
        latents = encoder(torch.rand(1, 3, height, width))
        assert latents.shape == (1, 16, rows, columns)
        assert previewer(latents).shape == (1, 3, 16 * rows, 16 * columns)
    assert not list(encoder.norm.parameters())


def test_it_is_small_and_names_no_machine(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40e6
    assert max(path.stat().st_size for path in files) < 20e6
    for path in files:
        if path.suffix in (".json", ".md", ".txt") and path.name not in ("vocab.json", "merges.txt", "tokenizer.json"):
            text = path.read_text()
            assert "/tmp" not in text and "/home" not in text and "/root" not in text, path
    index = json.loads((folder / "model_index.json").read_text())
    assert index["studio"]["license"] == "apache-2.0"
    provenance = json.loads((folder / "provenance.json").read_text())
    assert set(provenance["parts"]) >= {"prior", "decoder", "vqgan", "text_encoder"}


def test_export_keeps_what_others_put_there(folder, work):
    (folder / "evaluation.json").write_text("{}")
    export(work, folder)
    assert (folder / "evaluation.json").exists()


def test_the_engine_makes_pictures_of_it(folder):
    room = Darkroom(folder)
    setting = Setting(prior_steps=2, decoder_steps=2, size_px=(192, 256))
    pictures, estimates = room.pictures(["a", "b", "c"], [0, 1, 2], setting=setting, batch=2)
    assert pictures.shape == (3, 3, 192, 256)
    assert estimates.shape == (2, 3, 16, 5, 6)
    alone, whole = room.restore(torch.rand(1, 3, 256, 256))
    assert alone.shape == whole.shape == (1, 3, 256, 256)


def test_accuracy_counts_named_attributes_only():
    scenes = evaluate.held_out_scenes(24)
    asked = evaluate.wanted(scenes)
    assert evaluate.accuracy(asked, asked)["mean"] == 1.0
    assert evaluate.accuracy(asked + 1, asked)["mean"] == 0.0
    assert (asked[:, evaluate.NAMES.index("object")] != 0).all()


def test_an_exported_checkpoint_can_be_trained_on(folder, tmp_path):
    unpack(folder, tmp_path)
    again = tmp_path / "again"
    export(tmp_path, again)
    for name in ("prior/diffusion_pytorch_model", "text_encoder/model", "effnet_encoder", "previewer"):
        first, second = (load_file(place / f"{name}.safetensors") for place in (folder, again))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_what_was_trained_before_is_counted_with_what_was_trained_since(folder, tmp_path):
    begun = tmp_path / "begun"
    shutil.copytree(folder, begun)
    about = json.loads((begun / "provenance.json").read_text())
    about["parts"]["prior"], about["parts"]["vqgan"] = {"steps": 700, "minutes": 30.5}, {"steps": None, "minutes": None}
    about["data_version"], about["parts"]["encoder"] = "old", {"steps": 9, "minutes": 1.0}  # as before parts told their own
    about["parts"]["image_encoder"]["data_version"] = "older"
    (begun / "provenance.json").write_text(json.dumps(about))
    work = tmp_path / "work"
    unpack(begun, work)
    (work / "state").mkdir()
    for name in ("stage_c_refined", "stage_a_sharpened", "previewer"):
        torch.save({"step": 40, "seconds": 90.0, "ema": {}}, work / "state" / f"{name}.pt")
        os.utime(work / "state" / f"{name}.pt", (0, 0))  # finished long ago: the kept weights are newer
    parts = export(work, tmp_path / "again")["parts"]
    assert parts["prior"] == {"steps": 740, "minutes": 32.0, "data_version": DATA_VERSION}
    assert parts["vqgan"] == {"steps": 40, "minutes": 1.5, "data_version": DATA_VERSION}
    assert parts["encoder"] == {"steps": 9, "minutes": 1.0, "data_version": "old"}
    assert parts["previewer"] == {"steps": 40, "minutes": 1.5, "data_version": DATA_VERSION}  # gone on alone
    assert parts["image_encoder"]["data_version"] == "older"
    unpack(tmp_path / "again", work)  # as sharpening does with what this folder has just exported
    assert export(work, tmp_path / "again")["parts"] == parts


def test_a_trained_encoder_survives_float16():
    """The BatchNorm of a trained encoder has a variance that float16 cannot hold."""
    torch.manual_seed(0)
    encoder = ImageEncoder().eval()
    encoder.norm.running_var.fill_(3e5)
    encoder.norm.running_mean.normal_(std=1000)
    halved = {k: v.half().float() for k, v in unit_variance(encoder.state_dict()).items()}
    pictures = torch.rand(1, 3, 256, 256)
    assert torch.allclose(ImageEncoder.from_state_dict(halved)(pictures), encoder(pictures), atol=0.02)
