"""Downloads against a small hub on loopback: whole, resumed, refused; and never half a file under a name that is read."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cascade_app.catalogue import find_checkpoint, known_checkpoints
from cascade_app.errors import CheckpointNotFound, DownloadFailed, LicenseNotAccepted
from cascade_app.licenses import accept_license, accepted
from cascade_app.published import DECODER_REPOSITORY, LICENSE, PRIOR_REPOSITORY
from cascade_app.runtime import download
from cascade_app.runtime.download import download_checkpoint
from cascade_app.runtime.loader import load_checkpoint
from cascade_app.settings import Settings
from tests.fake_hub import FakeHub, serving
from tests.formats import wide_cascade, write_halves

WEIGHTS = "prior/diffusion_pytorch_model.bf16.safetensors"


@pytest.fixture(scope="module")
def cascade():
    return wide_cascade()


@pytest.fixture(scope="module")
def stored(cascade, tmp_path_factory) -> dict[tuple[str, str], bytes]:
    """What the hub holds: a small cascade under the published names."""
    folder = write_halves(tmp_path_factory.mktemp("hub"), cascade, dtype=torch.bfloat16)
    _as_published(folder / "stable-cascade-prior" / "tokenizer")
    repositories = {"stable-cascade-prior": PRIOR_REPOSITORY, "stable-cascade": DECODER_REPOSITORY}
    return {
        (repositories[name], path.relative_to(folder / name).as_posix()): path.read_bytes()
        for name in repositories
        for path in (folder / name).rglob("*")
        if path.is_file()
    }


def _as_published(folder: Path) -> None:
    """The tokenizer in the older form that the hub has: a vocabulary and merges."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))


@pytest.fixture
def hub(stored, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with serving(FakeHub(files=dict(stored))) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
        yield hub


@pytest.fixture
def settings(tmp_path):
    return Settings(accept_license=LICENSE, data_dir=tmp_path / "data")


def fetch(settings, **options):
    return download_checkpoint(find_checkpoint("stable-cascade"), settings=settings, **options)


def failure(settings, **options) -> str:
    with pytest.raises(DownloadFailed) as caught:
        fetch(settings, **options)
    message = caught.value.message
    assert "\n" not in message and len(message) < 400
    assert str(settings.data_dir.parent) not in message
    assert not find_checkpoint("stable-cascade").is_on_disk
    return message


def test_a_whole_checkpoint_with_progress_and_then_without_the_hub(hub, settings, cascade, monkeypatch):
    seen = []
    before = find_checkpoint("stable-cascade")
    assert not before.is_on_disk and before.missing_bytes > 11e9
    with pytest.raises(CheckpointNotFound, match="must be fetched from the hub first, about 11.7 GB"):
        load_checkpoint(before, device=torch.device("cpu"), dtype=torch.float32)
    spec = fetch(settings, progress=lambda done, total, name: seen.append((done, total, name)))
    done = [row[0] for row in seen]
    assert done == sorted(done) and done[0] == 0 and done[-1] == seen[-1][1]
    assert {WEIGHTS, "tokenizer/vocab.json", "vqgan/config.json"} <= {row[2] for row in seen}

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert spec.is_on_disk and find_checkpoint("stable-cascade").is_on_disk
    assert [one.name for one in known_checkpoints() if one.is_on_disk and one.name != "pocket"] == ["stable-cascade"]
    loaded = load_checkpoint(fetch(settings), device=torch.device("cpu"), dtype=torch.float32)
    for name, module in cascade.parts.items():
        own = module.state_dict()
        assert all(torch.equal(own[key], tensor) for key, tensor in getattr(loaded, name).state_dict().items())
    assert loaded.tokenizer("a red sun").input_ids == cascade.tokenizer("a red sun").input_ids


def test_a_broken_line_is_taken_up_again_within_a_download(hub, settings, monkeypatch):
    monkeypatch.setattr(download, "CHUNK_BYTES", 1000)
    hub.break_after = [5000, 6000, 7000]
    assert fetch(settings).is_on_disk
    assert [asked for asked in hub.ranges if asked][:3] == ["bytes=5000-", "bytes=11000-", "bytes=18000-"]
    sizes = sum(len(content) for content in hub.files.values() if len(content) >= 1000)
    assert hub.sent_bytes <= sizes


def test_a_download_that_was_stopped_goes_on_from_there(hub, settings, monkeypatch):
    monkeypatch.setattr(download, "CHUNK_BYTES", 4096)
    asked = []
    total = len(hub.files[PRIOR_REPOSITORY, WEIGHTS])

    def stop_inside_the_prior() -> bool:
        asked.append(1)
        partial = next(iter((Path(settings.data_dir.parent) / "home").rglob("*.incomplete")), None)
        return partial is not None and partial.stat().st_size > 20_000 and total > 40_000

    assert "was stopped" in failure(settings, cancelled=stop_inside_the_prior)
    hub.ranges.clear()
    assert fetch(settings).is_on_disk
    # By what is asked for, not by what was sent: the hub may still be counting what the stopped one did not take.
    assert hub.ranges[0] is not None, "the second download asks for the rest only"
    assert int(hub.ranges[0].removeprefix("bytes=").rstrip("-")) > 20_000


def test_a_server_without_ranges_is_asked_from_the_start(hub, settings):
    hub.break_after, hub.knows_ranges = [5000], False
    assert fetch(settings).is_on_disk


def test_a_line_that_keeps_breaking_is_given_up_with_what_came_kept(hub, settings):
    hub.break_after = [5000, *[0] * 50]
    assert "the next try goes on from where this one was" in failure(settings)
    hub.break_after = []
    hub.ranges.clear()
    assert fetch(settings).is_on_disk


def test_another_pair_fetches_only_what_it_does_not_share(hub, settings):
    fetch(settings)
    for name in ("config.json", "diffusion_pytorch_model.bf16.safetensors"):
        hub.files[PRIOR_REPOSITORY, f"prior_lite/{name}"] = hub.files[PRIOR_REPOSITORY, f"prior/{name}"]
    hub.ranges.clear()
    mixed = find_checkpoint("stable-cascade-lite-prior")
    assert {name for name, source in mixed.sources.items() if source.path is None} == {"prior"}
    assert download_checkpoint(mixed, settings=settings).is_on_disk
    assert hub.ranges == [], "the same content is stored once, under whatever name"


def test_spoilt_content_is_thrown_away(hub, settings):
    hub.spoils = True
    assert "came damaged and was thrown away" in failure(settings)
    assert not list((settings.data_dir.parent / "home").rglob("*.incomplete"))
    hub.spoils = False
    assert fetch(settings).is_on_disk


def test_no_hub(hub, settings, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "The hub cannot be reached" in failure(settings)


def test_offline(hub, settings, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE forbids" in failure(settings)
    assert not hub.tokens, "nobody was asked"


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, "", "does not show"),
        (401, "RepoNotFound", "does not show"),
        (403, "GatedRepo", "is gated: accept its conditions"),
        (403, "", "status 403"),
        (404, "RepoNotFound", "does not show"),
        (404, "RevisionNotFound", "no such revision"),
        (404, "EntryNotFound", "has no file"),
        (429, "", "asks to wait"),
        (500, "", "status 500"),
        (503, "", "status 503"),
    ],
)
def test_refusals(hub, settings, status, code, said):
    hub.status, hub.error_code = status, code
    assert said in failure(settings)


