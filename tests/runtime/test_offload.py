"""Placements carried out on a simulated card: the same picture under every one, and within the bytes predicted."""

from __future__ import annotations

import numpy
import pytest
import torch

from cascade_app.catalogue import find_checkpoint
from cascade_app.diffusion import stages
from cascade_app.events import ImageReady, Notice, RunStarted
from cascade_app.runtime.generate import generate
from cascade_app.runtime.manager import PipelineManager, part_facts
from cascade_app.runtime.memory import OVERHEAD_BYTES, PARTS
from cascade_app.runtime.offload import Carrier
from cascade_app.settings import Settings
from tests.small import MID_SIZE, small_vqgan, write_checkpoint

CPU = torch.device("cpu")
PLENTY = 10**12


def card(placement: str = "auto", limit_bytes: int = PLENTY) -> PipelineManager:
    settings = Settings(device="cpu", dtype="float32", placement=placement)
    return PipelineManager(settings, carrier=Carrier(CPU, limit_bytes=limit_bytes))


def run(manager, request):
    events = list(generate(manager, request))
    pictures = [numpy.asarray(event.image) for event in events if isinstance(event, ImageReady)]
    return pictures, events


def same(pictures, others) -> bool:
    return all((a == b).all() for a, b in zip(pictures, others, strict=True))


def alike(pictures, others) -> bool:
    """Up to 1 of 255: on a CPU, what lies there packed rounds otherwise than what a card is given plain."""
    return all(numpy.abs(a.astype(int) - b).max() <= 1 for a, b in zip(pictures, others, strict=True))


@pytest.fixture(scope="module")
def weights(manager, small_folder):
    """Bytes of each part in float32."""
    loaded = manager.checkpoint(find_checkpoint(str(small_folder)))
    return {name: 2 * part_facts(getattr(loaded, name)).bytes for name in PARTS}


@pytest.mark.parametrize("placement", ["resident", "swap", "stream", "cpu"])
@pytest.mark.parametrize("guided", [False, True])
def test_the_picture_is_the_same_under_every_placement(manager, ask, placement, guided):
    request = ask(images=2, prior_guidance=4.0 if guided else 0, decoder_guidance=1.5 if guided else 0)
    packed, _ = run(manager, request)
    expected, _ = run(card("resident"), request)
    other = card(placement)
    for _ in range(2):  # the second run finds what the first left on the device
        pictures, events = run(other, request)
        assert same(pictures, expected) and alike(pictures, packed)
    assert (other.carrier.moved_bytes > 0) == (placement != "cpu")
    assert next(event for event in events if isinstance(event, RunStarted)).placement


@pytest.mark.parametrize("placement", ["resident", "swap", "stream"])
def test_nothing_computes_while_its_weights_are_elsewhere(ask, placement):
    """On this simulated card it would go unnoticed: everything is the CPU's memory. On a real one the run would end."""
    other = card(placement)
    request = ask(prior_guidance=4.0, decoder_guidance=1.5)
    checkpoint = other.checkpoint(find_checkpoint(request.checkpoint))
    used, absent = [], []

    def look(module, _inputs):
        used.append(module)
        if not all(other.carrier.holds([tensor]) for tensor in module.parameters(recurse=False)):
            absent.append(module)

    for name in ("prior", "decoder"):
        for module in getattr(checkpoint, name).modules():
            module.register_forward_pre_hook(look)
    run(other, request)
    assert used and absent == []


def test_what_was_put_on_the_device_for_good_is_neither_moved_nor_let_go():
    carrier = Carrier(torch.device("meta"))
    there = torch.empty(4, device="meta")
    assert carrier.holds([there])
    carrier.bring([there])
    carrier.let_go([there])
    assert (carrier.moved_bytes, carrier.used_bytes) == (0, 0) and carrier.holds([there])


