"""The page's own HTML, as pure functions of plain values.

Owns every tag the page writes itself. All text from outside is escaped here and nowhere else. Knows nothing of Gradio,
events or files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Literal

Progress = Literal["ahead", "active", "done"]

STAGES: tuple[tuple[str, str, str, str], ...] = (
    ("prior", "C", "Prior", "Words become a small negative."),
    ("decoder", "B", "Decoder", "The negative is developed."),
    ("vqgan", "A", "VQGAN", "Tones become pixels."),
)


@dataclass(frozen=True)
class Print:
    """One picture on the easel. `src` is a URL or data URI, empty while nothing is visible yet."""

    src: str = ""
    alt: str = ""
    pick: int | None = None  # position among the session's pictures, once it can be chosen


@dataclass(frozen=True)
class StageMark:
    """One cell of the stage strip. `steps` is 0 before the stage's length is known."""

    progress: Progress = "ahead"
    step: int = 0
    steps: int = 0


@dataclass(frozen=True)
class Easel:
    """Everything the big picture area shows at one moment. `ratio` is width / height of one picture."""

    state: Literal["empty", "waiting", "running", "done"] = "empty"
    ratio: float = 1.0
    prints: tuple[Print, ...] = ()
    marks: tuple[StageMark, ...] = (StageMark(), StageMark(), StageMark())
    headline: str = ""
    clock: str = ""
    fraction: float = 0.0
    link: str = ""  # where a single finished picture opens in full


def easel(view: Easel, examples: Sequence[str] = ()) -> str:
    """The picture area with its status line and stage strip. Its outer size never depends on `view`."""
    content = _empty(examples) if view.state == "empty" else _sheet(view)
    if view.state == "empty":
        view = replace(view, headline="The cascade, in three stages")
    return (
        f'<section class="cs-stage" data-state="{view.state}" aria-label="Picture">'
        f'<div class="cs-easel">{content}</div>'
        f"{_status(view)}{_strip(view.marks)}</section>"
    )


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
        "Then it is <em>developed</em> into the picture, and you watch both.</p>"
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
    if one.pick is not None:
        return f'<button type="button" class="cs-print-frame" data-pick="{one.pick}">{image}</button>'
    if view.link:
        return f'<a class="cs-print-frame" href="{escape(view.link)}" target="_blank" title="Open in full">{image}</a>'
    return f'<figure class="cs-print-frame">{image}</figure>'


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
    for (_key, letter, title, lesson), mark in zip(STAGES, marks, strict=True):
        count = f"{mark.step} / {mark.steps}" if mark.steps > 1 else ("done" if mark.progress == "done" else "")
        cells.append(
            f'<li class="cs-cell" data-progress="{mark.progress}"><b class="cs-letter">{letter}</b>'
            f'<span class="cs-cell-title">{title}</span><span class="cs-count">{count}</span>'
            f'<span class="cs-lesson">{lesson}</span></li>'
        )
    return f'<ol class="cs-strip" aria-label="The cascade">{"".join(cells)}</ol>'


def prompt_chips(prompts: Sequence[str]) -> str:
    """Buttons that put an example into the prompt; the page's script reads `data-prompt`."""
    chips = "".join(
        f'<button type="button" class="cs-chip" data-prompt="{escape(text)}">{escape(text)}</button>'
        for text in prompts
    )
    return f'<div class="cs-chips">{chips}</div>' if chips else ""


def header(*, checkpoint: str, license: str) -> str:
    """The name of the house, and whose weights are in use."""
    return (
        '<header class="cs-header"><h1><span class="cs-mark" aria-hidden="true"><i></i><i></i><i></i></span>'
        "Cascade Studio</h1>"
        f'<p class="cs-checkpoint"><b>{escape(checkpoint)}</b><span>{escape(license)}</span></p>'
        '<button type="button" class="cs-icon-button" id="theme-toggle" title="Light or dark (L)" '
        'aria-label="Switch between light and dark"><svg viewBox="0 0 20 20" aria-hidden="true">'
        '<circle cx="10" cy="10" r="7"/><path d="M10 3a7 7 0 0 1 0 14z"/></svg></button></header>'
    )


def engine_status(state: str, message: str) -> str:
    """The lamp that says whether the engine can work, with a sentence."""
    return f'<p class="cs-lamp" data-state="{escape(state)}" role="status"><i></i><span>{escape(message)}</span></p>'


