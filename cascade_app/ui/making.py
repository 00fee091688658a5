"""What starts the engine from the page: Generate, Sketch, and what is made of negatives. One way for all of them.

A press is noted at once (`begin_...`), the run then follows in the queue (`run`). What is to be made is said by
`commissions.py`, how it looks by `render.py`; this module owns what changes on the page while it goes on and after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import gradio as gr

from cascade_app.errors import CascadeError
from cascade_app.gallery.gallery import Album
from cascade_app.gallery.store import record
from cascade_app.serving.api import hung_up
from cascade_app.serving.backend import Backend
from cascade_app.serving.caller import asked_by
from cascade_app.serving.grids import grid_runs
from cascade_app.serving.offer import offered
from cascade_app.serving.visitors import caller_of
from cascade_app.ui import markup
from cascade_app.ui.commissions import Commission, Wishes, commission
from cascade_app.ui.easel import Easel, easel
from cascade_app.ui.elements import Elements, Turn, Updates, Wanted, ids_told, sentence_of, told
from cascade_app.ui.form import plan_values
from cascade_app.ui.grid_panel import read_grid
from cascade_app.ui.prompt_panel import words_line
from cascade_app.ui.render import View, render
from cascade_app.ui.session import Table
from cascade_app.ui.variations_panel import read_variation

NOT_STARTED = "The run could not start: too many are waiting, or the connection was lost. Try again in a moment."
FROM_FORM = ("generate", "sketch", "grid")


class Making(Elements):
    """The handlers of everything that makes pictures or negatives."""

    @property
    def run_inputs(self) -> list[Any]:
        """What `run` takes after the request."""
        return [
            *self.form.inputs, self.prompt.sketches, *self.variations.inputs, *self.grid.inputs, self.table, self.turn
        ]  # fmt: skip

    def begin_generate(self, turn: Turn) -> Updates:
        return self._begin(turn, Wanted("generate"))

    def begin_sketch(self, turn: Turn) -> Updates:
        return self._begin(turn, Wanted("sketch"))

    def begin_grid(self, turn: Turn) -> Updates:
        return self._begin(turn, Wanted("grid"))

    def begin_make(self, turn: Turn, event: gr.EventData) -> Updates:
        """An action that makes something of picked records."""
        return self._begin(turn, Wanted(str(told(event).get("act")), ids_told(event)))

    def _begin(self, turn: Turn, wanted: Wanted) -> Updates:
        """At once, before the queue: the page has heard."""
        turn.started += 1
        turn.wanted = wanted
        waiting = Easel(state="waiting", headline="In the queue")
        return {**self.running(True), self.prompt.message: "", self.stage.easel: easel(waiting)}

    def run(self, http: gr.Request, *sent: Any) -> Iterator[Updates]:
        """From the form and the picked records to pictures, an update an event."""
        *controls, table, turn = sent
        number, notices = turn.started, ""
        try:
            album = self.album(http)
        except CascadeError as error:
            yield self._turned_away(error.message)
            return
        left = hung_up()
        caller = replace(caller_of(http), gone=lambda: turn.cancelled >= number or left())
        try:
            made = self._commission(album, turn.wanted, controls)
            with closing(self._views(made, album, asked_by(caller, self.backend))) as views:
                for view in views:
                    if view.finished:
                        yield self._finished(album, view, table)
                        return
                    if turn.cancelled >= number:
                        break
                    notices = f"{notices} {view.notice}".strip()
                    yield self._updates(album, view, notices) | self._of_form(view, turn.wanted, controls[:2])
            yield self._cancelled(album, table)
        except Exception as error:  # the border: nothing may reach a user but a sentence
            yield self._failed(album, table, sentence_of(error, caller.request_id))

    def _failed(self, album: Album, table: Table, sentence: str) -> Updates:
        """What was there before, if the gallery can still be read, and the sentence."""
        try:
            return {**self._at_rest(album, table), self.prompt.message: markup.message(sentence)}
        except CascadeError:  # the gallery is the trouble: the sentence is about that already
            return self._turned_away(sentence)

    def _commission(self, album: Album, wanted: Wanted, controls: list[Any]) -> Commission:
        n, m = len(self.variations.inputs), len(self.grid.inputs)
        *fields, sketches = controls[: -n - m]
        variation, grid = controls[-n - m : -m], controls[-m:]
        wishes = Wishes(
            request=lambda: self.form.request(fields), settings=lambda: self.form.request(plan_values(fields)),
            sketches=sketches, variation=lambda: read_variation(variation),
            offered=lambda name: name in offered(self.form.spec.name),
            grid=lambda: read_grid(grid, self.form.request(fields)),
        )  # fmt: skip
        return commission(wanted.act, [album.record(id) for id in wanted.ids], wishes)

    def _views(self, made: Commission, album: Album, backend: Backend) -> Iterator[View]:
        """All of a commission's runs, one after the other, as one."""
        if made.grid is not None:
            cells = enumerate(grid_runs(backend, made.grid))
            return render(((record(events, album), (number,)) for number, (_cell, events) in cells), made.blank)
        runs = (record(backend.generate(one.request, one.work), album) for one in made.runs)
        return render(zip(runs, (one.cells for one in made.runs), strict=True), made.blank)

    def _of_form(self, view: View, wanted: Wanted, typed: Sequence[Any]) -> Updates:
        """The seed that was drawn and the words as they went to the encoder, once they are known, where the form asked."""
        if view.plan is None or wanted.act not in FROM_FORM:
            return {}
        words = words_line(view.plan, typed=typed, lead="Sent")
        seed = {} if view.seed is None or wanted.act == "grid" else {self.form.controls["seed"]: view.seed}
        return {self.prompt.words: words, **seed}

    def _updates(self, album: Album, view: View, notices: str) -> Updates:
        updates: Updates = {self.stage.easel: easel(view.easel)}
        if view.notice:
            updates[self.prompt.message] = markup.message(notices, kind="note")
        if view.saved:  # kept at once: a run cancelled later loses none of its finished pictures
            updates |= self.row(album)
            updates[self.settings.reuse_last] = gr.update(interactive=True)
        return updates

    def _finished(self, album: Album, view: View, table: Table) -> Updates:
        table = table.with_(tuple(one.id for one in view.easel.prints if one.id), axes=view.easel.axes)
        return {**self.running(False), **self.lay(album, table, clock=view.easel.clock), **self.row(album)}

    def plan_grid(self, *sent: Any) -> str:
        """The line that says what a grid would be."""
        m = len(self.grid.inputs)
        try:
            request = self.form.request(plan_values(sent[:-m]))
            return markup.plan_line(read_grid(sent[-m:], request).summary)
        except Exception as error:
            return markup.plan_problem(sentence_of(error))

    def cancel(self, turn: Turn) -> None:
        """Ask the run to end; it does within one step."""
        turn.cancelled = turn.started

    def _cancelled(self, album: Album, table: Table) -> Updates:
        note = markup.message("Cancelled. The engine is free again.", kind="note")
        return {**self._at_rest(album, table), self.prompt.message: note}

    def not_started(self, http: gr.Request, table: Table) -> Updates:
        """The queue was full, or the connection broke."""
        try:
            return {**self._at_rest(self.album(http), table), self.prompt.message: markup.message(NOT_STARTED)}
        except CascadeError as error:
            return self._turned_away(error.message)

    def _turned_away(self, sentence: str) -> Updates:
        """There is no gallery to keep anything in."""
        blank = easel(Easel(), self.prompts)
        return {**self.running(False), self.stage.easel: blank, self.prompt.message: markup.message(sentence)}

    def _at_rest(self, album: Album, table: Table) -> Updates:
        """The stage as it was before the run, and in the row whatever the run has saved."""
        return {**self.running(False), **self.lay(album, table), **self.row(album)}
