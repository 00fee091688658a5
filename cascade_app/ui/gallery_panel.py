"""The gallery: search and filters, and one page of pictures at a time. It takes the easel's place while it is looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace

import gradio as gr
from gradio.components import Component

from cascade_app.gallery.item import Query
from cascade_app.ui import cards

EVERY_CHECKPOINT = "Every checkpoint"
FILTERS: dict[str, Query] = {
    "All": Query(),
    "Favourites": Query(favourites=True),
    "Pictures": Query(kind="picture"),
    "Sketches": Query(kind="sketch"),
    "Trash": Query(trash=True),
}
PAGE = 48
SEARCH_LIMIT = 200


@dataclass(frozen=True)
class Browse:
    """Which page is shown. `trail` holds the cursors of the pages before it, so that one can go back."""

    query: Query = Query()
    trail: tuple[str, ...] = ()

    def older(self, after: str) -> Browse:
        """The next page, whose cursor is `after`; this one where there is none."""
        if not after:
            return self
        return Browse(replace(self.query, after=after), (*self.trail, self.query.after))

    def newer(self) -> Browse:
        """The page before; this one where it is the first."""
        if not self.trail:
            return self
        return Browse(replace(self.query, after=self.trail[-1]), self.trail[:-1])


def browse(search: object, filter: object, checkpoint: object) -> Browse:
    """The first page of what the three controls say; what they cannot say counts as nothing said."""
    words = search[:SEARCH_LIMIT] if isinstance(search, str) else ""
    query = FILTERS.get(filter, Query()) if isinstance(filter, str) else Query()
    named = checkpoint if isinstance(checkpoint, str) and checkpoint != EVERY_CHECKPOINT else ""
    return Browse(replace(query, search=words, checkpoint=named))


@dataclass(frozen=True)
class GalleryPanel:
    """The panel's elements that events touch. `at` holds a Browse."""

    search: gr.Textbox
    filter: gr.Radio
    checkpoint: gr.Dropdown
    shelf: gr.HTML
    at: gr.State

    @property
    def inputs(self) -> list[Component]:
        return [self.search, self.filter, self.checkpoint]


def build_gallery_panel() -> GalleryPanel:
    """Lay the panel out in the current context."""
    with gr.Column(elem_id="gallery"):
        with gr.Row(elem_id="gallery-controls"):
            search = gr.Textbox(
                label="Search in prompts", placeholder="Search in prompts", show_label=False, container=False, max_lines=1,
                elem_id="gallery-search", scale=1, min_width=160,
            )  # fmt: skip
            filter = gr.Radio(
                list(FILTERS), value="All", label="Show", show_label=False, container=False, elem_id="gallery-filter", scale=0,
                min_width=360,
            )  # fmt: skip
            checkpoint = gr.Dropdown(
                [EVERY_CHECKPOINT], value=EVERY_CHECKPOINT, label="Checkpoint", show_label=False, container=False,
                filterable=False, elem_id="gallery-checkpoint", scale=0, min_width=180,
            )  # fmt: skip
        shelf = gr.HTML(
            cards.shelf([], empty="", newer=False, older=False, note=""), elem_id="shelf", apply_default_css=False,
            js_on_load=None,
        )  # fmt: skip
    return GalleryPanel(search, filter, checkpoint, shelf, gr.State(Browse()))
