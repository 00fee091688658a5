"""What the page does: the handlers, and what each may change. `wiring.py` says which event runs which.

Owns the way errors reach the page: a CascadeError becomes its sentence, anything else one general sentence and a
traceback in the log. Events that read the form take what the browser sent; see `form.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import CascadeError
from cascade_app.gallery.store import PictureStore, record
from cascade_app.serving.backend import Backend
from cascade_app.serving.offer import check_offered
from cascade_app.ui import markup, session
from cascade_app.ui.aspects import label_of, presets
from cascade_app.ui.checkpoint_panel import about_html, choices
from cascade_app.ui.form import Form, plan_values
from cascade_app.ui.prompt_panel import PromptPanel
from cascade_app.ui.render import View, render
from cascade_app.ui.session import Picture
from cascade_app.ui.settings_panel import SettingsPanel
from cascade_app.ui.stage_panel import StagePanel
from cascade_app.ui.system_panel import SystemPanel, system_html

UNEXPECTED = "Something went wrong that should not have. It was written to the log; please try again."
NOT_STARTED = "The run could not start: too many are waiting, or the connection was lost. Try again in a moment."

_log = logging.getLogger(__name__)

Updates = dict[Any, Any]


@dataclass
class Turn:
    """One tab's runs, counted: the latest one, and the latest one the user cancelled.

    Cancelling is told to the run, which ends by itself and says so last. Gradio's own `cancels` reports a cancelled run as
    failed, and drops a new one that starts before it has noticed.
    """

    started: int = 0
    cancelled: int = 0


def sentence_of(error: Exception) -> str:
    """What the page says about `error`; what is not ours to explain goes to the log."""
    if isinstance(error, CascadeError):
        return error.message
    _log.error("A run failed unexpectedly", exc_info=error)
    return UNEXPECTED


@dataclass(frozen=True)
class Page:
    """Every element of the page that events read or change, and the two things behind it."""

    backend: Backend
    store: PictureStore
    form: Form
    prompt: PromptPanel
    settings: SettingsPanel
    stage: StagePanel
    system: SystemPanel
    header: gr.HTML
    lamp: gr.HTML
    timer: gr.Timer
    pictures: gr.State  # list[Picture], oldest first
    chosen: gr.State  # position in `pictures`, or None
    turn: gr.State  # Turn
    prompts: list[str]

    # --- a run ---

    def begin(self, turn: Turn) -> Updates:
        """At once, before the queue: the page has heard."""
        turn.started += 1
        waiting = markup.Easel(state="waiting", headline="In the queue")
        return {**self._running(True), self.prompt.message: "", self.stage.easel: markup.easel(waiting)}

    def run(self, *sent: Any) -> Iterator[Updates]:
        """From the form to pictures, an update an event."""
        *fields, pictures, chosen, turn = sent
        before, number, notices = len(pictures), turn.started, ""
        try:
            request = self.form.request(fields)
            with closing(render(record(self.backend.generate(request), self.store))) as views:
                for view in views:
                    if view.saved:
                        pictures = [*pictures, view.saved]
                    if view.finished:
                        yield self._finished(view, pictures, before)
                        return
                    if turn.cancelled >= number:
                        break
                    notices = f"{notices} {view.notice}".strip()
                    yield self._updates(view, pictures, notices)
            yield self._cancelled(pictures, chosen)
        except Exception as error:  # the border: nothing may reach a user but a sentence
            yield {**self._at_rest(pictures, chosen), self.prompt.message: markup.message(sentence_of(error))}

    def _updates(self, view: View, pictures: list[Picture], notices: str) -> Updates:
        updates: Updates = {self.stage.easel: markup.easel(view.easel)}
        if view.notice:
            updates[self.prompt.message] = markup.message(notices, kind="note")
        if view.seed is not None:
            updates[self.form.controls["seed"]] = view.seed
        if view.saved:  # kept at once: a run cancelled later loses none of its finished pictures
            updates[self.pictures] = pictures
            updates[self.stage.row] = session.row(pictures, None)
            updates[self.settings.reuse_last] = gr.update(interactive=True)
        return updates

    def _finished(self, view: View, pictures: list[Picture], before: int) -> Updates:
        pictures = [*pictures[:before], *(replace(one, total_s=view.total_s) for one in pictures[before:])]
        if len(pictures) == before + 1:
            return {**self._running(False), **self._choose(pictures, before)}
        prints = tuple(replace(one, pick=before + n) for n, one in enumerate(view.easel.prints))
        return {
            **self._running(False),
            self.pictures: pictures,
            self.chosen: None,
            self.stage.easel: markup.easel(replace(view.easel, prints=prints)),
            self.stage.facts: markup.no_facts("Choose one to see it whole, download it or reuse its seed."),
            self.stage.row: session.row(pictures, None),
        }

    def cancel(self, turn: Turn) -> None:
        """Ask the run to end; it does within one step."""
        turn.cancelled = turn.started

    def _cancelled(self, pictures: list[Picture], chosen: int | None) -> Updates:
        note = markup.message("Cancelled. The engine is free again.", kind="note")
        return {**self._at_rest(pictures, chosen), self.prompt.message: note}

    def not_started(self, pictures: list[Picture], chosen: int | None) -> Updates:
        """The queue was full, or the connection broke."""
        return {**self._at_rest(pictures, chosen), self.prompt.message: markup.message(NOT_STARTED)}

    def _running(self, running: bool) -> Updates:
        return {
            self.prompt.generate: gr.update(interactive=not running),
            self.prompt.cancel: gr.update(interactive=running),
        }

    def _at_rest(self, pictures: list[Picture], chosen: int | None) -> Updates:
        """The stage as it was before the run."""
        if chosen is None and pictures:
            chosen = len(pictures) - 1
        shown = self._choose(pictures, chosen) if pictures else {self.stage.easel: self._empty()}
        return {**self._running(False), **shown}

    def _empty(self) -> str:
        return markup.easel(markup.Easel(), self.prompts)

    # --- the session's pictures ---

    def select(self, pictures: list[Picture], event: gr.EventData) -> Updates:
        """A picture was clicked."""
        position = getattr(event, "index", None)
        if not isinstance(position, int) or not 0 <= position < len(pictures):
            return {self.chosen: gr.skip()}
        return self._choose(pictures, position)

    def _choose(self, pictures: list[Picture], position: int) -> Updates:
        picture = pictures[position]
        return {
            self.pictures: pictures,
            self.chosen: position,
            self.stage.easel: markup.easel(session.on_easel(picture)),
            self.stage.facts: session.facts(picture),
            self.stage.row: session.row(pictures, position),
        }

    def reuse_seed(self, pictures: list[Picture], chosen: int | None) -> Updates:
        """The chosen picture's seed into the form."""
        picture = _picked(pictures, chosen)
        if picture is None:
            return {self.form.randomise: gr.skip()}
        return {self.form.controls["seed"]: picture.request.seed, self.form.randomise: False}

    def reuse_settings(self, pictures: list[Picture], chosen: int | None) -> Updates:
        """All of the chosen picture's settings into the form, its checkpoint among them."""
        picture = _picked(pictures, chosen)
        if picture is None:
            return {self.form.randomise: gr.skip()}
        request = picture.request
        try:
            spec = self._spec(request.checkpoint)
        except Exception as error:
            return {self.prompt.message: markup.message(sentence_of(error))}
        label = label_of(spec, request.width, request.height)
        return {**self._in_use(spec, label), **self.form.fill(request, spec)}

    def reuse_last(self, pictures: list[Picture]) -> Updates:
        """The newest picture's seed into the form."""
        return self.reuse_seed(pictures, len(pictures) - 1)

    # --- the checkpoint ---

    def choose(self, name: object, in_use: str) -> Updates:
        """A checkpoint was chosen: the form becomes one for it, or stays as it is if it cannot be used."""
        try:
            spec = self._spec(name)
        except Exception as error:
            message = markup.message(sentence_of(error))
            return {self.form.controls["checkpoint"]: in_use, self.prompt.message: message}
        return {**self._in_use(spec, "1:1"), **self.form.use(spec), self.prompt.message: ""}

    def apply_preset(self, in_use: str, event: gr.EventData) -> Updates:
        """One of the checkpoint's own sets of settings into the form."""
        try:
            preset = self._spec(in_use).presets.get(getattr(event, "preset", None))
        except Exception as error:
            return {self.prompt.message: markup.message(sentence_of(error))}
        return {self.prompt.message: gr.skip()} if preset is None else self.form.tune(preset)

    def accept(self, in_use: str) -> Updates:
        """The licence of the checkpoint in use was accepted."""
        try:
            spec = self._spec(in_use)
            self.backend.accept_license(spec.license_to_accept)
        except Exception as error:
            return {self.prompt.message: markup.message(sentence_of(error))}
        note = markup.message("The licence is accepted; this is remembered.", kind="note")
        return {
            self.settings.checkpoint.about: about_html(self.backend, spec),
            self.prompt.message: note,
            self.timer: gr.Timer(active=True),  # the engine may start again
        }

    def _spec(self, name: object) -> CheckpointSpec:
        return self.backend.checkpoint(check_offered(name, self.form.spec.name))

    def _geometry(self, name: object) -> CheckpointSpec:
        """Sizes to go by where nothing may fail: those the page was laid out with, if need be."""
        try:
            return self._spec(name)
        except CascadeError:
            return self.form.spec

    def _in_use(self, spec: CheckpointSpec, aspect: str | None) -> Updates:
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

    def plan(self, *sent: Any) -> str:
        """The line that says what the next run will make."""
        try:
            return markup.plan_line(self.backend.plan(self.form.request(plan_values(sent))).summary)
        except Exception as error:
            return markup.plan_problem(sentence_of(error))

    def take_aspect(self, label: str, width: float, height: float, in_use: str) -> Updates:
        """A preset was clicked: its size, in the orientation the form has now."""
        size = presets(self._geometry(in_use)).get(label) if isinstance(label, str) else None
        if size is None:
            return {self.settings.aspect: gr.skip()}
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


def _picked(pictures: list[Picture], chosen: int | None) -> Picture | None:
    return pictures[chosen] if isinstance(chosen, int) and 0 <= chosen < len(pictures) else None
