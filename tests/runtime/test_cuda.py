"""When a graph is captured and used, with a capture of our own; and on a card, that pictures stay what they are."""

from __future__ import annotations

import logging

import numpy
import pytest
import torch

from cascade_app.diffusion.stages import Residency
from cascade_app.diffusion.unet import Conditioning, predict, prepare
from cascade_app.events import ImageReady
from cascade_app.runtime.cuda import KEPT_GRAPHS, SPARE_BYTES, Graphs, close_behind
from cascade_app.runtime.generate import generate
from cascade_app.runtime.manager import PipelineManager
from cascade_app.settings import Settings
from tests.small import small_prior

SHAPE = (2, 16, 4, 4)
NEED = Residency().need


class Card:
    """Captures by remembering what was asked for; its replay is the walk itself."""

    def __init__(self) -> None:
        self.captured: list[tuple[int, ...]] = []
        self.replayed = 0
        self.fault: Exception | None = None

    def capture(self, unet, prepared, shape):
        self.captured.append(shape)
        if self.fault:
            raise self.fault

        def replay(latents, step, run):
            self.replayed += 1
            return predict(unet, latents, step, run)

        return replay


@pytest.fixture
def card():
    return Card()


@pytest.fixture
def graphs(card):
    graphs = Graphs(card.capture)
    graphs.allow(SPARE_BYTES)
    return graphs


@pytest.fixture
def unet():
    return small_prior()


def prepared_for(unet, rows=2, size=(4, 4)):
    torch.manual_seed(0)
    conditioning = Conditioning(torch.randn(rows, 1, 20), torch.randn(rows, 12, 24), torch.randn(rows, 1, 12))
    return prepare(unet, conditioning, ratios=torch.tensor([1.0, 0.5]), size=size)


def test_the_first_run_never_waits_for_a_capture_and_later_ones_use_it(graphs, card, unet):
    prepared = prepared_for(unet)
    assert graphs.quicken(unet, prepared, shape=SHAPE, need=NEED).replay is None and card.captured == []
    for _ in range(3):
        quick = graphs.quicken(unet, prepared, shape=SHAPE, need=NEED)
        latents = torch.randn(SHAPE)
        assert torch.equal(predict(unet, latents, 1, quick), predict(unet, latents, 1, prepared))
    assert card.captured == [SHAPE] and card.replayed == 3


def test_fewer_rows_than_the_graph_has_are_walked(graphs, card, unet):
    prepared = prepared_for(unet)
    for _ in range(2):
        quick = graphs.quicken(unet, prepared, shape=SHAPE, need=NEED)
    assert predict(unet, torch.randn(1, *SHAPE[1:]), 0, quick).shape[0] == 1 and card.replayed == 0


def test_a_failure_is_logged_once_and_the_walk_goes_on(graphs, card, unet, caplog):
    prepared, card.fault = prepared_for(unet), RuntimeError("operation not permitted when stream is capturing")
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            quick = graphs.quicken(unet, prepared, shape=SHAPE, need=NEED)
    assert quick.replay is None and card.captured == [SHAPE] and caplog.text.count("not permitted") == 1


def test_a_graph_that_gives_something_else_is_not_used(unet):
    graphs = Graphs(lambda *_: None)
    graphs.allow(SPARE_BYTES)
    prepared = prepared_for(unet)
    assert [graphs.quicken(unet, prepared, shape=SHAPE, need=NEED).replay for _ in range(3)] == [None] * 3


def test_weights_that_moved_are_captured_anew(graphs, card, unet):
    prepared = prepared_for(unet)
    for _ in range(2):
        graphs.quicken(unet, prepared, shape=SHAPE, need=NEED)
    weight = unet.clf[1].weight
    weight.data = weight.data.clone()
    graphs.quicken(unet, prepared, shape=SHAPE, need=NEED)
    assert card.captured == [SHAPE] * 2


def test_no_graph_without_room_or_where_weights_come_and_go(graphs, card, unet):
    prepared = prepared_for(unet)

    class Streamed(Residency):
        def need(self, module) -> None:
            pass

    for _ in range(3):
        assert graphs.quicken(unet, prepared, shape=SHAPE, need=Streamed().need).replay is None
    graphs.allow(SPARE_BYTES - 1)
    for _ in range(3):
        assert graphs.quicken(unet, prepared, shape=SHAPE, need=NEED).replay is None
    assert card.captured == []


def test_only_so_many_are_kept(graphs, card, unet):
    sizes = [(4, side) for side in range(2, 3 + KEPT_GRAPHS)]
    for _ in range(2):
        for size in sizes:
            graphs.quicken(unet, prepared_for(unet, size=size), shape=(2, 16, *size), need=NEED)
    assert len(graphs._graphs) == KEPT_GRAPHS


def test_on_a_cpu_there_are_none_and_steps_pass_as_they_are(manager, ask):
    list(generate(manager, ask()))
    assert not manager.graphs.allowed
    assert list(close_behind(iter("abc"), torch.device("cpu"))) == list("abc")


@pytest.mark.gpu
def test_on_cuda_the_second_and_third_picture_come_from_a_graph_and_are_the_same(ask):
    engine = PipelineManager(Settings(device="cuda", dtype="float32"))
    plain = PipelineManager(Settings(device="cuda", dtype="float32"))
    plain.graphs.allow = lambda spare_bytes: None

    def made(manager, seed):
        event = next(event for event in generate(manager, ask(seed=seed)) if isinstance(event, ImageReady))
        return numpy.asarray(event.image).astype(int)

    for seed in (1, 2, 3):
        assert abs(made(engine, seed) - made(plain, seed)).max() <= 1
    assert any(graph.replay for graph in engine.graphs._graphs.values())