def test_putting_a_checkpoint_on_the_device(small_folder):
    manager = PipelineManager(Settings(device="meta", dtype="float32"))
    spec = find_checkpoint(str(small_folder))
    manager.put_on_device(spec)
    parts = [getattr(manager.checkpoint(spec), name) for name in PARTS]
    assert {tensor.device.type for part in parts for tensor in part.parameters()} == {"meta"}


@pytest.fixture(scope="module")
def mid_size_folder(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("mid-size"), changes=MID_SIZE)


@pytest.mark.parametrize("checkpoint", ["pocket", "mid-size"])
def test_the_pocket_and_a_mid_size_cascade_too(manager, ask, mid_size_folder, checkpoint):
    name = "pocket" if checkpoint == "pocket" else str(mid_size_folder)
    size = 256 if checkpoint == "pocket" else 128
    request = ask(checkpoint=name, width=size, height=size, prompt="a red sun over blue mountains")
    on_cpu = run(manager, request)[0][0].astype(int)  # from packed weights, whose products round otherwise
    assert on_cpu.std() > 1
    peaks, pictures = {}, {}
    for placement in ("resident", "swap", "stream"):
        other = card(placement)
        pictures[placement] = run(other, request)[0][0]
        peaks[placement] = other.carrier.peak_bytes
    assert all((picture == pictures["resident"]).all() for picture in pictures.values())
    assert abs(pictures["resident"] - on_cpu).max() <= 1
    assert peaks["stream"] < peaks["swap"] < peaks["resident"]


def test_weights_on_the_device_stay_within_what_the_placement_says(ask, weights):
    total = sum(weights.values())
    peaks = {}
    for placement in ("resident", "swap", "stream"):
        manager = card(placement)
        run(manager, ask())
        peaks[placement] = manager.carrier.peak_bytes
    assert peaks["resident"] >= total  # buffers beside the parameters
    assert peaks["swap"] < 0.75 * total and peaks["stream"] < 0.7 * peaks["swap"]


def test_what_is_resident_moves_once_and_what_swaps_moves_each_time(ask):
    resident, swap = card("resident"), card("swap")
    for manager, again in ((resident, False), (swap, True)):
        run(manager, ask())
        moved = manager.carrier.moved_bytes
        run(manager, ask(seed=8))
        assert (manager.carrier.moved_bytes > moved) == again


@pytest.mark.parametrize("kind", ["resident", "swap", "stream", "cpu"])
def test_the_budget_decides(ask, kind):
    request = ask(prior_steps=1, decoder_steps=1, width=64, height=64)
    # Just enough for the kind; for the CPU, just not enough for the device.
    limit = _predicted(card(kind), request) if kind != "cpu" else OVERHEAD_BYTES
    manager = card("auto", limit)
    pictures, _ = run(manager, request)
    assert _kind(manager) == kind
    assert (pictures[0] == run(card("cpu"), request)[0][0]).all()
    assert manager.carrier.peak_bytes <= limit


def _kind(manager) -> str:
    (offload,) = manager._offloads.values()
    return offload.placement.kind


def _predicted(manager, request) -> int:
    run(manager, request)
    (offload,) = manager._offloads.values()
    return offload.placement.predicted_peak_bytes


@pytest.mark.parametrize("stage", ["text_encoder", "prior", "decoder", "vqgan"])
@pytest.mark.parametrize("moment", ["before", "middle"])
@pytest.mark.parametrize("start", ["resident", "swap"])
def test_running_out_of_memory_steps_down_and_the_picture_stays(ask, monkeypatch, stage, moment, start):
    request = ask(images=2, prompt=f"the sea {stage} {moment} {start}")
    expected, _ = run(card("resident"), request)
    fallen = card("auto", PLENTY)
    if start == "swap":
        fallen.settings = Settings(device="cpu", dtype="float32", placement="swap")
    fault = Fault(monkeypatch, stage, moment)
    pictures, events = run(fallen, request)
    assert fault.raised == 1
    notices = [event.message for event in events if isinstance(event, Notice) and "ran out of memory" in event.message]
    assert len(notices) == 1
    assert same(pictures, expected)
    assert not fallen.turnstile.busy