def test_an_address_that_is_no_hub(hub, settings, monkeypatch):
    monkeypatch.setattr("tests.fake_hub.COMMIT", "")
    hub.files = dict.fromkeys(hub.files, b"<html>")
    assert "is no hub" in failure(settings)


def test_the_token_goes_to_the_hub_and_not_to_its_storage(hub, settings, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(settings)
    assert hub.tokens == {"Bearer hf_secret", None}


def test_too_little_room_is_said_before_the_first_byte(hub, settings, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert "has 0.00 GB free" in failure(settings)
    assert hub.sent_bytes == 0


def test_a_disk_that_fills_up_is_said_and_nothing_half_written_is_used(hub, settings, monkeypatch):
    opened = Path.open

    class Full:
        """A file on a disk with no room for a whole chunk."""

        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *exc):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, chunk):
            self.file.write(chunk[:100])
            raise OSError(errno.ENOSPC, "No space left on device")

    def open_full(self, mode="r", *args, **kwargs):
        file = opened(self, mode, *args, **kwargs)
        return Full(file) if mode == "ab" else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_full)
        assert "disk of the hub's cache is full" in failure(settings)
    assert fetch(settings).is_on_disk


def test_a_cache_that_cannot_be_written(hub, settings, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert "Permission denied. Check HF_HOME" in failure(settings)


def test_the_32_bit_file_is_fetched_where_there_is_no_other(hub, settings):
    stem = "vqgan/diffusion_pytorch_model"
    hub.files[DECODER_REPOSITORY, f"{stem}.safetensors"] = hub.files.pop((DECODER_REPOSITORY, f"{stem}.bf16.safetensors"))
    folder = fetch(settings).parts["vqgan"].source.path
    assert [path.name for path in folder.glob("*.safetensors")] == ["diffusion_pytorch_model.safetensors"]


def test_the_licence_comes_first(hub, tmp_path):
    settings = Settings(data_dir=tmp_path / "data")
    with pytest.raises(LicenseNotAccepted, match="set CASCADE_ACCEPT_LICENSE to") as caught:
        fetch(settings)
    assert caught.value.license == LICENSE
    assert not hub.tokens, "nobody was asked before it is accepted"
    accept_license(LICENSE, data_dir=settings.data_dir)
    assert accepted(LICENSE, by_setting="", data_dir=settings.data_dir)
    assert fetch(settings).is_on_disk
