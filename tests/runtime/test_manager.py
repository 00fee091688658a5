"""The cache of checkpoints: shared parts, room made for new ones, the report; and a fetch told as events."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch

from cascade_app.catalogue import find_checkpoint
from cascade_app.errors import DownloadFailed, LicenseNotAccepted
from cascade_app.events import Waiting
from cascade_app.runtime import download, fetching
from cascade_app.runtime import manager as module
from cascade_app.runtime.generate import generate
from cascade_app.runtime.manager import PipelineManager
from cascade_app.settings import Settings


@pytest.fixture
def fresh():
    return PipelineManager(Settings(device="cpu", dtype="float32"))


def sibling(small_folder, tmp_path, name="sibling"):
    """Another checkpoint that has the first one's text encoder and Stage A: the very same files."""
    folder = shutil.copytree(small_folder, tmp_path / name)
    for part in ("text_encoder", "vqgan"):
        shutil.rmtree(folder / part)
        os.symlink(small_folder / part, folder / part)
    return folder


def test_equal_parts_are_loaded_once(fresh, small_folder, tmp_path):
    first = fresh.checkpoint(find_checkpoint(str(small_folder)))
    second = fresh.checkpoint(find_checkpoint(str(sibling(small_folder, tmp_path))))
    assert second.text_encoder is first.text_encoder and second.vqgan is first.vqgan
    assert second.prior is not first.prior and second.decoder is not first.decoder


def test_shared_parts_still_run_under_every_placement(small_folder, tmp_path, ask):
    from cascade_app.runtime.offload import Carrier

    def picture(card: PipelineManager, checkpoint: str) -> bytes:
        return next(event for event in generate(card, ask(checkpoint=checkpoint)) if hasattr(event, "image")).image.tobytes()

    def card(placement: str) -> PipelineManager:
        settings = Settings(device="cpu", dtype="float32", placement=placement)
        return PipelineManager(settings, carrier=Carrier(torch.device("cpu"), limit_bytes=10**12))

    checkpoints = [str(small_folder), str(sibling(small_folder, tmp_path)), str(small_folder)]
    expected = [picture(card("resident"), checkpoint) for checkpoint in checkpoints]
    for placement in ("resident", "swap", "stream"):
        shared = card(placement)
        assert [picture(shared, checkpoint) for checkpoint in checkpoints] == expected


def test_the_least_recently_used_makes_room_but_never_the_one_in_use(fresh, small_folder, tmp_path, ask, monkeypatch):
    folders = [str(small_folder), *(str(sibling(small_folder, tmp_path, name)) for name in ("b", "c"))]
    for folder in folders[:2]:
        fresh.checkpoint(find_checkpoint(folder))
    run = generate(fresh, ask(checkpoint=folders[0]))
    next(run)
    monkeypatch.setattr(module, "host_bytes", lambda: 0)
    fresh.checkpoint(find_checkpoint(folders[2]))
    titles = set(fresh.report().load_seconds)
    assert len(fresh._checkpoints) == 2 and str(small_folder.resolve()) in fresh._checkpoints
    assert titles
    assert any(hasattr(event, "image") for event in run)


def test_the_report_says_where_everything_is(fresh, small_folder, ask):
    assert fresh.report().parts == () and fresh.report().placement == ""
    list(generate(fresh, ask()))
    report = fresh.report()
    assert report.placement == "cpu" and report.reason.endswith(".") and report.prompts_cached == 2
    assert [part.name for part in report.parts] == ["text_encoder", "prior", "decoder", "vqgan"]
    assert all(part.bytes > 0 and part.where == "host" for part in report.parts)


def published(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return find_checkpoint("stable-cascade-lite")


def test_a_licence_is_asked_for_before_anything_is_fetched(tmp_path, monkeypatch):
    spec = published(tmp_path, monkeypatch)
    with pytest.raises(LicenseNotAccepted, match="non-commercial"):
        list(fetching.fetch(spec, Settings(data_dir=tmp_path), every_s=0.01))


def test_a_fetch_is_told_as_it_goes_and_its_failure_is_a_sentence(tmp_path, monkeypatch):
    spec = published(tmp_path, monkeypatch)
    settings = Settings(data_dir=tmp_path, accept_license=spec.license_to_accept)
    with pytest.raises(DownloadFailed, match="HF_HUB_OFFLINE"):
        list(fetching.fetch(spec, settings, every_s=0.01))

    def slow(spec, *, settings, progress, cancelled):
        progress(10**9, 2 * 10**9, "prior/model")
        while not cancelled():
            pass
        stopped.append(json.dumps("stopped"))

    stopped: list[str] = []
    monkeypatch.setattr(download, "download_checkpoint", slow)
    told = fetching.fetch(spec, settings, every_s=0.05)
    next(told)
    assert next(told) == Waiting("Fetching 1.00 of 2.00 GB: model")
    told.close()
    for _ in range(200):
        if stopped:
            break
        __import__("time").sleep(0.01)
    assert stopped, "closing must stop the download"
