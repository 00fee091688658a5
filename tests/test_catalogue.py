"""A checkpoint's facts are read from its index; whatever is wrong with it is said in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cascade_app.catalogue import KNOWN, POCKET_DIR, brief, called, find_checkpoint, known_checkpoints, read_json
from cascade_app.errors import CascadeError, CheckpointDamaged, CheckpointError, CheckpointNotFound, LicenseNotAccepted
from cascade_app.layouts import hub_cache
from cascade_app.licenses import accept_license, accepted, require_license
from cascade_app.plan import make_plan
from cascade_app.published import LICENSE
from cascade_app.request import FIELD, GenerationRequest

STUDIO = {
    "name": "Small", "license": "ours", "default_size_px": 256, "min_size_px": 192, "max_size_px": 384, "size_step_px": 32,
    "defaults": {"prior_steps": 12},
}  # fmt: skip


def write(folder: Path, content: object) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "model_index.json").write_text(text, encoding="utf-8")
    return str(folder)


def message_of(name: str, kind: type[CheckpointError]) -> str:
    with pytest.raises(kind) as caught:
        find_checkpoint(name)
    message = caught.value.message
    assert "\n" not in message
    assert len(message) < 400
    return message


def test_a_folder_of_ours(tmp_path: Path):
    spec = find_checkpoint(write(tmp_path / "small", {"resolution_multiple": 42.67, "studio": STUDIO}))
    assert (spec.title, spec.license, spec.default_size_px, spec.max_size_px) == ("Small", "ours", 256, 384)
    assert spec.folder == (tmp_path / "small").resolve()
    assert dict(spec.defaults) == {"prior_steps": 12}
    assert spec.prior_factor == 42.67


def test_a_served_folder_or_file_is_called_by_its_last_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cascade_app.catalogue._CALLED", {})
    first, second = (write(tmp_path / place / "small", {"studio": STUDIO}) for place in ("a", "b"))
    assert called(first) == called(first) == "small"
    assert called(second) == "small-local"
    assert find_checkpoint("small").folder == Path(first) and find_checkpoint("small-local").folder == Path(second)
    assert find_checkpoint("small").name == "small"
    assert called(str(tmp_path / "pocket")) == "pocket-local" and find_checkpoint("pocket").folder == POCKET_DIR
    (tmp_path / "all.in.one.safetensors").write_bytes(b"")
    assert called(str(tmp_path / "all.in.one.safetensors")) == "all.in.one"


@pytest.mark.parametrize("name", ["pocket", "stable-cascade", "/", "a\x00b", "~nobody-of-that-name/x"], ids=ascii)
def test_a_name_stays_what_it_is_called(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cascade_app.catalogue._CALLED", {})
    assert called(name) == name


def test_what_is_served_and_not_there_keeps_its_path_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cascade_app.catalogue._CALLED", {})
    message = message_of(called(str(tmp_path / "nowhere")), CheckpointNotFound)
    assert "nowhere" in message and str(tmp_path) not in message


def test_a_published_folder_has_the_published_values(tmp_path: Path):
    spec = find_checkpoint(write(tmp_path / "cascade", {"_class_name": "StableCascadeCombinedPipeline"}))
    assert (spec.title, spec.default_size_px, spec.min_size_px, spec.max_size_px) == ("cascade", 1024, 256, 2048)
    assert spec.defaults["prior_guidance"] == 4.0
    assert set(spec.defaults) <= set(FIELD)


def test_a_relative_folder_and_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "small", {"studio": STUDIO})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_checkpoint("small").folder == find_checkpoint("~/small").folder == (tmp_path / "small").resolve()


@pytest.mark.parametrize(
    "name",
    ["pokcet", "/no/such/folder", "~nobody-of-that-name/x", "x" * 1000, "a\x00b", "a\nb\tc", "..../....", "🎞" * 300, "a/" * 499],
    ids=lambda name: ascii(name)[:20],
)
def test_no_such_checkpoint(name: str):
    message = message_of(name, CheckpointNotFound)
    assert "pocket" in message
    assert "folder" in message


def test_a_file_is_no_checkpoint(tmp_path: Path):
    (tmp_path / "file").write_text("{}")
    message_of(str(tmp_path / "file"), CheckpointNotFound)


def test_a_known_checkpoint_that_is_gone_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("cascade_app.catalogue.KNOWN", {"pocket": tmp_path / "pocket"})
    assert "is missing" in message_of("pocket", CheckpointNotFound)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "not valid JSON"),
        ('{"studio": {"default', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ({"studio": []}, "studio part"),
        ({"studio": {**STUDIO, "defaults": [1]}}, "defaults part"),
        ({"studio": {**STUDIO, "default_size_px": "large"}}, "not a number"),
        ({"studio": {**STUDIO, "max_size_px": None}}, "not a number"),
        ({"studio": {**STUDIO, "max_size_px": [384]}}, "not a number"),
        ('{"studio": {"max_size_px": Infinity}}', "not a number"),
        ('{"studio": {"max_size_px": NaN}}', "not a number"),
        ({"resolution_multiple": "big"}, "not a number"),
        ({"resolution_multiple": 0}, "do not go together"),
        ({"resolution_multiple": -42.67}, "do not go together"),
        ('{"resolution_multiple": NaN}', "do not go together"),
        ({"studio": {**STUDIO, "size_step_px": 0}}, "do not go together"),
        ({"studio": {**STUDIO, "size_step_px": -32}}, "do not go together"),
        ({"studio": {**STUDIO, "size_step_px": 4}}, "do not go together"),
        ({"studio": {**STUDIO, "min_size_px": 0}}, "do not go together"),
        ({"studio": {**STUDIO, "min_size_px": 400}}, "do not go together"),
        ({"studio": {**STUDIO, "default_size_px": 250}}, "do not go together"),
        ({"studio": {**STUDIO, "default_size_px": 512}}, "do not go together"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_damaged_index_is_named(tmp_path: Path, content: object, why: str):
    message = message_of(write(tmp_path / "small", content), CheckpointDamaged)
    assert why in message
    assert "small/model_index.json" in message
    assert str(tmp_path) not in message, "a message does not show the folders above the checkpoint"


def test_an_index_that_is_missing_or_no_text(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert "empty/model_index.json is missing" in message_of(str(tmp_path / "empty"), CheckpointDamaged)
    (tmp_path / "odd" / "model_index.json").mkdir(parents=True)
    assert "cannot be read" in message_of(str(tmp_path / "odd"), CheckpointDamaged)
    (tmp_path / "bytes").mkdir()
    (tmp_path / "bytes" / "model_index.json").write_bytes(b"\xff\xfe\x00{")
    assert "not valid JSON" in message_of(str(tmp_path / "bytes"), CheckpointDamaged)


def test_read_json_names_the_file_only_briefly(tmp_path: Path):
    assert brief(tmp_path / "prior" / "config.json") == "prior/config.json"
    with pytest.raises(CheckpointDamaged, match=r"^prior/config\.json is missing"):
        read_json(tmp_path / "prior" / "config.json")


def test_the_bundled_checkpoint(pocket: Path):
    spec = find_checkpoint("pocket")
    assert KNOWN["pocket"] == POCKET_DIR == spec.folder == pocket
    assert spec.name == "pocket"
    assert set(spec.defaults) <= set(FIELD)
    request = GenerationRequest.from_values({**spec.defaults, "prompt": "a boat", "seed": 1})
    assert make_plan(request, spec).width == spec.default_size_px
    for part in ("prior", "decoder", "vqgan", "text_encoder", "tokenizer", "scheduler"):
        assert (spec.folder / part).is_dir(), part


# --- the published checkpoints ---


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_the_names(empty_cache: Path):
    specs = {spec.name: spec for spec in known_checkpoints()}
    published_names = ["stable-cascade", "stable-cascade-lite", "stable-cascade-lite-prior", "stable-cascade-lite-decoder"]
    assert [name for name in specs if name != "pocket"] == published_names
    assert not any(specs[name].is_on_disk for name in published_names)
    assert len({spec.folder for spec in specs.values()}) == len(specs), "the folder tells checkpoints apart"
    assert specs["stable-cascade"].missing_bytes == 2 * (694_659_840 + 3_589_103_632 + 1_562_941_136 + 18_406_894)


def test_each_part_says_where_it_comes_from(empty_cache: Path):
    parts = find_checkpoint("stable-cascade-lite").parts
    assert {name: (part.source.hub.repository, part.source.hub.weight_files()[0]) for name, part in parts.items()} == {
        "text_encoder": ("stabilityai/stable-cascade-prior", "text_encoder/model.bf16.safetensors"),
        "prior": ("stabilityai/stable-cascade-prior", "prior_lite/diffusion_pytorch_model.bf16.safetensors"),
        "decoder": ("stabilityai/stable-cascade", "decoder_lite/diffusion_pytorch_model.bf16.safetensors"),
        "vqgan": ("stabilityai/stable-cascade", "vqgan/diffusion_pytorch_model.bf16.safetensors"),
    }
    assert all(part.license == "stable-cascade-nc-community" and part.source.hub.revision for part in parts.values())
    assert find_checkpoint("stable-cascade").parts["vqgan"].source.key == parts["vqgan"].source.key
    assert find_checkpoint("stable-cascade").parts["prior"].source.key != parts["prior"].source.key


def test_the_sets_of_settings_are_requests(empty_cache: Path):
    spec = find_checkpoint("stable-cascade")
    assert set(spec.presets) == {"model card", "authors"}
    card = GenerationRequest.from_values({"prompt": "x", "seed": 1, **spec.presets["model card"]})
    authors = GenerationRequest.from_values({"prompt": "x", "seed": 1, **spec.presets["authors"]})
    assert (card.prior_guidance, card.prior_steps, card.decoder_guidance, card.decoder_steps) == (4.0, 20, 0.0, 10)
    assert (card.prior_shift, card.guidance_rescale) == (1.0, 0.0)
    assert (authors.prior_shift, authors.prior_guidance, authors.guidance_rescale, authors.decoder_guidance) == (2, 4, 0.7, 1.1)
    assert make_plan(card, spec).prior_shape == (16, 24, 24)


def test_a_folder_in_the_way_is_reached_by_its_path(tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "stable-cascade", {"studio": STUDIO})
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("stable-cascade").title.startswith("Stable Cascade")
    assert find_checkpoint("./stable-cascade").title == "Small"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HF_HUB_CACHE": "/a/b"}, "/a/b"),
        ({"HF_HOME": "/home"}, "/home/hub"),
        ({"HF_HOME": "/home", "HF_HUB_CACHE": "/other"}, "/other"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/huggingface/hub"),
        ({}, str(Path("~/.cache/huggingface/hub").expanduser())),
    ],
)
def test_the_hubs_cache(environ: dict[str, str], expected: str):
    assert str(hub_cache(environ)) == expected


def test_a_damaged_file_in_the_hubs_cache_leaves_the_other_names_usable(empty_cache: Path):
    repository = empty_cache / "models--stabilityai--stable-cascade-prior"
    folder = repository / "snapshots" / "abc" / "prior"
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (folder / "config.json").write_text("{}")
    (folder / "diffusion_pytorch_model.bf16.safetensors").write_bytes(b"half")
    assert "prior/diffusion_pytorch_model.bf16.safetensors cannot be read" in message_of("stable-cascade", CheckpointDamaged)
    assert "stable-cascade-lite" in [spec.name for spec in known_checkpoints()]


def test_an_older_snapshot_that_is_whole_is_used_where_the_newer_one_is_not(empty_cache: Path):
    repository = empty_cache / "models--stabilityai--stable-cascade-prior"
    for commit, names in (("old", ("scheduler_config.json",)), ("new", ())):
        (repository / "snapshots" / commit / "scheduler").mkdir(parents=True)
        for name in names:
            (repository / "snapshots" / commit / "scheduler" / name).write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("new")
    found = find_checkpoint("stable-cascade").companions["scheduler"].path
    assert found == repository / "snapshots" / "old" / "scheduler"


@pytest.mark.parametrize("half", ["StableCascadePriorPipeline", "StableCascadeDecoderPipeline"])
def test_half_a_cascade_is_completed_by_the_published_one(tmp_path: Path, empty_cache: Path, half: str):
    spec = find_checkpoint(write(tmp_path / "tuned", {"_class_name": half}))
    assert list(spec.parts) == ["text_encoder", "prior", "decoder", "vqgan"]
    assert {"tokenizer", "scheduler"} <= set(spec.companions)
    assert not spec.is_on_disk
    assert spec.license_to_accept == LICENSE


# --- licences ---


def test_a_licence_is_accepted_by_setting_or_by_a_click(tmp_path: Path):
    nobody = {"by_setting": "", "data_dir": tmp_path / "data"}
    assert not accepted(LICENSE, **nobody)
    assert accepted("apache-2.0", **nobody), "only what is asked for has to be accepted"
    with pytest.raises(LicenseNotAccepted, match="set CASCADE_ACCEPT_LICENSE to stable-cascade-nc-community"):
        require_license(LICENSE, **nobody)
    assert accepted(LICENSE, by_setting=f"other, {LICENSE}", data_dir=tmp_path)
    assert not accepted(LICENSE, by_setting="yes", data_dir=tmp_path)
    accept_license(LICENSE, data_dir=tmp_path / "data")
    assert accepted(LICENSE, **nobody)
    require_license(LICENSE, **nobody)


@pytest.mark.parametrize("record", ["", "[]", "{", '{"accepted": 1}', '{"accepted": [[1]]}', "\x00"])
def test_a_record_that_cannot_be_read_is_no_acceptance(tmp_path: Path, record: str):
    (tmp_path / "licenses.json").write_text(record)
    assert not accepted(LICENSE, by_setting="", data_dir=tmp_path)
    accept_license(LICENSE, data_dir=tmp_path)
    assert accepted(LICENSE, by_setting="", data_dir=tmp_path)


def test_a_licence_nobody_asks_for_is_not_recorded(tmp_path: Path):
    with pytest.raises(CascadeError, match="is no licence that is asked for"):
        accept_license("mine", data_dir=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(CascadeError, match="Set CASCADE_ACCEPT_LICENSE"):
        accept_license(LICENSE, data_dir=tmp_path / "file")


def test_a_digest_is_of_all_weights_and_of_nothing_else(pocket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    copy = tmp_path / "copy"
    shutil.copytree(pocket, copy)
    own = find_checkpoint("pocket").digest
    assert len(own) == 32 and find_checkpoint(str(copy)).digest == own
    (copy / "model_index.json").write_text((copy / "model_index.json").read_text().replace("Pocket", "Other"))
    assert find_checkpoint(str(copy)).digest == own
    weights = next((copy / "vqgan").glob("*.safetensors"))
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2] + bytes(byte ^ 1 for byte in data[len(data) // 2 :]))
    assert find_checkpoint(str(copy)).digest != own
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    assert find_checkpoint("stable-cascade").digest == "", "not fetched yet"
