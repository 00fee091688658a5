"""Settings that come from outside: of a picture file dropped on the page, and those the browser kept since the last visit.

The file itself went to the gallery's own address (`serving/pictures.py`); the browser only passes on what that answered, so
everything here is checked again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import gradio as gr

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import CascadeError, InvalidRequest
from cascade_app.record import Record
from cascade_app.request import FIELD
from cascade_app.ui import markup
from cascade_app.ui.aspects import label_of, nearest_size
from cascade_app.ui.elements import Elements, Updates, present, sentence_of, told
from cascade_app.ui.form import ON_PAGE
from cascade_app.ui.session import Table

SIDES = ("width", "height")
NOTES_LIMIT = 12


class Opening(Elements):
    """The handler of opened files."""

    def opened(self, http: gr.Request, table: Table, in_use: str, event: gr.EventData) -> Updates:
        """What became of an opened file."""
        answer = told(event)
        if isinstance(answer.get("error"), str):
            return {self.prompt.message: markup.message(answer["error"][:500])}
        try:
            values = answer.get("values")
            updates, notes = self._restored(values if isinstance(values, Mapping) else {}, in_use)
            album = self.album(http)
            kept = present(album, [answer.get("id")]) if isinstance(answer.get("id"), str) else []
            if kept:
                updates |= {**self.lay(album, table.with_((kept[0].id,))), **self.row(album)}
                updates[self.settings.reuse_last] = gr.update(interactive=True)
            said = answer.get("notes")
            said = [str(one)[:300] for one in said[:NOTES_LIMIT]] if isinstance(said, list) else []
            sentence = " ".join([_welcome(album.record(kept[0].id) if kept else None), *said, *notes])
            return {**updates, self.prompt.message: markup.message(sentence, kind="note")}
        except Exception as error:
            return {self.prompt.message: markup.message(sentence_of(error))}

    def remember(self, kept: object, in_use: str) -> Updates:
        """The form as this browser left it; what does not fit any more stays as it is."""
        names = (*ON_PAGE, "style", "randomise")
        if not isinstance(kept, list) or len(kept) != len(names):
            return {self.form.randomise: gr.skip()}
        values = dict(zip(names, kept, strict=True))
        try:
            updates, _notes = self._restored(values, in_use)
        except Exception as error:
            return {self.prompt.message: markup.message(sentence_of(error))}
        updates[self.form.randomise] = values["randomise"] is not False
        if isinstance(values["style"], str) and values["style"] in self.form.book.styles:
            updates[self.form.style] = values["style"]
        with suppress(InvalidRequest):
            updates[self.form.controls["images"]] = FIELD["images"].parse(values["images"])
        return updates

    def _restored(self, values: Mapping[str, Any], in_use: str) -> tuple[Updates, list[str]]:
        """Updates that put `values` into the form, and what could not be."""
        notes: list[str] = []
        spec, known = self._checkpoint_of(values, in_use, notes)
        updates: Updates = dict(self.in_use(spec, None)) if known else {}
        for name, value in values.items():
            if name in FIELD and name not in (*SIDES, "checkpoint", "images") and value is not None:
                try:
                    updates[self.form.controls[name]] = FIELD[name].parse(value)
                except InvalidRequest as error:
                    notes.append(f"Not restored: {error.message}")
        if values.get("seed") is not None:
            updates[self.form.randomise] = False
        try:
            asked = tuple(FIELD[name].parse(values.get(name)) for name in SIDES)
        except InvalidRequest as error:
            notes.append(f"Not restored: {error.message}")
            asked = (None, None)
        if None not in asked:
            size = nearest_size(spec, *asked)
            if size != asked:
                old, new = (f"{across} x {down} px" for across, down in (asked, size))
                notes.append(f"{spec.title} does not make {old}; the form has {new}, the nearest it does.")
            updates |= self.form.sides(spec, *size)
            updates[self.settings.aspect] = gr.update(value=label_of(spec, *size))
        return updates, notes

    def _checkpoint_of(self, values: Mapping[str, Any], in_use: str, notes: list[str]) -> tuple[CheckpointSpec, bool]:
        """The checkpoint the settings name, and whether it is to be used; else the one that is."""
        name = values.get("checkpoint")
        try:
            if name is not None:
                return self.spec(name), True
        except CascadeError as error:
            notes.append(error.message)
        return self.spec(in_use), False


def _welcome(kept: Record | None) -> str:
    if kept is None:
        return "Its settings are in the form."
    if kept.start is None:
        return f"The {kept.kind} and its settings are here: develop it, vary it, or generate it again."
    return (
        f"The {kept.kind} and its settings are here. It began from another one, which no form holds: Make again or Develop gives "
        "its pixels, Generate another picture."
    )
