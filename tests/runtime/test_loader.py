"""Damaged and foreign folders: each says which file is wrong, and none spoils what was loaded before."""

from __future__ import annotations

import errno
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableCascadeUNet
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModelWithProjection

from cascade_app.catalogue import find_checkpoint
from cascade_app.diffusion.packed import PackedLinear, can_pack
from cascade_app.errors import CheckpointDamaged, CheckpointError
from cascade_app.runtime import loader, reading
from cascade_app.runtime.generate import generate
from cascade_app.runtime.loader import load_checkpoint, load_part
from cascade_app.runtime.manager import PipelineManager
from cascade_app.runtime.offload import Carrier
from cascade_app.settings import Settings

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"


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


def cut(path, count):
    path.write_bytes(path.read_bytes()[:-count])


def append(path, more):
    path.write_bytes(path.read_bytes() + more)


def flip(path, position, bit=4):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def split_file(path):
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def join_file(path, entries, data):
    text = json.dumps(entries).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def edit_header(path, change):
    entries, data = split_file(path)
    change(next(entry for key, entry in entries.items() if key != "__metadata__"))
    join_file(path, entries, data)


def overlap(path):
    entries, data = split_file(path)
    first, second = [entry for entry in entries.values() if entry.get("shape") == [6]][:2]
    second["data_offsets"] = first["data_offsets"]
    join_file(path, entries, data)


def swap_headers(folder):
    join_file(folder / "prior" / WEIGHTS, split_file(folder / "decoder" / WEIGHTS)[0], split_file(folder / "prior" / WEIGHTS)[1])


def replace_folder(source, target):
    shutil.rmtree(target)
    shutil.copytree(source, target)


def relink(path, target):
    path.unlink()
    path.symlink_to(target)


