"""Pictures beside the easel as HTML: what is said of the selected ones, their family, the session's row. Pure.

A card stands for one record of the visitor's. The page's script reads `data-show` (open it), `data-pick` (pick it) and
`data-act` (do something with what is picked).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from cascade_app.ui.actions import buttons

RELATIONS = {
    "develop": "Developed from", "vary": "Varied from", "blend": "Blended from", "words": "New words for", "grid": "Made from",
}  # fmt: skip


@dataclass(frozen=True)
class Card:
    """One record: `thumb` is the URL of its small picture."""

    id: str
    thumb: str
    caption: str = ""
    alt: str = ""
    sketch: bool = False
    favourite: bool = False


@dataclass(frozen=True)
class Download:
    """One way to take a picture along. `filename` is what the browser calls it."""

    label: str
    url: str
    filename: str
    help: str = ""


def card(one: Card, *, act: str = "show") -> str:
    """A thumbnail that opens the picture, and a corner that picks it."""
    kind = ' data-kind="sketch"' if one.sketch else ""
    star = '<i class="cs-star" title="Favourite">&#9733;</i>' if one.favourite else ""
    caption = f"<span>{escape(one.caption)}</span>" if one.caption else ""
    return (
        f'<div class="cs-card"{kind}><button type="button" class="cs-thumb" data-{act}="{escape(one.id)}" '
        f'title="{escape(one.alt)}"><img src="{escape(one.thumb)}" alt="{escape(one.alt)}" loading="lazy" decoding="async">'
        f"{caption}</button>{star}"
        f'<button type="button" class="cs-dot" data-pick="{escape(one.id)}" aria-pressed="false" title="Pick (Space)" '
        f'aria-label="Pick {escape(one.caption)}"></button></div>'
    )


def session_row(cards: Sequence[Card], *, more: bool = False) -> str:
    """The newest records, newest first; `more` says that the gallery has others."""
    if not cards:
        return '<div class="cs-session" data-empty><p>Your pictures and sketches will line up here.</p></div>'
    rest = '<button type="button" class="cs-chip" data-view-to="gallery">All in the gallery</button>' if more else ""
    return f'<div class="cs-session">{"".join(card(one) for one in cards)}{rest}</div>'


def family(*, relation: str, parents: Sequence[Card], children: Sequence[Card]) -> str:
    """Where a record comes from and what came of it; nothing where it has no kin."""
    parts = []
    for title, cards in ((RELATIONS.get(relation, "From"), parents), ("Became", children)):
        if cards:
            parts.append(f'<div class="cs-kin"><b>{escape(title)}</b>{"".join(card(one) for one in cards)}</div>')
    return f'<div class="cs-family">{"".join(parts)}</div>' if parts else ""


def facts(
    *,
    title: str,
    details: Sequence[str],
    count: int,
    downloads: Sequence[Download] = (),
    favourite: bool = False,
    kin: str = "",
    sheet: bool = False,
) -> str:
    """What is selected, and what can be done with it. `sheet` says that there is a contact sheet to go back to."""
    listed = "".join(f"<li>{escape(detail)}</li>" for detail in details)
    back = _act("contact", "Contact sheet", "c", "Back to the sheet") if sheet else ""
    pressed = frozenset({"favourite"} if favourite else ())
    return (
        f'<div class="cs-facts"><p class="cs-facts-title" title="{escape(title)}">{escape(title)}</p>'
        f'<ul class="cs-details">{listed}</ul>'
        f'<div class="cs-actions">{buttons(count, names=("develop", "vary", "words", "blend", "again", "compare"))}{back}</div>'
        f'<div class="cs-actions cs-lesser">{_downloads(downloads)}'
        f'{buttons(count, names=("favourite", "reuse_settings", "reuse_seed", "delete"), pressed=pressed)}</div></div>{kin}'
    )


def _act(act: str, label: str, key: str, help: str) -> str:
    return (
        f'<button type="button" class="cs-action cs-quiet-action" data-act="{act}" data-key="{key}" '
        f'title="{escape(help)} ({key.upper()})">{escape(label)}</button>'
    )


def _downloads(downloads: Sequence[Download]) -> str:
    """The first as a button, the others in a menu beside it."""
    if not downloads:
        return '<button type="button" class="cs-action" disabled title="Pick a picture to download">Download</button>'
    first, *others = downloads
    main = (
        f'<a class="cs-action" id="download" data-key="d" href="{escape(first.url)}" download="{escape(first.filename)}" '
        f'title="{escape(first.help)} (D)">{escape(first.label)}</a>'
    )
    if not others:
        return main
    items = "".join(
        f'<a href="{escape(one.url)}" download="{escape(one.filename)}"><b>{escape(one.label)}</b>'
        f"<span>{escape(one.help)}</span></a>"
        for one in others
    )
    return (
        f'<span class="cs-split">{main}<details class="cs-menu"><summary class="cs-action" title="Other kinds of file" '
        f'aria-label="Other kinds of file">&#9662;</summary><div>{items}</div></details></span>'
    )


def shelf(cards: Sequence[Card], *, empty: str, newer: bool, older: bool, note: str, trash: bool = False) -> str:
    """One page of the gallery, the way to the pages beside it, and `note` on what is kept."""
    inside = "".join(card(one) for one in cards) or f'<p class="cs-bare">{escape(empty)}</p>'
    again = _act("rebuild", "Rebuild from files", "u", "Make the list again from the picture files alone")
    turn = "".join(
        f'<button type="button" class="cs-action" data-act="{act}" data-key="{key}" title="{label} ({key})"'
        f'{"" if there else " disabled"}>{label}</button>'
        for act, key, label, there in (("newer", ",", "Newer", newer), ("older", ".", "Older", older))
    )
    return (
        f'<div class="cs-shelf">{inside}</div><div class="cs-pager"><span class="cs-note">{escape(note)}</span>'
        '<button type="button" class="cs-action" data-pick-all title="Pick all on this page (Shift+A)">Pick all</button>'
        f'{_act("undo", "Bring back", "z", "Take the picked ones out of the trash") if trash else ""}{again}{turn}</div>'
    )


def no_facts(text: str = "") -> str:
    """The same room with nothing selected, so that nothing jumps later."""
    return f'<div class="cs-facts" data-empty><p class="cs-facts-title">{escape(text)}</p></div>'


def undo_note(text: str) -> str:
    """A sentence about what was taken away, and the way back."""
    return (
        f'<p class="cs-message" data-kind="note" role="status">{escape(text)} '
        '<button type="button" class="cs-action" id="undo" data-act="undo" data-key="z" title="Bring it back (Z)">'
        "Bring back</button></p>"
    )
