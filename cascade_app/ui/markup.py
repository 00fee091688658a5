"""The page's own HTML, as pure functions of plain values.

Owns every tag the page writes itself. All text from outside is escaped here and nowhere else. Knows nothing of Gradio,
events or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Literal


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
        f"{_views()}"
        f'<p class="cs-checkpoint"><b>{escape(checkpoint)}</b><span>{escape(license)}</span></p>'
        '<button type="button" class="cs-icon-button" id="theme-toggle" title="Light or dark (L)" '
        'aria-label="Switch between light and dark"><svg viewBox="0 0 20 20" aria-hidden="true">'
        '<circle cx="10" cy="10" r="7"/><path d="M10 3a7 7 0 0 1 0 14z"/></svg></button></header>'
    )


def _views() -> str:
    """The two rooms of the page; the script switches between them."""
    rooms = (("easel", "Easel", "page"), ("gallery", "Gallery", "false"))
    links = "".join(
        f'<button type="button" data-view-to="{name}" aria-current="{now}" title="{title} (G)">{title}</button>'
        for name, title, now in rooms
    )
    opener = '<button type="button" data-open title="A picture file (O)">Open</button>'
    return f'<nav class="cs-views" aria-label="Rooms">{links}{opener}</nav>'


def drop_target(limit_bytes: int) -> str:
    """What is seen while a file is dragged over the page, and the chooser behind the Open button."""
    return (
        f'<input type="file" id="open-file" data-limit="{limit_bytes}" accept="image/png,image/jpeg,image/webp" tabindex="-1" '
        'aria-label="A picture file"><div class="cs-drop"><p>Drop the picture: its settings come back, and it can be developed '
        "or varied at once.</p></div>"
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
