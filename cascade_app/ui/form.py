"""The form: one control a field of `request.FIELDS`, and the way back from what a browser sends to a request.

Owns which control a kind of field gets. Limits, labels, help and defaults come from the table and the checkpoint;
checking is the table's work too, so the events that read the form use `preprocess=False` and hand over what the
browser sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from cascade_app.catalogue import PUBLISHED_STUDIO, CheckpointSpec
from cascade_app.errors import InvalidRequest
from cascade_app.request import FIELD, GenerationRequest
from cascade_app.serving.offer import check_offered
from cascade_app.wordbook import Wordbook
from cascade_app.words import styled

ON_PAGE = tuple(FIELD)
# How the stages work: what comes with a checkpoint, or with a set of settings made for it.
TUNED = ON_PAGE[ON_PAGE.index("prior_steps") : ON_PAGE.index("checkpoint")]


def default_of(name: str, spec: CheckpointSpec) -> Any:
    """What a field starts as: the checkpoint's own default where it has one, else the table's."""
    if name in ("width", "height"):
        return spec.default_size_px
    if name == "checkpoint":
        return spec.name
    return spec.defaults.get(name, FIELD[name].default)


@dataclass
class Form:
    """The controls by field name, as they are laid out, and what is fixed for the whole page.

    Attributes:
        spec: the checkpoint the page starts with; gives sizes, steps and defaults.
        controls: field name to component, in the order they were made.
        randomise: the checkbox that leaves the seed open.
        book: the styles and wildcards there are.
        style: the chooser of a style; it is no field of a request, which holds the words it led to.
    """

    spec: CheckpointSpec
    controls: dict[str, Component] = field(default_factory=dict)
    randomise: gr.Checkbox | None = None
    book: Wordbook = field(default_factory=Wordbook.of)
    style: gr.Dropdown | None = None

    def control(self, name: str, **overrides: Any) -> Component:
        """Make the control of the field `name` here in the layout."""
        component = _control(name, self.spec, overrides)
        self.controls[name] = component
        return component

    def style_control(self) -> gr.Dropdown:
        """Make the chooser of a style here in the layout."""
        choices = [("No style", ""), *((style.title, style.name) for style in self.book.styles.values())]
        self.style = gr.Dropdown(
            choices, value="", label="Style", info="Adds words.", elem_id="style", filterable=False, min_width=130
        )
        return self.style

    @property
    def inputs(self) -> list[Component]:
        """What an event that reads the form takes: every control in the table's order, then `style` and `randomise`."""
        return [*(self.controls[name] for name in ON_PAGE), self.style, self.randomise]

    def request(self, sent: Sequence[Any]) -> GenerationRequest:
        """The request from what the browser sent for `inputs`, with the words of the style around its own.

        Raises:
            InvalidRequest: a value is out of limits, or the style is not known.
        """
        return styled(read_form(sent, self.spec), self.book, style=sent[-2])

    def use(self, spec: CheckpointSpec) -> dict[Component, Any]:
        """Updates that set the form to `spec`: its sizes and settings; words, count and seed stay."""
        return {
            self.controls["checkpoint"]: spec.name,
            **self.sides(spec, spec.default_size_px, spec.default_size_px),
            **self.tune(spec.defaults),
        }

    def tune(self, settings: Mapping[str, Any]) -> dict[Component, Any]:
        """Updates that set how the stages work; what `settings` does not name goes back to the table's default."""
        return {self.controls[name]: settings.get(name, FIELD[name].default) for name in TUNED}

    def fill(self, request: GenerationRequest, spec: CheckpointSpec) -> dict[Component, Any]:
        """Updates that put `request` into the form; `spec` is its checkpoint."""
        values = {self.controls[name]: getattr(request, name) for name in ON_PAGE if name != "images"}
        return {**values, **self.sides(spec, request.width, request.height), self.style: "", self.randomise: False}

    def sides(self, spec: CheckpointSpec, width: int | None, height: int | None) -> dict[Component, Any]:
        limits = {"minimum": spec.min_size_px, "maximum": spec.max_size_px, "step": spec.size_step_px}
        sides = {"width": width, "height": height}
        return {
            self.controls[name]: gr.update(value=side or spec.default_size_px, **limits) for name, side in sides.items()
        }


def read_form(sent: Sequence[Any], spec: CheckpointSpec) -> GenerationRequest:
    """The request from the raw values of every field on the page, in the table's order, the style and `randomise`.

    The words are as typed; see `Form.request`.

    `spec` is the checkpoint the page started with; a name that is not offered beside it is refused.
    """
    if len(sent) != len(ON_PAGE) + 2:
        raise InvalidRequest("The form came in incomplete. Reload the page and try again.")
    *fields, _style, randomise = sent
    values: dict[str, Any] = dict(zip(ON_PAGE, fields, strict=True))
    if randomise:
        values["seed"] = None
    values["checkpoint"] = check_offered(values["checkpoint"], spec.name)
    return GenerationRequest.from_values(values)


def plan_values(sent: Sequence[Any]) -> list[Any]:
    """The same values with a stand-in for an empty prompt and an open seed: a plan can be stated without them."""
    values = list(sent)
    values[-1] = True  # randomise
    if not isinstance(values[0], str) or not values[0].strip():
        values[0] = "a picture"
    return values


def _control(name: str, spec: CheckpointSpec, overrides: Mapping[str, Any]) -> Component:
    row = FIELD[name]
    common = {"label": row.label, "info": row.help, "value": default_of(name, spec), "elem_id": f"field-{name}"}
    common.update(overrides)
    if name == "checkpoint":
        return gr.Dropdown(**common, filterable=False)
    if row.kind == "text":
        return gr.Textbox(**{**common, "value": common["value"] or ""})
    if row.kind == "choice":
        return gr.Dropdown(choices=list(row.choices), **common)
    if name == "seed":
        return gr.Number(**{**common, "value": 0}, minimum=row.minimum, maximum=row.maximum, step=1)
    minimum, maximum, step = row.minimum, row.maximum, row.step
    if name in ("width", "height"):
        minimum, maximum, step = spec.min_size_px, spec.max_size_px, spec.size_step_px
    return gr.Slider(minimum=minimum, maximum=maximum, step=step, buttons=[], **common)


def stand_in_spec(name: str) -> CheckpointSpec:
    """Geometry to lay the form out with when the checkpoint itself cannot be read."""
    sizes = {key: PUBLISHED_STUDIO[key] for key in ("default_size_px", "min_size_px", "max_size_px", "size_step_px")}
    defaults = PUBLISHED_STUDIO["defaults"]
    return CheckpointSpec(name=name, title="No checkpoint", folder=Path(), license="", defaults=defaults, **sizes)
