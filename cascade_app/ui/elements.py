"""Every element of the page that events read or change, and the things behind it.

The handlers are in `making.py` (runs), `picking.py` (what lies on the easel and what is picked), `browsing.py` (the gallery)
and `callbacks.py` (the form, the checkpoint, the engine); each is a part of `callbacks.Page`. This module also owns the way
errors reach the page: a CascadeError becomes its sentence, anything else one general sentence and a line in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from cascade_app.errors import NotInGallery
from cascade_app.gallery.gallery import Album, Gallery
from cascade_app.gallery.item import Item
from cascade_app.logs import explained
from cascade_app.record import is_id
from cascade_app.serving.backend import Backend
from cascade_app.serving.visitors import visitor_of
from cascade_app.ui import cards, easel, session
from cascade_app.ui.form import Form
from cascade_app.ui.gallery_panel import GalleryPanel
from cascade_app.ui.grid_panel import GridPanel
from cascade_app.ui.prompt_panel import PromptPanel
from cascade_app.ui.session import Table
from cascade_app.ui.settings_panel import SettingsPanel
from cascade_app.ui.stage_panel import StagePanel
from cascade_app.ui.system_panel import SystemPanel
from cascade_app.ui.variations_panel import VariationsPanel

UNEXPECTED = "Something went wrong that should not have. It was written to the log; please try again."
ROW, KIN = 30, 12  # records in the session's row, children shown under a picture
PICKS_LIMIT = 100

_log = logging.getLogger(__name__)

Updates = dict[Any, Any]


def sentence_of(error: Exception, reference: str = "") -> str:
    """What the page says about `error`; a fault goes to the log, under the reference that the sentence ends with."""
    return explained(error, _log, otherwise=UNEXPECTED, reference=reference)


@dataclass(frozen=True)
class Wanted:
    """What a run is to do, and with which records."""

    act: str = "generate"
    ids: tuple[str, ...] = ()


@dataclass
class Turn:
    """One tab's runs, counted: the latest one, and the latest one the user cancelled.

    Cancelling is told to the run, which ends by itself and says so last. Gradio's own `cancels` reports a cancelled run as
    failed, and drops a new one that starts before it has noticed.
    """

    started: int = 0
    cancelled: int = 0
    wanted: Wanted = field(default_factory=Wanted)
    latest: dict[str, int] = field(default_factory=dict)

    def overtaken(self, kind: str, event: gr.EventData) -> bool:
        """Whether a later event of this kind has come: clicks and keys can be faster than their answers."""
        number = told(event).get("number")
        number = number if isinstance(number, int) else 0
        self.latest[kind] = max(number, self.latest.get(kind, 0))
        return number < self.latest[kind]


@dataclass(frozen=True)
class Elements:
    """The page's elements by panel, its memory, and what is behind it."""

    backend: Backend
    gallery: Gallery
    form: Form
    prompt: PromptPanel
    variations: VariationsPanel
    grid: GridPanel
    settings: SettingsPanel
    stage: StagePanel
    shelf: GalleryPanel
    system: SystemPanel
    header: gr.HTML
    lamp: gr.HTML
    timer: gr.Timer
    table: gr.State  # session.Table
    turn: gr.State  # Turn
    kept: gr.BrowserState  # the form's values, in the browser
    prompts: list[str]

    def album(self, http: gr.Request) -> Album:
        """The visitor's own pictures; of nobody else's can a handler even ask."""
        return self.gallery.of(visitor_of(http))

    def running(self, running: bool) -> Updates:
        """The buttons that start runs, and the one that ends them."""
        makers = (self.prompt.generate, self.prompt.sketch, self.grid.make)
        return {
            **{button: gr.update(interactive=not running) for button in makers},
            self.prompt.cancel: gr.update(interactive=running),
        }

    def lay(self, album: Album, table: Table, *, clock: str = "") -> Updates:
        """Put records on the easel, with what is said of them below; the newest one where none of them is left."""
        items = present(album, table.ids)
        if not items:
            items = list(album.page(count=1).items)
            table = Table(trashed=table.trashed)
        if not items:
            return {
                self.table: table,
                self.stage.easel: easel.easel(easel.Easel(), self.prompts),
                self.stage.facts: cards.no_facts(),
            }
        if table.look == "compare" and len(items) == 2:
            view = session.compared_on_easel(*items)
        elif len(items) > 1:
            whole = table.axes and len(items) == len(table.axes.across) * len(table.axes.down)
            view = session.sheet_on_easel(items, clock=clock, axes=table.axes if whole else None)
        else:
            view = session.one_on_easel(items[0], clock=clock)
        selected = () if len(items) > 1 and not view.compare else items
        return {
            self.table: table,
            self.stage.easel: easel.easel(view),
            self.stage.facts: self.facts(album, selected, table),
        }

    def facts(self, album: Album, items: Iterable[Item], table: Table) -> str:
        """What is said of the selected records; of a single one, its family too."""
        items, back = list(items), len(table.sheet) > 1 and table.sheet != table.ids
        if len(items) != 1:
            return session.facts_of(items, sheet=back, compared=table.look == "compare" and len(items) == 2)
        (item,) = items
        return session.facts_of(
            items, parents=album.parents(item.id), children=album.children(item.id, count=KIN), sheet=back
        )

    def row(self, album: Album) -> Updates:
        """The visitor's newest records."""
        newest = album.page(count=ROW)
        return {self.stage.row: cards.session_row([session.card_of(one) for one in newest.items], more=bool(newest.after))}


def present(album: Album, ids: Iterable[str], *, deleted: bool = False) -> list[Item]:
    """Those of `ids` that are the visitor's, in their order; those in the trash only where `deleted` says so."""
    found = []
    for id in ids:
        with suppress(NotInGallery):
            item = album.get(id)
            if deleted or item.deleted_s is None:
                found.append(item)
    return found


def told(event: gr.EventData) -> Mapping[str, Any]:
    """What the page's script sent with an event; nothing where it sent no object."""
    data = getattr(event, "_data", None)
    return data if isinstance(data, Mapping) else {}


def ids_told(event: gr.EventData) -> tuple[str, ...]:
    """The records an event is about: each once, as many as may be picked, and only what could be an id."""
    ids = told(event).get("ids")
    if not isinstance(ids, list):
        return ()
    return tuple(dict.fromkeys(one for one in ids[:PICKS_LIMIT] if is_id(one)))
