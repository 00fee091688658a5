"""Running a grid: cell after cell through any backend, Stage C once for all cells that share its negative.

Other people's runs may come between two cells. Knows nothing of what a cell looks like.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from cascade_app.events import Event, ImageReady
from cascade_app.grid import Cell, Grid
from cascade_app.record import Record
from cascade_app.request import GenerationRequest
from cascade_app.serving.backend import Backend


@dataclass(frozen=True)
class CellEvent:
    """What happens to one cell."""

    cell: Cell
    event: Event


def grid_events(backend: Backend, grid: Grid) -> Iterator[CellEvent]:
    """All cells' events, row by row, each cell's from RunStarted to Finished. Closing it stops within one step.

    Raises:
        CascadeError: as `Backend.generate`.
    """
    for cell, events in grid_runs(backend, grid):
        with closing(events):
            for event in events:
                yield CellEvent(cell, event)


def grid_runs(backend: Backend, grid: Grid) -> Iterator[tuple[Cell, Iterator[Event]]]:
    """Each cell and its events, which must have been taken before the next cell is asked for."""
    made: dict[GenerationRequest, Record] = {}
    for cell in grid.cells:
        yield cell, _watched(backend.generate(*cell.order(made.get(cell.stage_c))), cell, made)


def _watched(events: Iterable[Event], cell: Cell, made: dict[GenerationRequest, Record]) -> Iterator[Event]:
    with closing(events):
        for event in events:
            if isinstance(event, ImageReady):
                made.setdefault(cell.stage_c, event.record)
            yield event
