"""The fold that asks for an X/Y grid: two settings, their values, and what will come of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from cascade_app.grid import AXES, Axis, Grid
from cascade_app.request import FIELD, GenerationRequest
from cascade_app.ui.easel import Axes

NONE = "nothing"
TITLES = {name: "Words" if name == "prompt" else FIELD[name].label for name in AXES}
_HELP = "With commas between. Of words the first one is in the prompt, and the others take its place."


@dataclass(frozen=True)
class GridPanel:
    """The panel's controls, the line that says what they will make, and the fold they lie in."""

    fold: gr.Accordion
    across: gr.Dropdown
    across_values: gr.Textbox
    down: gr.Dropdown
    down_values: gr.Textbox
    make: gr.Button
    plan: gr.HTML

    @property
    def inputs(self) -> list[Component]:
        """What `read_grid` takes."""
        return [self.across, self.across_values, self.down, self.down_values]


def build_grid_panel() -> GridPanel:
    """Lay the panel out in the current context."""
    choices = [(title, name) for name, title in TITLES.items()]
    with gr.Accordion("Grid", open=False, elem_id="grid") as fold:
        across = gr.Dropdown(choices, value="decoder_steps", label="Across", filterable=False, elem_id="grid-across")
        across_values = gr.Textbox("5, 10, 20", label="Its values", info=_HELP, elem_id="grid-across-values")
        down = gr.Dropdown(
            [("Nothing", NONE), *choices], value="seed", label="Down", filterable=False, elem_id="grid-down"
        )
        down_values = gr.Textbox("1, 2", label="Its values", elem_id="grid-down-values")
        make = gr.Button("Make the grid", variant="secondary", elem_id="make-grid")
        plan = gr.HTML("", apply_default_css=False, js_on_load=None, elem_id="grid-plan")
    return GridPanel(fold, across, across_values, down, down_values, make, plan)


def read_grid(sent: Sequence[Any], request: GenerationRequest) -> Grid:
    """The grid that the values of `GridPanel.inputs` ask for, over the form's `request`.

    Raises:
        InvalidRequest: see grid.py.
    """
    across, across_values, down, down_values = sent
    return Grid.of(request, Axis.read(across, across_values), None if down == NONE else Axis.read(down, down_values))


def axes_of(grid: Grid) -> Axes:
    """Its labels on the easel."""
    down = grid.down
    return Axes(
        across=_labels(grid.across), down=_labels(down) if down else ("",), across_title=TITLES[grid.across.name],
        down_title=TITLES[down.name] if down else "",
    )  # fmt: skip


def _labels(axis: Axis) -> tuple[str, ...]:
    return tuple(f"{value:g}" if isinstance(value, float) else str(value) for value in axis.values)
