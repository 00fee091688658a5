"""The gallery's handlers: search, filters, pages, and what is said of its limits."""

from __future__ import annotations

import gradio as gr

from cascade_app.gallery.gallery import Album
from cascade_app.gallery.limits import size
from cascade_app.ui import cards, markup, session
from cascade_app.ui.elements import Elements, Updates, sentence_of, told
from cascade_app.ui.gallery_panel import EVERY_CHECKPOINT, PAGE, Browse, browse

LOOK_AHEAD = 16  # pictures: what would have to go for as many more is said in the gallery


class Browsing(Elements):
    """The handlers of the gallery's controls."""

    def look(self, http: gr.Request, search: object, filter: object, checkpoint: object, event: gr.EventData) -> Updates:
        """The view changed: read the gallery when it is looked at."""
        if told(event).get("view") != "gallery":
            return {self.shelf.at: gr.skip()}
        return self.seek(http, search, filter, checkpoint)

    def seek(self, http: gr.Request, search: object, filter: object, checkpoint: object) -> Updates:
        """The first page of what the controls say."""
        try:
            album = self.album(http)
            names = [EVERY_CHECKPOINT, *album.checkpoints()]
            chosen = checkpoint if checkpoint in names else EVERY_CHECKPOINT
            at = browse(search, filter, chosen)
            return {**self.refilled(album, at), self.shelf.checkpoint: gr.update(choices=names, value=chosen)}
        except Exception as error:
            return {self.shelf.shelf: markup.message(sentence_of(error))}

    def turn_page(self, album: Album, at: Browse, way: str) -> Updates:
        """To the older or newer page."""
        if way == "newer":
            return self.refilled(album, at.newer())
        return self.refilled(album, at.older(album.page(at.query, count=PAGE).after))

    def rebuilt(self, album: Album, at: Browse) -> Updates:
        """The index of this visitor's pictures made again from their files, and what that came to."""
        found = album.rebuild()
        sentence = f"Made again from the files: {found.added} pictures and sketches."
        if found.unreadable:
            sentence += f" {len(found.unreadable)} files hold no record that can be read; they are left alone."
        return {**self.refilled(album, at), **self.row(album), self.prompt.message: markup.message(sentence, kind="note")}

    def refilled(self, album: Album, at: Browse) -> Updates:
        """The page that is looked at, as it is now."""
        found = album.page(at.query, count=PAGE)
        if not found.items and at.trail:  # its last picture was deleted
            return self.refilled(album, at.newer())
        shown = [session.card_of(one) for one in found.items]
        html = cards.shelf(
            shown, empty=_nothing(at), newer=bool(at.trail), older=bool(found.after), note=self._note(album), trash=at.query.trash
        )
        return {self.shelf.shelf: html, self.shelf.at: at}

    def _note(self, album: Album) -> str:
        used, limits = album.usage(), self.gallery.limits
        kept = f"{used.pictures:,} of {limits.visitor_pictures:,}" if limits.visitor_pictures else f"{used.pictures:,}"
        each = used.n_bytes // used.pictures if used.pictures else 0
        going = album.what_would_go(pictures=LOOK_AHEAD, n_bytes=LOOK_AHEAD * each).sentence
        return f"{kept} kept, {size(used.n_bytes)}. {going}".strip()


def _nothing(at: Browse) -> str:
    query = at.query
    if query.search:
        return "No prompt has these words."
    if query.trash:
        return "The trash is empty."
    return "There are no favourites yet; press F on a picture." if query.favourites else "Nothing here yet."
