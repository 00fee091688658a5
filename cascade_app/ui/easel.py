"""The easel: the big picture area as HTML, whatever lies on it. Pure functions of plain values.

One picture, a contact sheet, an X/Y grid with its labels, or two pictures under a divider that can be drawn across. Its
outer size never depends on what it shows. Knows nothing of Gradio, events or files.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Literal

from cascade_app.ui.markup import prompt_chips

Progress = Literal["ahead", "active", "done", "kept"]

STAGES: tuple[tuple[str, str, str, str], ...] = (
    ("prior", "C", "Prior", "Words become a small negative."),
    ("decoder", "B", "Decoder", "The negative is developed."),
    ("vqgan", "A", "VQGAN", "Tones become pixels."),
)
_NOT_RUN = {"prior": "kept", "decoder": "later", "vqgan": "later"}


@dataclass(frozen=True)
class Print:
    """One picture on the easel. `src` is a URL or data URI, empty while nothing is visible yet.

    `id` is its record's, once it is saved: only then can it be picked. `sketch` marks a negative as the previewer shows it.
    """

    src: str = ""
    alt: str = ""
    id: str = ""
    caption: str = ""
    sketch: bool = False


@dataclass(frozen=True)
class StageMark:
    """One cell of the stage strip. `steps` is 0 before the stage's length is known; "kept" is a stage left out."""

    progress: Progress = "ahead"
    step: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Axes:
    """The labels of an X/Y grid: one a column, one a row, and what each axis is. Prints go row by row."""

    across: tuple[str, ...]
    down: tuple[str, ...]
    across_title: str = ""
    down_title: str = ""


@dataclass(frozen=True)
class Easel:
    """Everything the big picture area shows at one moment. `ratio` is width / height of one picture.

    sheet: clicks pick prints instead of opening them.
    compare: two prints, one over the other, with a divider between.
    """

    state: Literal["empty", "waiting", "running", "done"] = "empty"
    ratio: float = 1.0
    prints: tuple[Print, ...] = ()
    marks: tuple[StageMark, ...] = (StageMark(), StageMark(), StageMark())
    headline: str = ""
    clock: str = ""
    fraction: float = 0.0
    link: str = ""  # where a single finished picture opens in full
    axes: Axes | None = None
    compare: bool = False


def easel(view: Easel, examples: Sequence[str] = ()) -> str:
    """The picture area with its status line and stage strip."""
    if view.state == "empty":
        view = replace(view, headline="The cascade, in three stages")
    return (
        f'<section class="cs-stage" data-state="{view.state}" aria-label="Picture">'
        f'<div class="cs-easel">{_content(view, examples)}</div>'
        f"{_status(view)}{_strip(view.marks)}</section>"
    )


def _content(view: Easel, examples: Sequence[str]) -> str:
    if view.state == "empty":
        return _empty(examples)
    if view.compare and len(view.prints) == 2:
        return _compare(view)
    if view.axes is not None:
        return _grid(view, view.axes)
    return _sheet(view)


def columns_for(count: int, ratio: float, *, room: float = 1.3) -> int:
    """How many columns make `count` pictures of `ratio` fill a room of width / height `room` best."""

    def misfit(columns: int) -> tuple[float, int]:
        rows = math.ceil(count / columns)
        shape = columns * ratio / rows
        used = min(shape / room, room / shape) * count / (columns * rows)
        return -round(used, 6), columns

    return min(range(1, count + 1), key=misfit)


def _empty(examples: Sequence[str]) -> str:
    return (
        '<div class="cs-empty">'
        f"{_EMPTY_DRAWING}"
        "<h2>Nothing on the easel yet</h2>"
        "<p>Your words become a <em>negative</em>, a latent of a few thousand numbers. "
        "Then it is <em>developed</em> into the picture, and you watch both. "
        "<em>Sketch</em> makes a sheet of negatives to choose from.</p>"
        f"{prompt_chips(examples[:3])}</div>"
    )


_EMPTY_DRAWING = (
    '<svg class="cs-drawing" viewBox="0 0 128 72" aria-hidden="true">'
    '<g class="cs-ink"><rect x="1" y="22" width="28" height="28" rx="3"/>'
    '<path d="M1 31.300h28M1 40.600h28M10.300 22v28M19.600 22v28"/>'
    '<path d="M40 36h18m-5-5 5 5-5 5"/><rect x="69" y="7" width="58" height="58" rx="4"/>'
    '<path d="M69 51l17-16 13 11 10-8 18 17"/></g>'
    '<circle class="cs-light" cx="111" cy="24" r="6"/></svg>'
)


