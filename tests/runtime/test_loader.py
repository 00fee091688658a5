"""Damaged and foreign folders: each says which file is wrong, and none spoils what was loaded before."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from cascade_app.catalogue import find_checkpoint
from cascade_app.errors import CheckpointDamaged, CheckpointError
from cascade_app.runtime.generate import generate
from cascade_app.runtime.loader import load_checkpoint
from cascade_app.runtime.manager import PipelineManager
from cascade_app.settings import Settings

WEIGHTS = "diffusion_pytorch_model.safetensors"


def load(folder):
    return load_checkpoint(find_checkpoint(str(folder)), device=torch.device("cpu"), dtype=torch.float32)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edit_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_tensors(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


DAMAGE = {
    "no index": (lambda f: (f / "model_index.json").unlink(), "model_index.json is missing"),
    "index not JSON": (lambda f: (f / "model_index.json").write_text("{"), "not valid JSON"),
    "index a list": (lambda f: (f / "model_index.json").write_text("[]"), "not a JSON object"),
    "index size": (lambda f: edit_json(f / "model_index.json", studio={"min_size_px": "small"}), "not a number"),
    "no prior": (lambda f: shutil.rmtree(f / "prior"), "no prior/ folder"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "no tokenizer/ folder"),
    "bad tokenizer": (lambda f: [p.write_text("{") for p in (f / "tokenizer").glob("*.json")], "tokenizer"),
    "no scheduler": (lambda f: shutil.rmtree(f / "scheduler"), "scheduler_config.json is missing"),
    "unknown scheduler": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", _class_name="EulerScheduler"), "EulerScheduler"),
    "unknown prediction": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", prediction_type="flow"), "flow"),
    "no weights": (lambda f: (f / "decoder" / WEIGHTS).unlink(), f"decoder/{WEIGHTS} is missing"),
    "truncated weights": (lambda f: truncate(f / "decoder" / WEIGHTS), f"decoder/{WEIGHTS} cannot be read"),
    "empty weights": (lambda f: (f / "vqgan" / WEIGHTS).write_bytes(b""), f"vqgan/{WEIGHTS} cannot be read"),
    "a pickle renamed": (lambda f: torch.save({}, f / "prior" / WEIGHTS), f"prior/{WEIGHTS} cannot be read"),
    "no config": (lambda f: (f / "prior" / "config.json").unlink(), "prior/config.json is missing"),
    "another class": (lambda f: edit_json(f / "prior" / "config.json", _class_name="UNet2DModel"), "UNet2DModel"),
    "a missing tensor": (
        lambda f: edit_tensors(f / "prior" / WEIGHTS, lambda t: t.pop("clip_txt_mapper.weight")), "clip_txt_mapper"),
    "a wrong shape": (
        lambda f: edit_tensors(f / "prior" / WEIGHTS, lambda t: t.update({"clip_norm.x": torch.zeros(1),
                               "clip_txt_mapper.weight": torch.zeros(3, 3)})), "prior/"),
    "wrong sizes in the config": (lambda f: edit_json(f / "decoder" / "config.json", clip_seq=7), "decoder/"),
    "text encoder truncated": (lambda f: truncate(f / "text_encoder" / "model.safetensors"), "text_encoder/model"),
    "text encoder lacks a tensor": (
        lambda f: edit_tensors(f / "text_encoder" / "model.safetensors", lambda t: t.pop("text_projection.weight")),
        "text_projection"),
    "previewer of another kind": (
        lambda f: save_file({"weight": torch.zeros(2)}, f / "previewer.safetensors"), "previewer.safetensors"),
    "previewer truncated": (lambda f: (f / "previewer.safetensors").write_bytes(b"12345678"), "previewer.safetensors"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_told_in_one_sentence(small_folder, tmp_path, kind):
    folder = shutil.copytree(small_folder, tmp_path / "copy")
    damage, said = DAMAGE[kind]
    damage(folder)
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    message = caught.value.message
    assert said in message and "\n" not in message
    assert str(tmp_path) not in message, "a message goes to strangers: it names files, not where they lie"


def test_a_damaged_checkpoint_leaves_the_loaded_one_usable(small_folder, tmp_path, ask):
    manager = PipelineManager(Settings(device="cpu", dtype="float32"))
    manager.checkpoint(find_checkpoint(str(small_folder)))
    folder = shutil.copytree(small_folder, tmp_path / "copy")
    truncate(folder / "prior" / WEIGHTS)
    with pytest.raises(CheckpointDamaged):
        list(generate(manager, ask(checkpoint=str(folder))))
    assert not manager.turnstile.busy
    assert list(generate(manager, ask()))


def test_two_at_once_read_it_once(small_folder, monkeypatch):
    import threading

    from cascade_app.runtime import manager as module

    calls = []
    monkeypatch.setattr(module, "load_checkpoint", lambda *args, **kwargs: calls.append(1) or load_checkpoint(*args, **kwargs))
    manager = PipelineManager(Settings(device="cpu", dtype="float32"))
    spec = find_checkpoint(str(small_folder))
    threads = [threading.Thread(target=manager.checkpoint, args=(spec,)) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(calls) == 1


def test_16_bit_files_load_in_the_dtype_asked_for(small_folder, tmp_path):
    from tests.small import write_checkpoint

    folder = write_checkpoint(tmp_path, dtype=torch.bfloat16)
    spec = find_checkpoint(str(folder))
    for dtype in (torch.bfloat16, torch.float32):
        loaded = load_checkpoint(spec, device=torch.device("cpu"), dtype=dtype)
        parts = (loaded.text_encoder, loaded.prior, loaded.decoder, loaded.vqgan)
        assert {parameter.dtype for part in parts for parameter in part.parameters()} == {dtype}
