"""Faults inside a run, at every network: each ends in a sentence, a line of the log, and the same next picture."""

from __future__ import annotations

import importlib
import logging
import time

import numpy as np
import pytest
import torch

from cascade_app.errors import CascadeError, RenderFailed
from cascade_app.events import ImageReady, RunStarted
from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.item import Query
from cascade_app.gallery.store import record
from cascade_app.logs import explained
from cascade_app.request import GenerationRequest
from cascade_app.runtime.generate import generate
from cascade_app.runtime.manager import PipelineManager
from cascade_app.serving.around import Around
from cascade_app.serving.caller import Caller, asked_by
from cascade_app.serving.fair import Fair
from cascade_app.serving.logged import Logged
from cascade_app.serving.safe import Safe
from cascade_app.serving.stopping import Stopping
from cascade_app.settings import Settings
from cascade_app.work import WHOLE
from tests.fakes import FakeBackend
from tests.small import write_checkpoint

ANNA = "a" * 32
OTHERWISE = "Something went wrong that should not have."
# Where each network is called from.
BORDERS = {
    "text encoder": ("cascade_app.runtime.manager", "encode_weighted"),
    "prior": ("cascade_app.diffusion.stages", "predict"),
    "decoder": ("cascade_app.diffusion.stages", "predict"),
    "vqgan": ("cascade_app.runtime.generate", "decode"),
}


def no_host_memory() -> None:
    torch.empty(2**58)  # as real as it gets: the system has no exabyte


def no_python_memory() -> None:
    bytearray(2**62)


def no_device_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def broken() -> None:
    raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


class Engine(Around):
    """The real engine on a small checkpoint, behind a backend that is only asked for plans."""

    def __init__(self, manager: PipelineManager) -> None:
        super().__init__(FakeBackend())
        self.manager = manager

    def plan(self, request, work=WHOLE):
        from cascade_app.catalogue import find_checkpoint
        from cascade_app.plan import make_plan

        return make_plan(request, find_checkpoint(request.checkpoint), work)

    def generate(self, request, work=WHOLE):
        return generate(self.manager, request, work)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def manager(folder):
    return PipelineManager(Settings(device="cpu", dtype="float32"), preview_share=0)


@pytest.fixture
def backend(manager):
    """All that stands before the engine of a server."""
    return Stopping(Logged(Safe(Fair(Engine(manager), size=8), Settings())))


@pytest.fixture
def request_(folder):
    return GenerationRequest(
        prompt="an unmistakable heron", seed=7, prior_steps=2, decoder_steps=2, width=128, height=128, checkpoint=str(folder)
    )


def pixels(backend, request) -> np.ndarray:
    run = asked_by(Caller(ANNA), backend).generate(request)
    return next(np.asarray(event.image) for event in run if isinstance(event, ImageReady))


def fails(backend, request) -> tuple[Exception, str]:
    """The error of a run, and what its user is told."""
    with pytest.raises(Exception) as failed:
        list(asked_by(Caller(ANNA, request_id="abc123"), backend).generate(request))
    return failed.value, explained(failed.value, logging.getLogger("cascade_app"), otherwise=OTHERWISE)


@pytest.mark.parametrize("where", BORDERS)
@pytest.mark.parametrize("fault", [no_host_memory, no_python_memory, no_device_memory, broken])
def test_a_network_fails(backend, manager, request_, monkeypatch, caplog, where, fault):
    manager._embeds.clear()
    before = pixels(backend, request_)
    module, name = BORDERS[where]
    real = getattr(importlib.import_module(module), name)
    channels = {"prior": 16, "decoder": 4}.get(where)

    def faulty(*args, **kwargs):
        if channels is None or args[0].config.in_channels == channels:
            fault()
        return real(*args, **kwargs)

    manager._embeds.clear()
    caplog.clear()
    with monkeypatch.context() as patch:
        patch.setattr(f"{module}.{name}", faulty)
        error, sentence = fails(backend, request_)
    assert sentence.endswith("(reference abc123).")
    if fault is broken:
        assert sentence.startswith(OTHERWISE[:-1]) and "mat1" not in sentence
    else:
        assert isinstance(error, RenderFailed) and "Memory ran out at 128 x 128 px" in sentence
    (line,) = [one for one in caplog.records if one.message == "fault"]
    assert line.fields["reference"] == "abc123"
    assert not manager.turnstile.busy
    assert (pixels(backend, request_) == before).all()


def test_the_worker_dies_in_the_middle(backend, request_, caplog):
    """Its thread is gone: nobody takes the next event, and the run is collected like any other garbage."""
    run = asked_by(Caller(ANNA), backend).generate(request_)
    assert any(isinstance(event, RunStarted) for event in (next(run) for _ in range(3)))
    del run
    assert backend.wait(60)
    assert pixels(backend, request_).shape == (128, 128, 3)


def test_an_engine_that_stops_without_a_word_frees_the_next(request_):
    class Silent(FakeBackend):
        died = False

        def _run(self, request, work):
            for event in super()._run(request, work):
                if not self.died:
                    self.died = True
                    return
                yield event

    backend = Stopping(Logged(Fair(Silent(), size=8)))
    request = GenerationRequest(prompt="hills", seed=1, width=128, height=128)
    error, sentence = fails(backend, request)
    assert isinstance(error, CascadeError) and "(reference abc123)" in sentence
    assert pixels(backend, request).shape == (128, 128, 3)


def test_the_clock_is_set_back(tmp_path, monkeypatch):
    """A day, in the middle of everything: pictures are kept, found, deleted and restored as before."""
    gallery = Gallery(tmp_path / "pictures")
    gallery.open()
    album, backend = gallery.of(ANNA), Stopping(Logged(Fair(FakeBackend(), size=8)))
    request = GenerationRequest(prompt="hills", seed=1, width=128, height=128)
    real = time.time
    for days in (0, -1, -400, 3):
        monkeypatch.setattr(time, "time", lambda days=days: real() + days * 86_400)
        list(record(asked_by(Caller(ANNA), backend).generate(request), album))
    items = album.page().items
    assert len(items) == 4 == album.usage().pictures
    assert [one.name for one in items] == sorted((one.name for one in items), reverse=True)
    album.delete([items[0].id])
    monkeypatch.setattr(time, "time", lambda: real() - 800 * 86_400)
    list(record(asked_by(Caller(ANNA), backend).generate(request), album))
    assert [one.id for one in album.page(Query(trash=True)).items] == [items[0].id], "the trash is not cleared early"
    album.restore([items[0].id])
    assert len(album.page().items) == 5 and gallery.open().dropped == 0
    gallery.close()