def _sheet(view: Easel) -> str:
    count = max(1, len(view.prints))
    columns = columns_for(count, view.ratio)
    rows = math.ceil(count / columns)
    style = f"--ratio:{view.ratio:.4f};--columns:{columns};--sheet-ratio:{columns * view.ratio / rows:.4f}"
    inside = "".join(_print(one, view) for one in view.prints or (Print(),))
    return f'<div class="cs-sheet" style="{style}">{inside}</div>'


def _print(one: Print, view: Easel) -> str:
    image = f'<img src="{escape(one.src)}" alt="{escape(one.alt)}" draggable="false">' if one.src else ""
    kind = ' data-kind="sketch"' if one.sketch else ""
    if len(view.prints) == 1:
        if view.link:
            return (
                f'<a class="cs-print-frame"{kind} data-id="{escape(one.id)}" href="{escape(view.link)}" target="_blank" '
                f'title="Open in full">{image}</a>'
            )
        return f'<figure class="cs-print-frame"{kind}>{image}</figure>'
    if not one.id:
        return f'<figure class="cs-print-frame"{kind}>{image}</figure>'
    return (
        f'<div class="cs-slot"><button type="button" class="cs-print-frame"{kind} data-pick="{escape(one.id)}" '
        f'aria-pressed="false" title="Pick">{image}</button>'
        f'<button type="button" class="cs-enlarge" data-show="{escape(one.id)}" title="See it whole (Enter)" '
        f'aria-label="See {escape(one.alt)} whole">{_ENLARGE}</button></div>'
    )


_ENLARGE = '<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M9.500 2.500h4v4M6.500 13.500h-4v-4M13 3 9 7M3 13l4-4"/></svg>'


def _grid(view: Easel, axes: Axes) -> str:
    """The prints under the labels of their columns and beside those of their rows."""
    columns, rows = len(axes.across), len(axes.down)
    style = f"--ratio:{view.ratio:.4f};--columns:{columns};--rows:{rows}"
    head = "".join(f'<span class="cs-across" title="{escape(one)}">{escape(one)}</span>' for one in axes.across)
    down = " &#8595;" if axes.down_title else ""
    corner = f'<span class="cs-corner"><b>{escape(axes.across_title)} &#8594;</b><b>{escape(axes.down_title)}{down}</b></span>'
    lines = []
    for row, label in enumerate(axes.down):
        cells = "".join(_print(one, view) for one in view.prints[row * columns : (row + 1) * columns])
        lines.append(f'<span class="cs-down" title="{escape(label)}">{escape(label)}</span>{cells}')
    return f'<div class="cs-sheet cs-grid" style="{style}">{corner}{head}{"".join(lines)}</div>'


def _compare(view: Easel) -> str:
    """Two pictures, the second over the first and cut off at the divider; the script moves `--split`."""
    under, over = view.prints
    images = "".join(
        f'<img class="cs-{where}" src="{escape(one.src)}" alt="{escape(one.alt)}" draggable="false">'
        for where, one in (("under", under), ("over", over))
    )
    return (
        f'<div class="cs-sheet" style="--ratio:{view.ratio:.4f};--columns:1;--sheet-ratio:{view.ratio:.4f}">'
        f'<div class="cs-print-frame cs-compare" data-ids="{escape(under.id)} {escape(over.id)}">{images}'
        f'<span class="cs-side" data-side="left">{escape(under.caption)}</span>'
        f'<span class="cs-side" data-side="right">{escape(over.caption)}</span><i class="cs-divider"></i>'
        '<input type="range" min="0" max="100" value="50" step="0.5" aria-label="Draw the divider across"></div></div>'
    )


def _status(view: Easel) -> str:
    percent = round(100 * min(max(view.fraction, 0.0), 1.0), 1)
    return (
        f'<div class="cs-status"><span class="cs-headline">{escape(view.headline)}</span>'
        f'<span class="cs-clock">{escape(view.clock)}</span>'
        f'<span class="cs-rail" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent:g}"><i style="width:{percent:g}%"></i></span></div>'
    )


def _strip(marks: Sequence[StageMark]) -> str:
    cells = []
    for (key, letter, title, lesson), mark in zip(STAGES, marks, strict=True):
        cells.append(
            f'<li class="cs-cell" data-progress="{mark.progress}"><b class="cs-letter">{letter}</b>'
            f'<span class="cs-cell-title">{title}</span><span class="cs-count">{_count(key, mark)}</span>'
            f'<span class="cs-lesson">{lesson}</span></li>'
        )
    return f'<ol class="cs-strip" aria-label="The cascade">{"".join(cells)}</ol>'


def _count(stage: str, mark: StageMark) -> str:
    if mark.progress == "kept":
        return _NOT_RUN[stage]
    if mark.steps > 1:
        return f"{mark.step} / {mark.steps}"
    return "done" if mark.progress == "done" else ""