def shard(folder):
    """The folder's weights in two files with an index, as large ones are published."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    keys = sorted(tensors)
    where = {key: "a.safetensors" if index < len(keys) // 2 else "b.safetensors" for index, key in enumerate(keys)}
    for name in ("a.safetensors", "b.safetensors"):
        save_file({key: tensors[key] for key in keys if where[key] == name}, folder / name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))


def prior(folder):
    return folder / "prior" / WEIGHTS


def vqgan(folder):
    return folder / "vqgan" / WEIGHTS


def config(folder):
    return folder / "prior" / "config.json"


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
    "empty weights": (lambda f: (vqgan(f)).write_bytes(b""), f"vqgan/{WEIGHTS} cannot be read"),
    "a pickle renamed": (lambda f: torch.save({}, prior(f)), f"prior/{WEIGHTS} cannot be read"),
    "no config": (lambda f: (config(f)).unlink(), "prior/config.json is missing"),
    "another class": (lambda f: edit_json(config(f), _class_name="UNet2DModel"), "UNet2DModel"),
    "a missing tensor": (
        lambda f: edit_tensors(prior(f), lambda t: t.pop("clip_txt_mapper.weight")), "clip_txt_mapper"),
    "a wrong shape": (
        lambda f: edit_tensors(prior(f), lambda t: t.update({"clip_norm.x": torch.zeros(1),
                               "clip_txt_mapper.weight": torch.zeros(3, 3)})), "prior/"),
    "wrong sizes in the config": (lambda f: edit_json(f / "decoder" / "config.json", clip_seq=7), "decoder/"),
    "text encoder truncated": (lambda f: truncate(f / "text_encoder" / "model.safetensors"), "text_encoder/model"),
    "text encoder lacks a tensor": (
        lambda f: edit_tensors(f / "text_encoder" / "model.safetensors", lambda t: t.pop("text_projection.weight")),
        "text_projection"),
    "previewer of another kind": (
        lambda f: save_file({"weight": torch.zeros(2)}, f / "previewer.safetensors"), "previewer.safetensors"),
    "weights short by a byte": (
        lambda f: cut(prior(f), 1), f"prior/{WEIGHTS} cannot be read: it is truncated, 1 of"),
    "weights with more behind": (lambda f: append(prior(f), b"more"), "bytes (4) that belong to no tensor"),
    "a header longer than the file": (
        lambda f: prior(f).write_bytes((2**40).to_bytes(8, "little") + b"{}"), "not a safetensors file"),
    "a header of another file": (lambda f: swap_headers(f), "cannot be read"),
    "a bit of the header flipped": (lambda f: flip(prior(f), 8), "not a safetensors file"),
    "offsets outside the file": (
        lambda f: edit_header(vqgan(f), lambda e: e.update(data_offsets=[2**40, 2**40 + 4])), "describes no valid tensor"),
    "a negative shape": (lambda f: edit_header(vqgan(f), lambda e: e.update(shape=[-1])), "describes no valid tensor"),
    "an unknown dtype": (lambda f: edit_header(vqgan(f), lambda e: e.update(dtype="F7")), "describes no valid tensor"),
    "overlapping tensors": (lambda f: overlap(vqgan(f)), "leave gaps or overlap"),
    "whole numbers for weights": (
        lambda f: edit_tensors(prior(f), lambda t: t.update({"clf.1.bias": t["clf.1.bias"].int()})), "stores clf.1.bias as I32"),
    "8-bit weights": (
        lambda f: edit_tensors(prior(f), lambda t: t.update({"clf.1.bias": t["clf.1.bias"].to(torch.float8_e4m3fn)})),
        "stores clf.1.bias as F8_E4M3"),
    "NaN": (lambda f: edit_tensors(f / "decoder" / WEIGHTS, lambda t: t["clf.1.bias"][0].fill_(float("nan"))), "NaN or infinite"),
    "infinity": (lambda f: edit_tensors(vqgan(f), lambda t: t["out_block.0.bias"][0].fill_(-float("inf"))), "out_block.0.bias"),
    "a LoRA in place of the model": (
        lambda f: save_file({"lora_prior_unet_clf_1.lora_up.weight": torch.zeros(2, 2)}, prior(f)), "prior/ is a LoRA"),
    "Stage B in place of Stage C": (lambda f: shutil.copy(f / "decoder" / WEIGHTS, prior(f)), "prior/ lacks"),
    "Stage B's whole folder in place of Stage C's": (lambda f: replace_folder(f / "decoder", f / "prior"),
        "do not belong together"),
    "Stage A's folder in place of Stage C's": (lambda f: replace_folder(f / "vqgan", f / "prior"), "describes a PaellaVQModel"),
    "a missing shard": (lambda f: (shard(f / "prior"), (f / "prior" / "b.safetensors").unlink()),
        "prior/b.safetensors, one of 2 shards"),
    "a truncated shard": (lambda f: (shard(f / "prior"), truncate(f / "prior" / "b.safetensors")),
        "prior/b.safetensors cannot be read"),
    "a shard from elsewhere": (
        lambda f: (shard(f / "prior"), edit_json(f / "prior" / INDEX, weight_map={"x": "../../x.safetensors"})), "names a shard"),
    "an index of shards that is none": (lambda f: (shard(f / "prior"), (f / "prior" / INDEX).write_text("{}")), "weight_map"),
    "only a pickle": (
        lambda f: prior(f).rename(f / "prior" / "diffusion_pytorch_model.bin"), "diffusion_pytorch_model.bin is a pickle"),
    "a folder for weights": (lambda f: (prior(f).unlink(), prior(f).mkdir()), "it is not a file"),
    "a link to nowhere": (lambda f: relink(prior(f), f / "nowhere"), "No such file"),
    "a link to itself": (lambda f: relink(prior(f), prior(f)), "symbolic links"),
    "a config of a monster": (lambda f: edit_json(config(f), down_num_layers_per_block=[10**9, 1]), "1000000000"),
    "a config of a tower": (lambda f: edit_json(config(f), up_num_layers_per_block=[300, 1]), "is 300"),
    "tensors that the config does not know": (
        lambda f: edit_json(config(f), down_num_layers_per_block=[1, 1]), "tensors that its config does not ask for"),
    "a Stage A of no scale": (lambda f: edit_json(f / "vqgan" / "config.json", scale_factor=0), "scale_factor is 0"),
    "a text encoder of no end": (
        lambda f: edit_json(f / "text_encoder" / "config.json", eos_token_id=None), "eos_token_id is None"),
    "a text encoder of no layers": (
        lambda f: edit_json(f / "text_encoder" / "config.json", num_hidden_layers=0), "tensors that its config does not ask for"),
    "a decoder without its input": (
        lambda f: edit_json(f / "decoder" / "config.json", effnet_in_channels=None), "has no effnet_in_channels"),
    "a tokenizer of no length": (
        lambda f: edit_json(f / "tokenizer" / "tokenizer_config.json", model_max_length="long"), "no room for a prompt"),
    "a schedule of words": (
        lambda f: edit_json(f / "scheduler" / "scheduler_config.json", s="small"), "holds what is no number"),
    "a Stage A of many levels": (lambda f: edit_json(f / "vqgan" / "config.json", levels=100_000), "has 100000 levels"),
    "a config as large as a film": (lambda f: config(f).write_text(" " * 17_000_000 + "{}"), "is larger than"),
    "a config of words": (lambda f: edit_json(config(f), block_out_channels="wide"), "describes no network"),
    "a config without meaning": (lambda f: edit_json(config(f), block_types_per_layer=[["A"], ["B"]]), "describes no network"),
    "a text encoder without projection": (
        lambda f: edit_json(f / "text_encoder" / "config.json", architectures=["CLIPTextModel"]), "CLIPTextModel, not a"),
    "a tokenizer with more words": (
        lambda f: edit_json(f / "text_encoder" / "config.json", vocab_size=50), "do not belong together"),
    "a tokenizer with longer prompts": (
        lambda f: edit_json(f / "text_encoder" / "config.json", max_position_embeddings=4), "do not belong together"),
    "an index of no shards": (lambda f: (shard(f / "prior"), edit_json(f / "prior" / INDEX, weight_map={})), "names a shard"),
    "a text encoder of another cascade": (
        lambda f: edit_json(config(f), clip_text_in_channels=32), "prior takes text 32 wide, and text_encoder gives 24"),
    "a Stage A of another cascade": (
        lambda f: edit_json(f / "vqgan" / "config.json", latent_channels=8), "vqgan takes Stage B latents 8 wide"),
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


def test_shards_load_like_one_file(small_folder, tmp_path):
    folder = shutil.copytree(small_folder, tmp_path / "copy")
    shard(folder / "prior")
    assert same(load(folder).prior, load(small_folder).prior)


def same(one, other):
    others = other.state_dict()
    return all(torch.equal(tensor, others[key]) for key, tensor in one.state_dict().items())


def test_no_flipped_bit_of_a_header_does_worse_than_a_sentence(small_folder, tmp_path):
    folder = shutil.copytree(small_folder, tmp_path / "copy")
    path = folder / "vqgan" / WEIGHTS
    whole = path.read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    dice = random.Random(0)
    told = 0
    for _ in range(150):
        path.write_bytes(whole)
        flip(path, dice.randrange(length), dice.randrange(8))
        try:
            load_part(find_checkpoint(str(folder)).parts["vqgan"], dtype=torch.float32)
        except CheckpointDamaged as error:
            told += 1
            assert "vqgan/" in error.message and "\n" not in error.message
    assert told > 100, "most bits matter; those of the padding and of the metadata do not"


@pytest.mark.parametrize("refused", ["folder", "weights", "config"])
def test_what_may_not_be_read(small_folder, tmp_path, monkeypatch, refused):
    def refuse(real, *parts):
        def call(self, *args, **kwargs):
            if self.name in parts:
                raise PermissionError(errno.EACCES, "Permission denied")
            return real(self, *args, **kwargs)

        return call

    folder = shutil.copytree(small_folder, tmp_path / "closed")
    if refused == "folder":
        (folder / "model_index.json").unlink()
        monkeypatch.setattr(Path, "iterdir", refuse(Path.iterdir, "closed"))
    elif refused == "weights":
        monkeypatch.setattr(Path, "open", refuse(Path.open, WEIGHTS))
    else:
        monkeypatch.setattr(Path, "read_text", refuse(Path.read_text, "config.json"))
    with pytest.raises(CheckpointDamaged, match="Permission denied"):
        load(folder)


@pytest.mark.parametrize("change", [Path.unlink, truncate, lambda path: flip(path, 20), lambda path: torch.save({}, path)])
def test_a_file_that_changes_after_it_was_looked_at(small_folder, tmp_path, change):
    folder = shutil.copytree(small_folder, tmp_path / "copy")
    spec = find_checkpoint(str(folder))
    change(folder / "decoder" / WEIGHTS)
    with pytest.raises(CheckpointDamaged, match="decoder/"):
        load_checkpoint(spec, device=torch.device("cpu"), dtype=torch.float32)


def test_a_network_that_is_loaded_already_is_used_as_it_is(small_folder):
    first = load(small_folder)
    spec = first.spec
    shared = {spec.parts["text_encoder"].source.key: first.text_encoder, spec.parts["vqgan"].source.key: first.vqgan}
    second = load_checkpoint(spec, device=torch.device("cpu"), dtype=torch.float32, shared=shared)
    assert second.text_encoder is first.text_encoder and second.vqgan is first.vqgan
    assert second.prior is not first.prior and same(second.prior, first.prior)


@pytest.mark.skipif(not can_pack(torch.float32), reason="this torch has no oneDNN to pack for")
def test_small_networks_that_stay_on_the_cpu_are_packed(small_folder, monkeypatch):
    def packed(manager) -> set[str]:
        loaded = manager.checkpoint(find_checkpoint(str(small_folder)))
        networks = {name: getattr(loaded, name) for name in ("text_encoder", "prior", "decoder", "vqgan")}
        return {name for name, one in networks.items() if any(isinstance(each, PackedLinear) for each in one.modules())}

    settings = Settings(device="cpu", dtype="float32")
    assert packed(PipelineManager(settings)) == {"prior", "decoder", "vqgan"}
    # Weights that go to a card and come back have to stay as they are; so do those too large to be held twice over.
    assert not packed(PipelineManager(settings, carrier=Carrier(torch.device("cpu"), limit_bytes=10**9)))
    monkeypatch.setattr(loader, "_PACKED_BYTES", 1)
    assert not packed(PipelineManager(settings))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads where memory is mapped from Linux's /proc")
def test_large_files_are_mapped_and_small_ones_copied(small_folder, monkeypatch):
    def mapped(network) -> bool:
        address = network.clf[1].weight.data_ptr()
        for line in Path("/proc/self/maps").read_text().splitlines():
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if start <= address < end:
                return line.endswith(WEIGHTS)
        return False

    assert not mapped(load(small_folder).prior), "a small file may be written again while it is in use"
    monkeypatch.setattr(reading, "COPIED_BYTES", 0)
    assert mapped(load(small_folder).prior)


def test_loaded_networks_equal_those_of_the_libraries(small_folder):
    loaded = load(small_folder)
    assert same(StableCascadeUNet.from_pretrained(small_folder / "prior"), loaded.prior)
    theirs = CLIPTextModelWithProjection.from_pretrained(small_folder / "text_encoder")
    assert same(theirs, loaded.text_encoder)
    words = torch.tensor([loaded.tokenizer("a red sun").input_ids])
    assert torch.equal(theirs(words).text_embeds, loaded.text_encoder(words).text_embeds)
    assert not any(module.training for module in loaded.prior.modules())
    assert not any(parameter.requires_grad for parameter in loaded.text_encoder.parameters())


@pytest.mark.parametrize(("dtype", "variant"), [(torch.float32, ""), (torch.bfloat16, ".bf16"), (torch.float16, ".bf16")])
def test_of_two_variants_the_one_that_needs_no_conversion_is_read(small_folder, tmp_path, dtype, variant):
    folder = shutil.copytree(small_folder, tmp_path / "copy")
    tensors = load_file(folder / "prior" / WEIGHTS)
    halves = {key: tensor.bfloat16() + 1 for key, tensor in tensors.items()}
    save_file(halves, folder / "prior" / "diffusion_pytorch_model.bf16.safetensors")
    loaded = load_checkpoint(find_checkpoint(str(folder)), device=torch.device("cpu"), dtype=dtype)
    expected = (halves if variant else tensors)["clf.1.bias"].to(dtype)
    assert torch.equal(loaded.prior.clf[1].bias, expected)


def test_a_tokenizer_that_does_not_say_how_long_a_prompt_may_be(small_folder, tmp_path):
    folder = shutil.copytree(small_folder, tmp_path / "copy")
    path = folder / "tokenizer" / "tokenizer_config.json"
    described = json.loads(path.read_text())
    described.pop("model_max_length")
    path.write_text(json.dumps(described))
    assert load(folder).tokenizer.model_max_length == 12


def test_the_previewer_works_where_the_latents_are(pocket):
    checkpoint = load_checkpoint(find_checkpoint(str(pocket)), device=torch.device("cpu"), dtype=torch.float32)
    picture = checkpoint.preview_prior(torch.randn(1, 16, 6, 6, device="meta"))
    assert picture.device.type == "meta" and picture.shape[:2] == (1, 3)
