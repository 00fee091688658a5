"""What lies on the easel, what is picked, and what is done with it short of a run: seen, compared, starred, deleted, reused."""

from __future__ import annotations

from dataclasses import replace

import gradio as gr

from cascade_app.gallery.gallery import Album
from cascade_app.gallery.item import Item
from cascade_app.record import is_id
from cascade_app.ui import cards, markup
from cascade_app.ui.browsing import Browsing
from cascade_app.ui.elements import Turn, Updates, ids_told, present, sentence_of, told
from cascade_app.ui.gallery_panel import Browse
from cascade_app.ui.session import Table, last_sheet


class Picking(Browsing):
    """The handlers of the easel, the row and the gallery's pictures."""

    def open(self, http: gr.Request) -> Updates:
        """The page was opened or reloaded: the visitor's own pictures, the last ones on the easel."""
        try:
            album = self.album(http)
            newest = album.page().items
            table = Table().with_(last_sheet(newest))
            laid = self.lay(album, table) if newest else {}
            return {**laid, **self.row(album), self.settings.reuse_last: gr.update(interactive=bool(newest))}
        except Exception as error:
            return {self.prompt.message: markup.message(sentence_of(error))}

    def show(self, http: gr.Request, table: Table, turn: Turn, event: gr.EventData) -> Updates:
        """One record is to be seen whole."""
        id = told(event).get("id")
        try:
            album = self.album(http)
            if turn.overtaken("show", event) or not is_id(id) or not present(album, [id]):
                return {self.table: gr.skip()}
            updates = self.lay(album, table.with_((id,)))
            return {self.table: gr.skip()} if turn.overtaken("show", event) else updates
        except Exception as error:
            return {self.prompt.message: markup.message(sentence_of(error))}

    def picks(self, http: gr.Request, table: Table, turn: Turn, event: gr.EventData) -> Updates:
        """Other records are picked now: say of them what there is to say."""
        try:
            album = self.album(http)
            items = present(album, ids_told(event), deleted=True)
            if not items and told(event).get("view") != "gallery":
                items = present(album, table.ids) if table.look != "sheet" else []
            facts = self.facts(album, items, table)
            return {self.stage.facts: gr.skip() if turn.overtaken("picks", event) else facts}
        except Exception as error:
            return {self.prompt.message: markup.message(sentence_of(error))}

    def act(self, http: gr.Request, table: Table, at: Browse, event: gr.EventData) -> Updates:
        """An action of `actions.py` that needs no engine."""
        handlers = {
            "compare": self._compare, "contact": self._contact, "favourite": self._favourite, "delete": self._delete,
            "undo": self._undo, "reuse_seed": self._reuse_seed, "reuse_settings": self._reuse_settings,
        }  # fmt: skip
        name = told(event).get("act")
        try:
            album = self.album(http)
            if name in ("older", "newer"):
                return self.turn_page(album, at, name)
            if name == "rebuild":
                return self.rebuilt(album, at)
            handler = handlers.get(name) if isinstance(name, str) else None
            if handler is None:
                return {self.table: gr.skip()}
            updates = handler(album, table, present(album, ids_told(event), deleted=True))
            changes = name in ("favourite", "delete", "undo")
            return {**updates, **(self.refilled(album, at) if changes else {})}
        except Exception as error:
            return {self.prompt.message: markup.message(sentence_of(error))}

    def _compare(self, album: Album, table: Table, items: list[Item]) -> Updates:
        if len(items) != 2:
            return {self.table: gr.skip()}
        pair = tuple(item.id for item in items)
        return self.lay(album, replace(table.with_(pair), look="compare"))

    def _contact(self, album: Album, table: Table, items: list[Item]) -> Updates:
        if len(table.sheet) < 2:
            return {self.table: gr.skip()}
        return self.lay(album, table.with_(table.sheet))

    def _favourite(self, album: Album, table: Table, items: list[Item]) -> Updates:
        on = not all(item.favourite for item in items)
        changed = [album.favourite(item.id, on) for item in items]
        return {self.stage.facts: self.facts(album, changed, table), **self.row(album)}

    def _delete(self, album: Album, table: Table, items: list[Item]) -> Updates:
        if not items:
            return {self.table: gr.skip()}
        for_good = [item.id for item in items if item.deleted_s is not None]
        album.purge(for_good)
        gone = album.delete([item.id for item in items if item.deleted_s is None])
        ids = tuple(item.id for item in gone)
        table = replace(table, trashed=ids or table.trashed)
        what = f'"{gone[0].request.prompt[:60]}" is' if len(gone) == 1 else f"{len(gone)} are"
        note = markup.message(f"{len(for_good)} gone for good.", kind="note")
        if gone:
            note = cards.undo_note(f"{what} in the trash.")
        return {**self.lay(album, table), **self.row(album), self.prompt.message: note}

    def _undo(self, album: Album, table: Table, items: list[Item]) -> Updates:
        """What was deleted last, or what is picked in the trash, comes back."""
        ids = tuple(item.id for item in items if item.deleted_s is not None) or table.trashed
        back = album.restore([item.id for item in present(album, ids, deleted=True)])
        note = markup.message(f"{len(back)} back in the gallery." if back else "There is nothing to bring back.", kind="note")
        table = replace(table, trashed=())
        if len(back) == 1:
            table = table.with_((back[0].id,))
        return {**self.lay(album, table), **self.row(album), self.prompt.message: note}

    def _reuse_seed(self, album: Album, table: Table, items: list[Item]) -> Updates:
        if len(items) != 1:
            return {self.table: gr.skip()}
        return {self.form.controls["seed"]: items[0].request.seed, self.form.randomise: False}

    def _reuse_settings(self, album: Album, table: Table, items: list[Item]) -> Updates:
        return self.fill(items[0].request) if len(items) == 1 else {self.table: gr.skip()}

    def reuse_last(self, http: gr.Request) -> Updates:
        """The newest picture's seed into the form."""
        try:
            newest = self.album(http).page(count=1).items
            if not newest:
                return {self.form.randomise: gr.skip()}
            return {self.form.controls["seed"]: newest[0].request.seed, self.form.randomise: False}
        except Exception as error:
            return {self.prompt.message: markup.message(sentence_of(error))}

