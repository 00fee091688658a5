"""What can be done with pictures and negatives: one table of actions, and their buttons. Pure.

Owns each action's word, its key, how many pictures it takes and its line of help. The page's script presses whatever
button carries a key (`data-key`), so a new action needs no script; the footer lists the same table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

MANY = 100  # as many as the gallery lets one pick at once


@dataclass(frozen=True)
class Action:
    """`fewest` to `most` pictures can be acted on at once. `makes` says that it starts a run of the engine."""

    name: str
    label: str
    key: str
    help: str
    fewest: int = 1
    most: int = 1
    makes: bool = False

    def fits(self, count: int) -> bool:
        return self.fewest <= count <= self.most

    @property
    def wants(self) -> str:
        """What has to be picked first, in a few words."""
        words = {(1, 1): "one picture", (2, 2): "two pictures", (1, 2): "one or two"}
        return words.get((self.fewest, self.most), f"1 to {self.most} pictures")


ACTIONS: tuple[Action, ...] = (
    Action("develop", "Develop", "E", "Stages B and A on the negative, with the form's decoder settings.", most=16, makes=True),
    Action("vary", "Vary", "V", "Its negative changed, from subtle to strong.", makes=True),
    Action("words", "New words", "W", "The same seed, with the words of the form.", makes=True),
    Action("blend", "Blend", "B", "Between two, or from one towards the words of the form.", most=2, makes=True),
    Action("again", "Make again", "M", "All of it once more, from its own settings: the same picture.", makes=True),
    Action("compare", "Compare", "K", "One over the other, with a divider to draw across.", fewest=2, most=2),
    Action("favourite", "Favourite", "F", "Favourites are never thrown away to make room.", most=MANY),
    Action("reuse_settings", "Reuse settings", "A", "Put all of its settings into the form."),
    Action("reuse_seed", "Reuse seed", "R", "Put its seed into the form."),
    Action("delete", "Delete", "Delete", "It can be brought back at once.", most=MANY),
)  # fmt: skip
ACTION = {action.name: action for action in ACTIONS}

# Keys of the page as a whole, as its footer and its script name them.
PAGE_KEYS: tuple[tuple[str, str], ...] = (
    ("Ctrl+Enter", "generate"), ("Shift+Ctrl+Enter", "sketch"), ("Esc", "cancel"),
    ("1 to 9", "pick on the sheet"), ("Space", "pick"), ("Enter", "see it whole"), ("Left and Right", "choose"),
    ("C", "contact sheet"),
)  # fmt: skip
LATER_KEYS: tuple[tuple[str, str], ...] = (
    ("D", "download"), ("Z", "bring back"), ("G", "gallery"), ("/", "search"), (",", "newer page"),
    (".", "older page"), ("Shift+A", "pick the page"), ("U", "rebuild from files"), ("X", "grid"), ("O", "open a PNG"),
    ("S", "swap sides"), ("L", "light or dark"),
)  # fmt: skip


def footer() -> str:
    """Every key and what it does."""
    keys = [*PAGE_KEYS, *((action.key, action.label.lower()) for action in ACTIONS), *LATER_KEYS]
    return f'<p class="cs-keys">{"".join(f"<span><kbd>{escape(key)}</kbd> {escape(what)}</span>" for key, what in keys)}</p>'


def buttons(count: int, *, names: Sequence[str] = tuple(ACTION), pressed: frozenset[str] = frozenset()) -> str:
    """The actions as buttons, for `count` pictures; those that take another number are there, but disabled."""
    return "".join(_button(ACTION[name], count, name in pressed) for name in names)


def _button(action: Action, count: int, pressed: bool) -> str:
    fits = action.fits(count)
    label = f"{action.label} {count}" if fits and count > 1 and action.makes and action.most > 2 else action.label
    title = f"{action.help} ({action.key})" if fits else f"Pick {action.wants} to {action.label.lower()}. {action.help}"
    state = "" if fits else " disabled"
    # Only a state that can be switched has one to tell.
    toggle = f' aria-pressed="{"true" if pressed else "false"}"' if action.name == "favourite" else ""
    return (
        f'<button type="button" class="cs-action" id="{action.name.replace("_", "-")}" data-act="{action.name}" '
        f'data-key="{action.key.lower()}" data-takes="{action.fewest} {action.most}"{" data-makes" if action.makes else ""}'
        f'{toggle}{state} title="{escape(title)}">{escape(label)}</button>'
    )
