"""Running grids: in order, Stage C as rarely as can be, and stopped at any step."""

from __future__ import annotations

import pytest

from cascade_app.errors import RenderFailed
from cascade_app.events import Finished, ImageReady, RunStarted, StageStarted, StepDone
from cascade_app.grid import Axis, Grid
from cascade_app.request import GenerationRequest
from cascade_app.serving.grids import grid_events
from tests.fakes import FakeBackend

REQUEST = GenerationRequest.from_values(
    {"prompt": "hills", "prior_steps": 3, "decoder_steps": 2, "seed": 1, "width": 256, "height": 256}
)
SEEDS, SETTINGS = Axis.read("seed", "7, 8, 9"), Axis.read("decoder_guidance", "0, 1.1, 2, 3")


def test_four_decoder_settings_by_three_seeds_run_the_prior_three_times():
    backend = FakeBackend()
    grid = Grid.of(REQUEST, SETTINGS, SEEDS)
    happened = list(grid_events(backend, grid))
    assert backend.prior_steps_done == 3 * 3
    ready = [one for one in happened if isinstance(one.event, ImageReady)]
    assert [one.cell for one in ready] == list(grid.cells)
    for kind in (RunStarted, Finished):
        assert sum(isinstance(one.event, kind) for one in happened) == 12
    first = {one.cell.row: one.event.record for one in ready if one.cell.column == 0}
    for one in ready:
        record = one.event.record
        assert (record.action, record.request, record.negative) == ("grid", one.cell.request, first[one.cell.row].negative)
        assert record.parents == (() if one.cell.column == 0 else (first[one.cell.row].id,))
    alone = [event for event in FakeBackend().generate(grid.cells[5].request) if isinstance(event, ImageReady)]
    assert alone[0].image.tobytes() == ready[5].event.image.tobytes()


def test_columns_may_share_a_negative_too():
    backend = FakeBackend()
    list(grid_events(backend, Grid.of(REQUEST, SEEDS, SETTINGS)))
    assert backend.prior_steps_done == 3 * 3


@pytest.mark.parametrize("stop_at", ["the first step", "the third cell"])
def test_it_is_stopped_at_a_step(stop_at):
    backend = FakeBackend()
    events = grid_events(backend, Grid.of(REQUEST, SETTINGS, SEEDS))
    for one in events:
        if isinstance(one.event, StepDone) and (stop_at == "the first step" or one.cell.column == 2):
            break
    done = backend.steps_done
    events.close()
    assert backend.steps_done == done and backend.closed_early == 1 and not backend.lock.locked()


def test_a_failure_is_raised_and_frees_the_engine():
    backend = FakeBackend()
    events = grid_events(backend, Grid.of(REQUEST, SETTINGS))
    for one in events:
        if isinstance(one.event, StageStarted) and one.cell.column == 1:
            backend.failure = RenderFailed("Out of memory.")
        if isinstance(one.event, Finished) and one.cell.column == 1:
            break
    with pytest.raises(RenderFailed):
        list(events)
    assert not backend.lock.locked()
