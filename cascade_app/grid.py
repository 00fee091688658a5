"""Explore grids: two settings against each other, as cells, and which of them share what Stage C makes. Pure.

Owns the limits of a grid, how its values are written, and what a cell is called. What runs it is `serving/grids.py`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cascade_app.errors import InvalidRequest
from cascade_app.explore import DECODER_FIELDS, Order
from cascade_app.plan import draw_seed
from cascade_app.record import Record
from cascade_app.request import FIELD, GenerationRequest, shown
from cascade_app.work import Origin, Work

AXES = ("prompt", "seed", "prior_guidance", "decoder_guidance", "prior_steps", "decoder_steps", "sampler")
CELLS_LIMIT = 64


@dataclass(frozen=True)
class Axis:
    """A setting (of AXES) and its values, one a column or a row. Of words the first is replaced by each, itself included."""

    name: str
    values: tuple[Any, ...]

    @classmethod
    def read(cls, name: str, text: str) -> Axis:
        """Values as typed: with commas between them, in quotes where they hold commas themselves.

        Raises:
            InvalidRequest: no such axis, no value, or one out of its setting's limits.
        """
        if name not in AXES:
            raise InvalidRequest(f"{shown(name)} cannot be an axis of a grid; choose one of {', '.join(AXES)}.", field=name)
        if not isinstance(text, str) or len(text) > FIELD["prompt"].maximum:
            raise InvalidRequest(f"The values of {FIELD[name].label} must be a line of text with commas between.", field=name)
        try:
            typed = [value.strip() for row in csv.reader(text.splitlines(), skipinitialspace=True) for value in row]
        except csv.Error:
            raise InvalidRequest(f"The values of {FIELD[name].label} cannot be read; write them like a, b.", field=name) from None
        values = dict.fromkeys(value if name == "prompt" else FIELD[name].parse(value) for value in typed if value)
        if not values:
            example = "cat, dog" if name == "prompt" else "ddpm, ddim" if name == "sampler" else "1, 2, 3"
            raise InvalidRequest(f"{FIELD[name].label} has no values yet; write them like this: {example}.", field=name)
        return cls(name, tuple(values))

    @property
    def labels(self) -> tuple[str, ...]:
        """What each column or row is called."""
        if self.name == "prompt":
            return self.values
        return tuple(f"{FIELD[self.name].label} {value:g}" if isinstance(value, float) else
                     f"{FIELD[self.name].label} {value}" for value in self.values)  # fmt: skip

    def applied(self, values: dict[str, Any], value: Any) -> dict[str, Any]:
        """A request's values with this axis at `value`."""
        if self.name == "prompt":
            return {**values, "prompt": values["prompt"].replace(self.values[0], value)}
        return {**values, self.name: value}


@dataclass(frozen=True)
class Cell:
    """One picture of a grid, from 0 in the upper left. `request` makes it alone."""

    column: int
    row: int
    request: GenerationRequest

    @property
    def stage_c(self) -> GenerationRequest:
        """The same for all cells that Stage C makes the same negative for."""
        return replace(self.request, **{name: FIELD[name].default for name in DECODER_FIELDS})

    def order(self, made: Record | None = None) -> Order:
        """What to run for it: all of the cascade, or Stage B and A where a cell of the same negative is `made`."""
        origin = Origin(self.request.seed, "grid")
        if made is not None:
            origin = replace(origin, parents=(made.id,), negative=made.negative, made_by=made.checkpoint_digest)
        return self.request, Work(origins=(origin,))


@dataclass(frozen=True)
class Grid:
    """Columns and rows; make one with `of`. Every cell has the request's seed but where seeds are an axis."""

    request: GenerationRequest
    across: Axis
    down: Axis | None
    cells: tuple[Cell, ...]

    @classmethod
    def of(cls, request: GenerationRequest, across: Axis, down: Axis | None = None) -> Grid:
        """A grid over `request`, row by row; an open seed is drawn, and its images count for one.

        Raises:
            InvalidRequest: too many cells, the same setting on both axes, or words that are not in the prompt.
        """
        axes = [axis for axis in (across, down) if axis is not None]
        if len(axes) == 2 and across.name == down.name != "prompt":
            raise InvalidRequest(f"Both axes are {FIELD[across.name].label}; choose another setting for one.", field=across.name)
        columns, rows = len(across.values), len(down.values) if down else 1
        if columns * rows > CELLS_LIMIT:
            raise InvalidRequest(f"{columns} x {rows} is {columns * rows} pictures; the limit of a grid is {CELLS_LIMIT}.")
        for axis in axes:
            if axis.name == "prompt" and axis.values[0] not in request.prompt:
                raise InvalidRequest(
                    f"{shown(axis.values[0])} is not in the prompt; the first of the words is the one to replace.", field="prompt"
                )
        request = replace(draw_seed(request), images=1)
        return cls(request, across, down, tuple(_cells(request, across, down)))

    @property
    def columns(self) -> int:
        return len(self.across.values)

    @property
    def rows(self) -> int:
        return len(self.cells) // self.columns

    @property
    def groups(self) -> tuple[tuple[Cell, ...], ...]:
        """Cells that share a negative: Stage C runs once for each of these."""
        groups: dict[GenerationRequest, list[Cell]] = {}
        for cell in self.cells:
            groups.setdefault(cell.stage_c, []).append(cell)
        return tuple(map(tuple, groups.values()))

    @property
    def summary(self) -> str:
        """One line for the page."""
        negatives = len(self.groups)
        return f"{self.columns} x {self.rows} pictures from {negatives} {'negative' if negatives == 1 else 'negatives'}"


def _cells(request: GenerationRequest, across: Axis, down: Axis | None) -> Sequence[Cell]:
    rows = [(down, value) for value in down.values] if down else [(None, None)]
    cells = []
    for row, (axis, value) in enumerate(rows):
        of_row = axis.applied(asdict(request), value) if axis else asdict(request)
        for column, other in enumerate(across.values):
            cells.append(Cell(column, row, GenerationRequest.from_values(across.applied(of_row, other))))
    return cells