class Fault:
    """Raises torch.OutOfMemoryError once: as a stage begins, or in the middle of it."""

    def __init__(self, monkeypatch, stage: str, moment: str) -> None:
        self.raised = self.calls = 0
        if stage == "text_encoder":
            target, name = "cascade_app.runtime.manager", "encode_weighted"
        elif stage == "vqgan":
            target, name = "cascade_app.runtime.generate", "decode"
        else:
            before, middle = ("cascade_app.runtime.prepared", "prepare"), ("cascade_app.diffusion.stages", "predict")
            target, name = before if moment == "before" else middle
        import importlib

        real = getattr(importlib.import_module(target), name)
        after = 1 if moment == "middle" and name in ("predict", "encode_weighted") else 0
        channels = {"prior": 16, "decoder": 4}.get(stage)

        def faulty(*args, **kwargs):
            ours = channels is None or args[0].config.in_channels == channels
            if ours and not self.raised:
                self.calls += 1
                if self.calls > after:
                    self.raised += 1
                    raise torch.OutOfMemoryError("injected")
            return real(*args, **kwargs)

        monkeypatch.setattr(f"{target}.{name}", faulty)


def test_a_card_that_shrinks_between_two_requests_is_noticed(manager, ask):
    shrinking = card("auto", PLENTY)
    run(shrinking, ask())
    assert _kind(shrinking) == "resident"
    shrinking.carrier.limit_bytes = _predicted(card("swap"), ask())
    pictures, _ = run(shrinking, ask())
    assert _kind(shrinking) in ("swap", "stream")
    assert (pictures[0] == run(manager, ask())[0][0]).all()
    assert shrinking.carrier.used_bytes <= shrinking.carrier.limit_bytes


def test_a_card_that_is_fuller_than_it_says_ends_on_the_cpu_with_the_same_picture(manager, ask):
    lying = card("auto", PLENTY)
    lying.budget_bytes = lambda: PLENTY
    lying.carrier.limit_bytes = 1000
    pictures, events = run(lying, ask())
    assert _kind(lying) == "cpu" and lying.carrier.used_bytes == 0
    assert any(isinstance(event, Notice) for event in events)
    assert (pictures[0] == run(manager, ask())[0][0]).all()


@pytest.mark.parametrize("placement", ["resident+fp8", "swap+fp8"])
def test_stage_c_in_8_bits_is_smaller_and_near(manager, ask, placement):
    exact = run(manager, ask())[0][0].astype(int)
    narrow, wide = card(placement), card(placement.split("+")[0])
    pictures, _ = run(narrow, ask())
    run(wide, ask())
    assert narrow.carrier.moved_bytes < 0.8 * wide.carrier.moved_bytes
    assert 0 < numpy.abs(pictures[0].astype(int) - exact).mean() < 40
    again, _ = run(narrow, ask())
    assert (again[0] == pictures[0]).all()


def test_strips_of_stage_a_are_the_whole_picture():
    vqgan = small_vqgan()
    latents = torch.randn(2, 4, 70, 20)
    whole = stages.decode(vqgan, latents)
    for rows in (8, 32, 69):
        torch.testing.assert_close(stages.decode(vqgan, latents, rows=rows), whole, rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("placement", ["swap", "stream"])
def test_on_cuda_the_picture_is_the_same_under_every_placement(ask, placement):
    """Copies beside the computing, from pinned memory: a block used before it has arrived would show here."""
    resident, other = (
        PipelineManager(Settings(device="cuda", dtype="float32", placement=kind)) for kind in ("resident", placement)
    )
    request = ask(checkpoint="pocket", width=256, height=256, images=2, prompt="a red sun over blue mountains")
    expected, _ = run(resident, request)
    for _ in range(3):
        pictures, _ = run(other, request)
        assert same(pictures, expected)
