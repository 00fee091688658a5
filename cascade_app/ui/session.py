"""What the page says of a visitor's pictures and sketches: how one lies on the easel, its facts, its card. Pure.

Only the gallery's items come in here, never pixels or negatives: the saved PNG is the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cascade_app.gallery.item import Item
from cascade_app.ui.cards import Card, Download, facts, family
from cascade_app.ui.easel import Axes, Easel, Print, StageMark

_WORDS = {
    "generate": "Developed", "sketch": "Sketched", "develop": "Developed", "vary": "Varied", "blend": "Blended",
    "words": "New words", "grid": "From a grid",
}  # fmt: skip
SHEET = 16  # records on a contact sheet
EXCERPT = 48  # characters of a prompt beside others
_KEPT = StageMark("kept")


@dataclass(frozen=True)
class Table:
    """What lies on the easel: records by id.

    sheet: the contact sheet that lay there before, to go back to.
    axes: of an X/Y grid.
    trashed: what was deleted last.
    """

    ids: tuple[str, ...] = ()
    sheet: tuple[str, ...] = ()
    look: Literal["one", "sheet", "compare"] = "one"
    axes: Axes | None = None
    trashed: tuple[str, ...] = ()

    def with_(self, ids: tuple[str, ...], *, axes: Axes | None = None) -> Table:
        """Other records on it; the sheet that lay there is the one to go back to."""
        sheet = self.ids if self.look == "sheet" and self.ids != ids else self.sheet
        return replace(self, ids=ids, sheet=sheet, look="sheet" if len(ids) > 1 else "one", axes=axes)


def last_sheet(newest: Sequence[Item]) -> tuple[str, ...]:
    """The ids that belong on the easel when the page is opened: the newest record and those made with it, oldest first.

    Made with it: right before it, in the same way, and of the same parents and settings but for the seed.
    """
    together = []
    for item in newest:
        if together and _manner(item) != _manner(newest[0]):
            break
        together.append(item.id)
    return tuple(reversed(together[:SHEET]))


def _manner(item: Item) -> tuple:
    return item.kind, item.action, item.parents, replace(item.request, seed=None)


def details(item: Item) -> list[str]:
    """The settings worth reading under a picture, shortest first to be understood."""
    request = item.request
    steps = f"{request.prior_steps} steps" if item.kind == "sketch" else f"{request.prior_steps} + {request.decoder_steps} steps"
    lines = [
        "a sketch" if item.kind == "sketch" else "",
        f"{request.width} x {request.height} px",
        f"seed {request.seed}",
        steps,
        f"guidance {_strength(request.prior_guidance)} / {_strength(request.decoder_guidance)}",
        request.sampler,
        request.checkpoint if len(request.checkpoint) < 30 else f"...{request.checkpoint[-27:]}",
    ]
    return [line for line in lines if line]


def _strength(guidance: float) -> str:
    return f"{guidance:g}" if guidance > 1 else "off"


def card_of(item: Item) -> Card:
    """Its thumbnail."""
    return Card(
        id=item.id, thumb=item.thumbnail_url, caption=str(item.request.seed), alt=item.request.prompt,
        sketch=item.kind == "sketch", favourite=item.favourite,
    )  # fmt: skip


def print_of(item: Item) -> Print:
    """It on the easel, in full."""
    return Print(item.url, item.request.prompt, item.id, caption=f"seed {item.request.seed}", sketch=item.kind == "sketch")


def one_on_easel(item: Item, *, clock: str = "") -> Easel:
    """One finished picture or negative, alone and large."""
    return Easel(
        state="done", ratio=ratio_of(item), prints=(print_of(item),), marks=marks_of(item), clock=clock, fraction=1.0,
        headline=f"{_WORDS[item.action]}, seed {item.request.seed}", link=item.url,
    )  # fmt: skip


def sheet_on_easel(items: Sequence[Item], *, clock: str = "", axes: Axes | None = None) -> Easel:
    """Several, to pick from; with `axes`, in the cells of a grid."""
    sketches = all(item.kind == "sketch" for item in items)
    what = "negatives" if sketches else "pictures"
    return Easel(
        state="done", ratio=ratio_of(items[0]), prints=tuple(print_of(item) for item in items), marks=shared_marks(items),
        clock=clock, fraction=1.0, headline=f"{'Grid' if axes else 'Contact sheet'}, {len(items)} {what}", axes=axes,
    )  # fmt: skip


def compared_on_easel(first: Item, second: Item) -> Easel:
    """Two, one over the other, each with what it has that the other has not."""
    prints = tuple(
        replace(print_of(one), caption=caption) for one, caption in zip((first, second), told_apart(first, second), strict=True)
    )
    return Easel(
        state="done", ratio=ratio_of(first), prints=prints, marks=shared_marks((first, second)), fraction=1.0,
        headline="Compared: draw the divider across", compare=True,
    )  # fmt: skip


def told_apart(first: Item, second: Item) -> tuple[str, ...]:
    """What each of two records has that the other has not; where all is the same, which of them came first."""
    lines = [[_excerpt(one.request.prompt), *details(one)] for one in (first, second)]
    own = [[line for line in mine if line not in others] for mine, others in (lines, lines[::-1])]
    if not any(own):
        return ("the earlier", "the later") if first.name < second.name else ("the later", "the earlier")
    return tuple(", ".join(one) for one in own)


def _excerpt(prompt: str) -> str:
    return prompt if len(prompt) <= EXCERPT else f"{prompt[: EXCERPT - 3]}..."


def ratio_of(item: Item) -> float:
    return item.request.width / item.request.height


def marks_of(item: Item) -> tuple[StageMark, StageMark, StageMark]:
    """Which stages made it, and with how many steps."""
    request = item.request
    prior = _KEPT if item.action == "develop" else StageMark("done", request.prior_steps, request.prior_steps)
    if item.kind == "sketch":
        return prior, _KEPT, _KEPT
    return prior, StageMark("done", request.decoder_steps, request.decoder_steps), StageMark("done", 1, 1)


def shared_marks(items: Sequence[Item]) -> tuple[StageMark, ...]:
    """The same of several: the steps only where all have as many, and what any of them went through."""
    columns = zip(*(marks_of(item) for item in items), strict=True)
    return tuple(marks[0] if len(set(marks)) == 1 else StageMark("done", 1, 1) for marks in columns)


def facts_of(
    items: Sequence[Item],
    *,
    parents: Sequence[Item] = (),
    children: Sequence[Item] = (),
    sheet: bool = False,
    compared: bool = False,
) -> str:
    """What is said of the selected records, and what can be done with them. One record also shows its family."""
    favourite = bool(items) and all(item.favourite for item in items)
    if len(items) != 1:
        title = f"{len(items)} {'compared' if compared else 'picked'}" if items else "Pick one or more: click, or press a number."
        url = f"pictures/selection.zip?ids={','.join(item.id for item in items)}"
        several = [Download(f"Download zip of {len(items)}", url, "cascade-studio.zip", "Each with its settings as JSON")]
        several = several if items else []
        return facts(title=title, details=(), count=len(items), downloads=several, favourite=favourite, sheet=sheet)
    item = items[0]
    kin = family(
        relation=item.action, parents=[card_of(one) for one in parents], children=[card_of(one) for one in children]
    )
    return facts(
        title=item.request.prompt, details=details(item), count=1, downloads=downloads_of(item), favourite=item.favourite,
        kin=kin, sheet=sheet,
    )  # fmt: skip


def downloads_of(item: Item) -> list[Download]:
    """The ways to take one picture along; the first is the one that keeps everything."""
    stem = item.name.removesuffix(".png").rpartition("-")[0]  # without the id
    own, plain = item.url.removesuffix(".png"), f"{item.url.removesuffix('.png')}/plain"
    return [
        Download("Download PNG", f"{own}.png?download", f"{stem}.png", "Carries all its settings and its negative"),
        Download("JPEG", f"{own}.jpg?download", f"{stem}.jpg", "Small, with its settings, without the negative"),
        Download("WebP", f"{own}.webp?download", f"{stem}.webp", "Smaller, with its settings, without the negative"),
        Download("Plain PNG", f"{plain}.png?download", f"{stem}-plain.png", "Pixels alone: all settings stripped"),
        Download("Plain JPEG", f"{plain}.jpg?download", f"{stem}-plain.jpg", "Pixels alone, small"),
    ]
