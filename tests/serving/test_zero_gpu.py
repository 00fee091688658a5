"""On ZeroGPU: loaded before the page, run in a forked worker, errors in our words; elsewhere nothing of it.

The worker here computes on the CPU: a card that is lent has never been seen where this was written.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cascade_app.catalogue import find_checkpoint
from cascade_app.errors import Busy, CascadeError, InvalidRequest, LicenseNotAccepted, NotReady, RenderFailed
from cascade_app.events import Finished, ImageReady, StepDone, Waiting
from cascade_app.plan import make_plan
from cascade_app.request import GenerationRequest
from cascade_app.serving.local import LocalBackend
from cascade_app.serving.zero_gpu import ZeroGpuBackend, gpu_seconds, is_here, make_backend
from cascade_app.settings import Settings
from cascade_app.work import WHOLE, Origin, Work
from tests.serving.fake_spaces import FakeSpaces, WorkerError
from tests.small import write_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("cascade"))


@pytest.fixture
def spaces(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSpaces]:
    module = FakeSpaces()
    monkeypatch.setitem(sys.modules, "spaces", module)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


@pytest.fixture
def backend(spaces: FakeSpaces, folder: Path, tmp_path: Path) -> ZeroGpuBackend:
    return make_backend(Settings(checkpoint=str(folder), device="cpu", dtype="float32", data_dir=tmp_path))


def ask(folder: Path, **changed) -> GenerationRequest:
    values = {"prompt": "sea", "seed": 5, "width": 128, "height": 128, "prior_steps": 2, "decoder_steps": 2}
    return GenerationRequest.from_values({**values, "checkpoint": str(folder), **changed})


def test_elsewhere_it_is_the_engine_as_it_is(monkeypatch, tmp_path):
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    monkeypatch.setitem(sys.modules, "spaces", None)  # importing it would fail
    assert type(make_backend(Settings(data_dir=tmp_path))) is LocalBackend


@pytest.mark.parametrize(("said", "here"), [("true", True), ("1", True), ("false", False), ("", False)])
def test_zero_gpu_is_told_by_its_variable(said, here):
    assert is_here({"SPACES_ZERO_GPU": said}) is here
    assert not is_here({})


def test_all_is_loaded_before_the_page(backend, folder):
    assert type(backend) is ZeroGpuBackend and backend.status().state == "ready"
    backend.start()
    assert backend.status().state == "ready" and torch.get_num_threads() == 1


def test_a_run_in_the_worker_makes_the_same_picture(backend, spaces, folder, tmp_path):
    request = ask(folder, images=2)
    here = LocalBackend(Settings(checkpoint=str(folder), device="cpu", dtype="float32", data_dir=tmp_path, threads=1))
    here.load()
    expected = [event.image.tobytes() for event in here.generate(request) if isinstance(event, ImageReady)]
    events = list(backend.generate(request))
    assert [event.image.tobytes() for event in events if isinstance(event, ImageReady)] == expected
    assert isinstance(events[0], Waiting) and isinstance(events[-1], Finished)
    assert [type(event) for event in events].count(StepDone) == [type(event) for event in here.generate(request)].count(StepDone)
    plan = backend.plan(request)
    assert spaces.durations == [gpu_seconds(plan, find_checkpoint(str(folder)))]


def test_an_open_seed_is_drawn_once(backend, folder):
    [picture] = [event for event in backend.generate(ask(folder, seed=None)) if isinstance(event, ImageReady)]
    assert picture.record.request.seed == picture.seed


def test_all_that_crosses_is_plain_data(folder, tmp_path):
    here = LocalBackend(Settings(checkpoint=str(folder), device="cpu", dtype="float32", data_dir=tmp_path))
    here.load()
    sketch = Work(sketch=True)
    for event in [*here.generate(ask(folder)), *here.generate(ask(folder), sketch)]:
        crossed = pickle.dumps(event)
        assert type(pickle.loads(crossed)) is type(event) and b"torch" not in crossed


def test_closing_stops_the_worker(backend, folder):
    events = backend.generate(ask(folder, prior_steps=50, decoder_steps=50))
    for event in events:
        if isinstance(event, StepDone):
            break
    events.close()
    assert any(isinstance(event, Finished) for event in backend.generate(ask(folder)))


def test_an_error_of_ours_keeps_its_words(backend, folder, monkeypatch):
    def fail(*_arguments):
        yield Waiting("soon")
        raise InvalidRequest("Too wide by half.", field="width")

    monkeypatch.setattr("cascade_app.serving.local.LocalBackend.generate", fail)
    with pytest.raises(InvalidRequest, match=r"Too wide by half\.") as caught:
        list(backend.generate(ask(folder)))
    assert caught.value.field == "width"


@pytest.mark.parametrize("error", [InvalidRequest("a", field="width"), LicenseNotAccepted("b", license="c"), CascadeError("d")])
def test_errors_cross_whole(error):
    crossed = pickle.loads(pickle.dumps(error))
    assert (type(crossed), crossed.message, vars(crossed)) == (type(error), error.message, vars(error))


def test_a_bug_in_the_worker_is_a_sentence(backend, folder, monkeypatch):
    def fail(*_arguments):
        yield Waiting("soon")
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("cascade_app.serving.local.LocalBackend.generate", fail)
    with pytest.raises(RenderFailed, match=r"worker stopped \(ZeroDivisionError\)"):
        list(backend.generate(ask(folder)))


def test_a_worker_that_is_killed_is_a_sentence_and_the_next_one_works(backend, folder, monkeypatch):
    def killed(*_arguments):
        yield Waiting("soon")
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr("cascade_app.serving.local.LocalBackend.generate", killed)
        with pytest.raises(RenderFailed, match=r"worker stopped \(GPU task aborted\)\. Try again"):
            list(backend.generate(ask(folder)))
    assert isinstance(list(backend.generate(ask(folder)))[-1], Finished)


def test_no_card_to_be_had_is_a_sentence(backend, spaces, folder):
    told = "You have exceeded your  free ZeroGPU quota\n(60s requested vs. 2s left)."
    spaces.refusal = WorkerError(told, "ZeroGPU quota exceeded")
    with pytest.raises(Busy, match=r"^You have exceeded your free ZeroGPU quota \(60s requested vs. 2s left\).$"):
        list(backend.generate(ask(folder)))


def test_another_error_stays_what_it_is(backend, spaces, folder):
    spaces.refusal = OSError("x")
    with pytest.raises(OSError, match="x"):
        list(backend.generate(ask(folder)))


def test_only_the_checkpoint_that_was_loaded_is_served(backend, spaces):
    with pytest.raises(InvalidRequest, match="On ZeroGPU only the checkpoint this Space was started with"):
        list(backend.generate(GenerationRequest.from_values({"prompt": "sea", "checkpoint": "stable-cascade"})))
    assert spaces.durations == []


def test_a_checkpoint_that_cannot_be_loaded_leaves_a_page_that_says_so(spaces, tmp_path):
    backend = make_backend(Settings(checkpoint=str(tmp_path / "nowhere"), device="cpu", data_dir=tmp_path))
    assert backend.status().state == "failed" and "neither a known name" in backend.status().message


def test_no_card_is_asked_for_without_an_engine(backend, spaces, folder):
    backend._manager = None
    with pytest.raises(NotReady):
        list(backend.generate(ask(folder)))
    assert spaces.durations == []


# --- how long -----------------------------------------------------------------------------------------------------------


def seconds(name: str = "stable-cascade", work: Work = WHOLE, **changed) -> int:
    spec = find_checkpoint(name)
    values = {**spec.defaults, "prompt": "sea", "checkpoint": name, "seed": 1, "images": 1, **changed}
    return gpu_seconds(make_plan(GenerationRequest.from_values(values), spec, work), spec)


@pytest.mark.parametrize(
    "more",
    [{"prior_steps": 40}, {"decoder_steps": 20}, {"width": 1536, "height": 1536}, {"images": 4}, {"decoder_guidance": 1.5}],
)
def test_more_work_asks_for_longer(more):
    assert seconds(**more) > seconds()


def test_less_work_asks_for_less():
    assert seconds(work=Work(sketch=True)) < seconds()
    assert seconds(prior_guidance=1.0) < seconds()
    assert seconds("stable-cascade-lite") < seconds()
    assert 10 <= seconds("pocket") < seconds("stable-cascade-lite") < seconds() < 60
    assert type(seconds()) is int


def test_developing_asks_for_no_prior():
    spec = find_checkpoint("stable-cascade")
    request = GenerationRequest.from_values({**spec.defaults, "prompt": "sea", "checkpoint": spec.name, "seed": 1})
    plan = make_plan(request, spec)
    developed = replace(plan, prior_steps=(0,), origins=(Origin(1, "develop"),))
    assert gpu_seconds(developed, spec) < gpu_seconds(plan, spec)


def test_the_counted_work_is_that_of_the_published_networks():
    """8.16 TFLOP a guided Stage C step and 6.17 a Stage B step at 1024 px, at 40 TFLOP/s with half as much again."""
    prior = seconds(prior_steps=120, decoder_steps=10) - seconds(prior_steps=20, decoder_steps=10)
    assert prior == pytest.approx(1.5 * 100 * (8.16 / 40 + 0.1), rel=0.05)
    decoder = seconds(decoder_steps=60) - seconds(decoder_steps=10)
    assert decoder == pytest.approx(1.5 * 50 * (6.17 / 40 + 0.1), rel=0.05)