def plan_line(text: str) -> str:
    """What the next run will make."""
    return f'<p class="cs-plan" aria-live="polite">{escape(text)}</p>'


def plan_problem(text: str) -> str:
    """Why the next run could not be made."""
    return f'<p class="cs-plan" data-problem aria-live="polite">{escape(text)}</p>'


def message(text: str, *, kind: Literal["error", "note"] = "error") -> str:
    """A sentence that stays on the page until the next run; nothing for an empty one."""
    if not text:
        return ""
    role = "alert" if kind == "error" else "status"
    return f'<p class="cs-message" data-kind="{kind}" role="{role}">{escape(text)}</p>'


@dataclass(frozen=True)
class Thumbnail:
    """One picture of the session's row. `url` serves the saved file."""

    url: str
    caption: str
    alt: str


def session_row(thumbnails: Sequence[Thumbnail], chosen: int | None) -> str:
    """The session's pictures, newest first; positions count from the oldest."""
    if not thumbnails:
        return '<div class="cs-session" data-empty><p>The pictures of this session will line up here.</p></div>'
    items = []
    for position in reversed(range(len(thumbnails))):
        one = thumbnails[position]
        pressed = "true" if position == chosen else "false"
        items.append(
            f'<button type="button" class="cs-thumb" data-pick="{position}" aria-pressed="{pressed}">'
            f'<img src="{escape(one.url)}" alt="{escape(one.alt)}" loading="lazy">'
            f"<span>{escape(one.caption)}</span></button>"
        )
    return f'<div class="cs-session">{"".join(items)}</div>'


def facts(*, title: str, details: Sequence[str], url: str, filename: str) -> str:
    """The chosen picture's settings, and what can be done with it."""
    listed = "".join(f"<li>{escape(detail)}</li>" for detail in details)
    return (
        f'<div class="cs-facts"><div><p class="cs-facts-title" title="{escape(title)}">{escape(title)}</p>'
        f'<ul class="cs-details">{listed}</ul></div><div class="cs-actions">'
        f'<a class="cs-action" id="download" href="{escape(url)}" download="{escape(filename)}" '
        'title="The PNG carries all its settings (D)">Download PNG</a>'
        '<button type="button" class="cs-action" id="reuse-seed" data-act="reuse_seed" '
        'title="Put this seed into the form (R)">Reuse seed</button>'
        '<button type="button" class="cs-action" id="reuse-settings" data-act="reuse_settings" '
        'title="Put all of its settings into the form (A)">Reuse settings</button></div></div>'
    )


def no_facts(text: str = "") -> str:
    """The same room with nothing chosen, so that nothing jumps later."""
    return f'<div class="cs-facts" data-empty><p class="cs-facts-title">{escape(text)}</p></div>'


def checkpoint_about(*, asking: str, presets: Sequence[str]) -> str:
    """What a checkpoint's licence asks, where it is still to be accepted, and sets of settings to start from."""
    parts = []
    if asking:
        parts.append(
            f'<div class="cs-license"><p>{escape(asking)}</p>'
            '<button type="button" class="cs-action" id="accept-license" data-act="accept">Accept</button></div>'
        )
    if presets:
        chips = "".join(
            f'<button type="button" class="cs-chip" data-preset="{escape(name)}">{escape(name)}</button>'
            for name in presets
        )
        parts.append(f'<div class="cs-presets"><span>Settings of the</span>{chips}</div>')
    return "".join(parts)


def system_note(text: str) -> str:
    """The System panel before there is anything to report."""
    return f'<p class="cs-system-note">{escape(text)}</p>'


def system(facts: Sequence[tuple[str, str]], tables: Mapping[str, Sequence[tuple[str, str, str]]]) -> str:
    """The engine's facts, and for each checkpoint a table of its networks: name, size, where."""
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    shown = "".join(_parts_table(title, rows) for title, rows in tables.items())
    return f'<dl class="cs-system">{listed}</dl>{shown}'


def _parts_table(title: str, rows: Sequence[tuple[str, str, str]]) -> str:
    cells = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(size)}</td><td>{escape(where)}</td></tr>" for name, size, where in rows
    )
    return (
        f'<table class="cs-parts"><caption>{escape(title)}</caption><thead><tr><th scope="col">Network</th>'
        f'<th scope="col">Size</th><th scope="col">Where</th></tr></thead><tbody>{cells}</tbody></table>'
    )


def size_text(count: int) -> str:
    """A number of bytes as people read it."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
