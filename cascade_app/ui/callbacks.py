"""What the page does: all its handlers joined in `Page`. `wiring.py` says which event runs which.

This module itself holds those of the form, the checkpoint and the engine's lamp. Events that read the form take what the
browser sent; see `form.py`.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import CascadeError, InvalidRequest, NoVisitor
from cascade_app.plan import GenerationPlan
from cascade_app.request import GenerationRequest
from cascade_app.serving.offer import check_offered
from cascade_app.ui import markup
from cascade_app.ui.aspects import label_of, presets
from cascade_app.ui.browsing import LOOK_AHEAD
from cascade_app.ui.checkpoint_panel import about_html, choices
from cascade_app.ui.elements import Updates, sentence_of, told
from cascade_app.ui.form import plan_values
from cascade_app.ui.making import Making
from cascade_app.ui.opening import Opening
from cascade_app.ui.picking import Picking
from cascade_app.ui.prompt_panel import words_line, words_problem
from cascade_app.ui.system_panel import system_html
from cascade_app.words import draws

PNG_BYTES = 2  # a pixel, about


class Page(Making, Picking, Opening):
    """Every handler of the page, on its elements."""

    def fill(self, request: GenerationRequest) -> Updates:
        """All of a record's settings into the form, its checkpoint among them. Raises CascadeError where it is not offered."""
        spec = self.spec(request.checkpoint)
        label = label_of(spec, request.width, request.height)
        return {**self.in_use(spec, label), **self.form.fill(request, spec)}

    # --- the checkpoint ---

    def choose(self, name: object, in_use: str) -> Updates:
        """A checkpoint was chosen: the form becomes one for it, or stays as it is if it cannot be used."""
        try:
            spec = self.spec(name)
        except Exception as error:
            message = markup.message(sentence_of(error))
            return {self.form.controls["checkpoint"]: in_use, self.prompt.message: message}
        return {**self.in_use(spec, "1:1"), **self.form.use(spec), self.prompt.message: ""}

    def apply_preset(self, in_use: str, event: gr.EventData) -> Updates:
        """One of the checkpoint's own sets of settings into the form."""
        try:
            name = told(event).get("preset")
            preset = self.spec(in_use).presets.get(name) if isinstance(name, str) else None
        except Exception as error:
            return {self.prompt.message: markup.message(sentence_of(error))}
        return {self.prompt.message: gr.skip()} if preset is None else self.form.tune(preset)

    def accept(self, in_use: str) -> Updates:
        """The licence of the checkpoint in use was accepted."""
        try:
            spec = self.spec(in_use)
            self.backend.accept_license(spec.license_to_accept)
        except Exception as error:
            return {self.prompt.message: markup.message(sentence_of(error))}
        note = markup.message("The licence is accepted; this is remembered.", kind="note")
        return {
            self.settings.checkpoint.about: about_html(self.backend, spec),
            self.prompt.message: note,
            self.timer: gr.Timer(active=True),  # the engine may start again
        }

    def spec(self, name: object) -> CheckpointSpec:
        return self.backend.checkpoint(check_offered(name, self.form.spec.name))

    def _geometry(self, name: object) -> CheckpointSpec:
        """Sizes to go by where nothing may fail: those the page was laid out with, if need be."""
        try:
            return self.spec(name)
        except CascadeError:
            return self.form.spec

    def in_use(self, spec: CheckpointSpec, aspect: str | None) -> Updates:
        """Everything beside the form's own controls that depends on the checkpoint."""
        return {
            self.header: markup.header(checkpoint=spec.title, license=spec.license),
            self.settings.aspect: gr.update(choices=list(presets(spec)), value=aspect),
            self.settings.checkpoint.about: about_html(self.backend, spec),
            self.settings.checkpoint.in_use: spec.name,
        }

    def look_again(self, in_use: str) -> Updates:
        """What a run, a download or another tab may have changed: the report, what is offered, what is accepted."""
        return {
            self.system.report: self.read_system(),
            self.form.controls["checkpoint"]: gr.update(choices=choices(self.backend, self.form.spec.name)),
            self.settings.checkpoint.about: about_html(self.backend, self._geometry(in_use)),
        }

    def read_system(self) -> str:
        """The System panel's text as of now."""
        try:
            return system_html(self.backend.system())
        except Exception as error:
            return markup.system_note(sentence_of(error))

    # --- the form ---

    def plan(self, http: gr.Request, *sent: Any) -> str:
        """The line that says what the next run will make, and what of the gallery would have to go for it."""
        try:
            made = self.backend.plan(self.form.request(plan_values(sent)))
            return markup.plan_line(f"{made.summary}. {self._going(http, made)}".rstrip(". "))
        except Exception as error:
            return markup.plan_problem(sentence_of(error))

    def _going(self, http: gr.Request, made: GenerationPlan) -> str:
        """What would be removed to make room, said some runs before it happens."""
        count = max(len(made.seeds), LOOK_AHEAD)
        try:
            return self.album(http).what_would_go(pictures=count, n_bytes=count * made.width * made.height * PNG_BYTES).sentence
        except NoVisitor:
            return ""  # it is said where something is to be kept

    def words(self, *sent: Any) -> str:
        """The words as they will be sent, where those are not simply the ones typed or not all of them are read."""
        try:
            *values, open_seed = sent
            # The seed last used stands for an open one, so that an example stays while more is typed.
            request = self.form.request([*values, False])
            plan = self.backend.plan(request)
            example = open_seed and (draws(request.prompt) or draws(request.negative_prompt))
            return words_line(plan, typed=sent[:2], lead="For example" if example else "Sends", unread=self.backend.unread(plan))
        except InvalidRequest as error:
            about_words = error.field in ("prompt", "negative_prompt", "style") and str(sent[0]).strip()
            return words_problem(error.message) if about_words else ""
        except Exception as error:
            return words_problem(sentence_of(error))

    def take_aspect(self, label: str, width: float, height: float, in_use: str) -> Updates:
        """A preset was clicked: its size, in the orientation the form has now."""
        size = presets(self._geometry(in_use)).get(label) if isinstance(label, str) else None
        if size is None:
            return {self.form.controls["width"]: gr.skip()}
        upright = isinstance(width, (int, float)) and isinstance(height, (int, float)) and width < height
        return self._size(*(reversed(size) if upright else size))

    def swap(self, width: float, height: float) -> Updates:
        """Width and height change places."""
        return self._size(height, width)

    def follow_size(self, width: float, height: float, in_use: str) -> str | None:
        """The preset that the size in the form has, if any."""
        return label_of(self._geometry(in_use), width, height)

    def _size(self, width: float, height: float) -> Updates:
        return {self.form.controls["width"]: width, self.form.controls["height"]: height}

    # --- the engine ---

    def poll(self) -> Updates:
        """The lamp, until the engine is ready or has failed."""
        status = self.backend.status()
        short = "The engine could not be loaded" if status.state == "failed" else status.message
        updates: Updates = {
            self.lamp: markup.engine_status(status.state, short),
            self.timer: gr.Timer(active=status.state == "loading"),
        }
        if status.state == "failed":
            updates[self.prompt.message] = markup.message(status.message)
        return updates

