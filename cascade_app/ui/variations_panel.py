"""The fold that says how Vary, Blend and New words change a negative. Their buttons are under the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from cascade_app.errors import InvalidRequest
from cascade_app.request import Field

AMOUNT = Field("amount", "float", "Subtle to strong", "How far a variation goes from where it comes from.",
               default=0.3, minimum=0, maximum=1, step=0.05)  # fmt: skip
COUNT = Field("variations", "int", "How many", "Variations, or steps of a blend, made together.",
              default=4, minimum=1, maximum=16, step=1)  # fmt: skip
SKETCHES = Field("negatives", "int", "Negatives on a sheet", "How many to sketch at once.",
                 default=8, minimum=4, maximum=16, step=1)  # fmt: skip
MANNERS = ("a nearby start", "some steps back")
MANNER = Field("manner", "choice", "Vary from", "A nearby start changes the composition; some steps back keeps it and redraws.",
               default=MANNERS[0], choices=MANNERS)  # fmt: skip
RESULTS = ("sketches", "pictures")
RESULT = Field("result", "choice", "Make", "Sketches are quick to choose from; pictures are developed at once.",
               default=RESULTS[0], choices=RESULTS)  # fmt: skip


@dataclass(frozen=True)
class Variation:
    """How a negative is to be changed. `new_words` takes the prompt of the form in place of the record's own."""

    amount: float
    count: int
    renoise: bool
    new_words: bool
    sketch: bool


@dataclass(frozen=True)
class VariationsPanel:
    """The controls, in the order that `read` takes their values."""

    amount: gr.Slider
    count: gr.Slider
    manner: gr.Radio
    result: gr.Radio
    new_words: gr.Checkbox

    @property
    def inputs(self) -> list[Component]:
        return [self.amount, self.count, self.manner, self.result, self.new_words]


def build_variations_panel() -> VariationsPanel:
    """Lay the panel out in the current context."""
    with gr.Accordion("Variations", open=False, elem_id="variations"):
        amount = _slider(AMOUNT)
        count = _slider(COUNT)
        manner = _radio(MANNER)
        result = _radio(RESULT)
        new_words = gr.Checkbox(False, label="With the words of the form", container=False, elem_id="new-words")
    return VariationsPanel(amount, count, manner, result, new_words)


def read_variation(sent: Sequence[Any]) -> Variation:
    """The values of `VariationsPanel.inputs` as the browser sent them.

    Raises:
        InvalidRequest: one is out of limits.
    """
    if len(sent) != 5:
        raise InvalidRequest("The form came in incomplete. Reload the page and try again.")
    amount, count, manner, result, new_words = sent
    return Variation(
        amount=AMOUNT.parse(amount), count=COUNT.parse(count), renoise=MANNER.parse(manner) == MANNERS[1],
        sketch=RESULT.parse(result) == RESULTS[0], new_words=new_words is True,
    )  # fmt: skip


def _slider(row: Field) -> gr.Slider:
    return gr.Slider(
        row.minimum, row.maximum, row.default, step=row.step, label=row.label, info=row.help, buttons=[],
        elem_id=f"field-{row.name}",
    )  # fmt: skip


def _radio(row: Field) -> gr.Radio:
    return gr.Radio(list(row.choices), value=row.default, label=row.label, info=row.help, elem_id=f"field-{row.name}")
