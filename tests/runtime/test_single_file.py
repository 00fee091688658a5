"""One cascade in every published format: the same tensors, the same picture, whatever the files are called."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from cascade_app.catalogue import find_checkpoint
from cascade_app.errors import CheckpointDamaged, CheckpointNotFound
from cascade_app.events import ImageReady
from cascade_app.layouts import PARTS
from cascade_app.recognise import find_parts, infer_config
from cascade_app.request import GenerationRequest
from cascade_app.runtime.generate import generate
from cascade_app.runtime.loader import load_checkpoint
from cascade_app.runtime.manager import PipelineManager
from cascade_app.settings import Settings
from cascade_app.weights import read_header
from tests.formats import authors_names, wide_cascade, write_all_in_one, write_authors_files, write_folder, write_halves

FULL = {"vqgan": "stage_a.safetensors", "decoder": "stage_b.safetensors", "prior": "stage_c.safetensors"}
LITE = {"vqgan": "stage_a.safetensors", "decoder": "stage_b_lite_bf16.safetensors", "prior": "stage_c_lite_bf16.safetensors"}
ODD = {"vqgan": "x.safetensors", "decoder": "stage_c.safetensors", "prior": "stage_b.safetensors"}  # names that lie
BF16, FP32 = torch.bfloat16, torch.float32

FORMATS = {
    "folder, 32 bit": lambda folder, cascade: write_folder(folder, cascade),
    "folder, 16 bit": lambda folder, cascade: write_folder(folder, cascade, dtype=BF16),
    "folder, variant bf16": lambda folder, cascade: write_folder(folder, cascade, dtype=BF16, variant="bf16"),
    "folder, lite names": lambda folder, cascade: write_folder(folder, cascade, dtype=BF16, variant="bf16", lite=True),
    "two folders": lambda folder, cascade: write_halves(folder, cascade, dtype=BF16),
    "one of two folders": lambda folder, cascade: write_halves(folder, cascade, dtype=BF16) / "stable-cascade",
    "the other of two folders": lambda folder, cascade: write_halves(folder, cascade, dtype=BF16) / "stable-cascade-prior",
    "authors' files, 32 bit": lambda folder, cascade: write_authors_files(folder, cascade, dtype=FP32, names=FULL),
    "authors' lite files, 16 bit": lambda folder, cascade: write_authors_files(folder, cascade, dtype=BF16, names=LITE),
    "authors' files misnamed": lambda folder, cascade: write_authors_files(folder, cascade, dtype=BF16, names=ODD),
    "one of the authors' files": lambda folder, cascade: (
        write_authors_files(folder, cascade, dtype=BF16, names=FULL) / "stage_c.safetensors"),
    "all-in-one, 16 bit": lambda folder, cascade: write_all_in_one(folder, cascade, dtype=BF16),
    "all-in-one, 32 bit": lambda folder, cascade: write_all_in_one(folder, cascade, dtype=FP32),
    "all-in-one, saved again": lambda folder, cascade: write_all_in_one(folder, cascade, dtype=BF16, split_attention=True),
    "one all-in-one file": lambda folder, cascade: write_all_in_one(folder, cascade, dtype=BF16) / "two.safetensors",
}  # fmt: skip


@pytest.fixture(scope="module")
def cascade():
    return wide_cascade()


@pytest.fixture(scope="module")
def expected(cascade, tmp_path_factory):
    """The picture of the plain folder."""
    return picture(write_folder(tmp_path_factory.mktemp("plain"), cascade))


def picture(path) -> bytes:
    manager = PipelineManager(Settings(device="cpu", dtype="float32"))
    sizes = {"width": 256, "height": 256, "prior_steps": 2, "decoder_steps": 2}
    values = {"prompt": "a red sun", "seed": 7, "checkpoint": str(path), **sizes}
    events = list(generate(manager, GenerationRequest.from_values(values)))
    return next(event.image.tobytes() for event in events if isinstance(event, ImageReady))


@pytest.mark.parametrize("kind", FORMATS)
def test_same_tensors_and_same_picture(kind, cascade, expected, tmp_path):
    path = FORMATS[kind](tmp_path / "checkpoint", cascade)
    spec = find_checkpoint(str(path))
    assert spec.is_on_disk
    loaded = load_checkpoint(spec, device=torch.device("cpu"), dtype=FP32)
    for name in PARTS:
        own, theirs = cascade.parts[name].state_dict(), getattr(loaded, name).state_dict()
        assert own.keys() == theirs.keys()
        assert [key for key in own if not torch.equal(own[key], theirs[key])] == []
        assert spec.parts[name].parameters == sum(tensor.numel() for tensor in own.values() if tensor.is_floating_point())
        assert spec.parts[name].bytes == 2 * spec.parts[name].parameters
    latents = torch.randn(1, 16, 3, 3)
    # Channels last adds up in another order.
    assert_close(loaded.preview_prior(latents), cascade.previewer(latents), atol=1e-5, rtol=0)
    assert picture(path) == expected


@pytest.mark.parametrize("name", PARTS)
def test_a_config_is_inferred_from_shapes_as_it_was(name, cascade, tmp_path):
    module = cascade.parts[name]
    tensors = module.state_dict() if name == "text_encoder" else authors_names(name, module)
    save_file(tensors, tmp_path / "nameless")
    header = read_header(tmp_path / "nameless")
    assert find_parts(header) == {name: ""}
    config = infer_config(name, header)
    own = module.config.to_dict() if name == "text_encoder" else json.loads(json.dumps(dict(module.config)))
    for key in config.keys() - {"_class_name", "architectures", "model_type", "dropout", "self_attn"}:
        assert config[key] == own[key], key


def edit(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


SD = "model.diffusion_model.input_blocks.0.0.weight"
BIAS = "down_blocks.1.0.channelwise.4.bias"


def missing_block(tensors):
    tensors.pop("down_blocks.1.3.depthwise.weight")


DAMAGE = {
    "truncated": (lambda f: f.write_bytes(f.read_bytes()[:-100]), "it is truncated, 100 of"),
    "a pickle renamed": (lambda f: torch.save({"a": torch.zeros(2)}, f), "is a pickle"),
    "text": (lambda f: f.write_text("not weights at all"), "not a safetensors file"),
    "a LoRA": (lambda f: save_file({"lora_unet_down_blocks_0_2.lora_up.weight": torch.zeros(2, 2)}, f), "is a LoRA"),
    "another family": (lambda f: save_file({SD: torch.zeros(2)}, f), "another family"),
    "a block gone": (lambda f: edit(f, missing_block), "do not fit together"),
    "a tensor gone": (lambda f: edit(f, lambda t: t.pop(BIAS)), BIAS),
    "a shape wrong": (lambda f: edit(f, lambda t: t.update({BIAS: torch.zeros(3)})), "is 3 in the file"),
    "half a query": (
        lambda f: edit(f, lambda t: t.update({"down_blocks.0.2.attention.attn.in_proj_bias": torch.zeros(96)})), "to_q.bias"),
    "whole numbers": (
        lambda f: edit(f, lambda t: t.update({"clf.1.bias": t["clf.1.bias"].to(torch.int32)})), "stores clf.1.bias as I32"),
    "not a number": (lambda f: edit(f, lambda t: t["clf.1.bias"].fill_(float("nan"))), "NaN"),
    "of another cascade": (
        lambda f: edit(f, lambda t: t.update({"clip_txt_mapper.weight": torch.zeros(64, 80)})), "do not belong together"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_told_in_one_sentence(kind, cascade, tmp_path):
    folder = write_authors_files(tmp_path / "files", cascade, dtype=BF16, names=FULL)
    damage, said = DAMAGE[kind]
    damage(folder / "stage_c.safetensors")
    with pytest.raises(CheckpointDamaged) as caught:
        load_checkpoint(find_checkpoint(str(folder / "stage_c.safetensors")), device=torch.device("cpu"), dtype=FP32)
    message = caught.value.message
    assert said in message
    assert "\n" not in message
    assert "stage_c.safetensors" in message or "belong together" in message
    assert str(tmp_path) not in message


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_a_pickle_is_refused_by_its_name(suffix, tmp_path):
    torch.save({"clf.1.weight": torch.zeros(2)}, tmp_path / f"stage_c{suffix}")
    with pytest.raises(CheckpointDamaged, match="is a pickle, which can run code"):
        find_checkpoint(str(tmp_path / f"stage_c{suffix}"))


def test_a_folder_of_foreign_files_says_what_they_are(tmp_path):
    save_file({"a.lora_up.weight": torch.zeros(2)}, tmp_path / "style.safetensors")
    with pytest.raises(CheckpointDamaged, match="is a LoRA"):
        find_checkpoint(str(tmp_path))


def test_a_damaged_file_is_named_when_its_part_is_missing(cascade, tmp_path):
    folder = write_authors_files(tmp_path, cascade, dtype=BF16, names=FULL)
    (folder / "stage_b.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(CheckpointDamaged, match=r"stage_b\.safetensors cannot be read"):
        find_checkpoint(str(folder))


def test_strangers_beside_the_files_do_no_harm(cascade, tmp_path):
    folder = write_authors_files(tmp_path, cascade, dtype=BF16, names=FULL)
    save_file({"a.lora_up.weight": torch.zeros(2)}, folder / "a_lora.safetensors")
    (folder / "broken.safetensors").write_bytes(b"")
    assert find_checkpoint(str(folder)).is_on_disk


def test_of_two_files_with_the_same_part_the_16_bit_one_is_taken_unless_named(cascade, tmp_path):
    folder = write_authors_files(tmp_path, cascade, dtype=FP32, names=FULL)
    write_authors_files(folder, cascade, dtype=BF16, names={"prior": "stage_c_bf16.safetensors"})
    assert find_checkpoint(str(folder)).parts["prior"].source.path.name == "stage_c_bf16.safetensors"
    chosen = find_checkpoint(str(folder / "stage_c.safetensors"))
    assert chosen.parts["prior"].source.path.name == "stage_c.safetensors"


def test_what_is_missing_is_to_come_from_the_hub_and_says_so(cascade, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = write_authors_files(tmp_path / "files", cascade, dtype=BF16, names=FULL)
    (folder / "tokenizer").rename(tmp_path / "elsewhere")
    spec = find_checkpoint(str(folder))
    assert not spec.is_on_disk
    assert spec.companions["tokenizer"].hub.repository == "stabilityai/stable-cascade-prior"
    with pytest.raises(CheckpointNotFound, match="tokenizer must be fetched from the hub first"):
        load_checkpoint(spec, device=torch.device("cpu"), dtype=FP32)
