"""What a press of a button asks of the engine: an action, the form and the picked records become runs. Pure.

`explore.py` knows how one negative becomes another; here is only what the page's controls say to it. Most actions are one run.
Records of different words or sizes cannot share one, so developing a mixed lot is several, whose images fill one contact sheet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cascade_app import explore
from cascade_app.errors import InvalidRequest
from cascade_app.grid import Grid
from cascade_app.record import Record
from cascade_app.request import GenerationRequest
from cascade_app.ui.actions import ACTION
from cascade_app.ui.easel import Easel, Print
from cascade_app.ui.grid_panel import axes_of
from cascade_app.ui.variations_panel import SKETCHES, Variation
from cascade_app.work import WHOLE, Work


@dataclass(frozen=True)
class Run:
    """One call of the engine. `cells` says where on a shared sheet its images go; empty where it has a sheet of its own."""

    request: GenerationRequest
    work: Work = WHOLE
    cells: tuple[int, ...] = ()


@dataclass(frozen=True)
class Commission:
    """Runs that belong together. `blank` is the sheet they fill, where they are more than one.

    grid: in place of runs, cells that share their negatives.
    """

    runs: tuple[Run, ...]
    blank: Easel | None = None
    grid: Grid | None = None


@dataclass(frozen=True)
class Wishes:
    """What the page's controls say, read when an action needs it: each may raise InvalidRequest.

    request: the form; `words` may be left empty where it is read for its settings only.
    offered: whether a checkpoint of that name may be used here.
    grid: two settings and their values.
    """

    request: Callable[[], GenerationRequest]
    settings: Callable[[], GenerationRequest]
    sketches: Any
    variation: Callable[[], Variation]
    offered: Callable[[str], bool]
    grid: Callable[[], Grid]


def commission(act: str, records: Sequence[Record], wishes: Wishes) -> Commission:
    """The runs of an action on `records`.

    Raises:
        InvalidRequest: a control is out of limits, or the action takes another number of records.
    """
    if act == "generate":
        return _alone((wishes.request(), WHOLE))
    if act == "sketch":
        return _alone(explore.sketches(wishes.request(), SKETCHES.parse(wishes.sketches)))
    if act == "grid":
        grid = wishes.grid()
        blank = tuple(Print(alt=f"Cell {number}, forming") for number in range(1, len(grid.cells) + 1))
        return Commission((), Easel(prints=blank, axes=axes_of(grid)), grid)
    action = ACTION.get(act)
    if action is None or not action.makes:
        raise InvalidRequest("This page does not know that action. Reload it and try again.")
    if not action.fits(len(records)):
        raise InvalidRequest(f"{action.label} takes {action.wants}, and {len(records)} are picked. Pick others on the sheet.")
    records = [_usable(record, wishes) for record in records]
    ways = {"develop": _develop, "vary": _vary, "words": _words, "blend": _blend, "again": _again}
    return ways[act](records, wishes)


def _usable(record: Record, wishes: Wishes) -> Record:
    """The record, to be made with the checkpoint of the form where its own is not served here: files come from anywhere."""
    if wishes.offered(record.request.checkpoint):
        return record
    return replace(record, request=replace(record.request, checkpoint=wishes.settings().checkpoint))


def _alone(order: explore.Order) -> Commission:
    return Commission((Run(*order),))


def _develop(records: Sequence[Record], wishes: Wishes) -> Commission:
    form = wishes.settings()
    orders = explore.develop_all(records, **{name: getattr(form, name) for name in explore.DECODER_FIELDS})
    if len(orders) == 1:
        return _alone(orders[0])
    at = {record.id: cell for cell, record in enumerate(records)}
    runs = [Run(*order, tuple(at[origin.parents[0]] for origin in order[1].origins)) for order in orders]
    blank = Easel(prints=tuple(Print(alt=record.request.prompt) for record in records))
    return Commission(tuple(runs), blank)


def _vary(records: Sequence[Record], wishes: Wishes) -> Commission:
    how = wishes.variation()
    prompt = wishes.request().prompt if how.new_words else None
    manner = "renoise" if how.renoise else "slerp"
    return _alone(explore.vary(records[0], how.amount, how.count, how=manner, prompt=prompt, sketch=how.sketch))


def _words(records: Sequence[Record], wishes: Wishes) -> Commission:
    return _alone(explore.new_words(records[0], wishes.request().prompt, sketch=wishes.variation().sketch))


def _again(records: Sequence[Record], wishes: Wishes) -> Commission:
    return _alone(explore.regenerate(records[0]))


def _blend(records: Sequence[Record], wishes: Wishes) -> Commission:
    how = wishes.variation()
    if len(records) == 1:
        return _alone(explore.blend_prompts(records[0], wishes.request().prompt, how.count, sketch=how.sketch))
    return _alone(explore.blend(*records, how.count, sketch=how.sketch))
