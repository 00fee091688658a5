"""The page's own HTML: text from outside stays text, and what it shows does not change its outer form."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from cascade_app.ui import actions, cards, markup
from cascade_app.ui.cards import Card, Download
from cascade_app.ui.easel import Axes, Easel, Print, StageMark, columns_for, easel

NASTY = '<img src=x onerror="alert(1)">&\'"</p>'

NASTY_CARD = Card(NASTY, NASTY, NASTY, NASTY, sketch=True, favourite=True)
NASTY_PRINTS = (Print(NASTY, NASTY, NASTY, NASTY), Print(NASTY, NASTY))


class Tags(HTMLParser):
    """The tags and their classes, in order; fails on tags that are not closed in order."""

    VOID = frozenset({"img", "circle", "rect", "path", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, str | None]] = []
        self.attributes: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs).get("class")))
        self.attributes += [name for name, _value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs).get("class")))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize(
    "text",
    [
        markup.message(NASTY),
        markup.plan_line(NASTY),
        markup.plan_problem(NASTY),
        markup.engine_status("failed", NASTY),
        markup.header(checkpoint=NASTY, license=NASTY),
        markup.prompt_chips([NASTY]),
        cards.no_facts(NASTY),
        cards.facts(title=NASTY, details=[NASTY], count=1, downloads=[Download(NASTY, NASTY, NASTY, NASTY)] * 2),
        cards.session_row([NASTY_CARD], more=True),
        cards.family(relation=NASTY, parents=[NASTY_CARD], children=[NASTY_CARD]),
        cards.shelf([NASTY_CARD], empty=NASTY, newer=True, older=True, note=NASTY, trash=True),
        cards.shelf([], empty=NASTY, newer=False, older=False, note=NASTY),
        cards.undo_note(NASTY),
        actions.footer(),
        markup.checkpoint_about(asking=NASTY, presets=[NASTY]),
        markup.system_note(NASTY),
        markup.system([(NASTY, NASTY)], {NASTY: [(NASTY, NASTY, NASTY)]}),
        easel(Easel(), [NASTY]),
        easel(Easel(state="done", prints=NASTY_PRINTS, headline=NASTY, clock=NASTY)),
        easel(Easel(state="done", prints=NASTY_PRINTS, compare=True)),
        easel(Easel(state="done", prints=NASTY_PRINTS, axes=Axes((NASTY, NASTY), (NASTY,), NASTY, NASTY))),
        easel(Easel(state="done", prints=NASTY_PRINTS[:1], link=NASTY)),
    ],
)
def test_outside_text_never_becomes_markup(text):
    assert "onerror" not in Tags(text).attributes


def test_the_easel_keeps_its_form_in_every_state():
    def frame(view: Easel) -> list[tuple[str, str | None]]:
        inside = {"cs-sheet", "cs-sheet cs-grid", "cs-slot", "cs-print-frame", "cs-print-frame cs-compare", "cs-enlarge",
                  "cs-under", "cs-over", "cs-side", "cs-divider", "cs-across", "cs-down", "cs-corner", "cs-empty", "cs-drawing",
                  "cs-ink", "cs-light", "cs-chips", "cs-chip", None}  # fmt: skip
        return [(tag, name) for tag, name in Tags(easel(view)).seen if name not in inside]

    blank = frame(Easel())
    marks = (StageMark("done", 20, 20), StageMark("active", 3, 10), StageMark())
    running = Easel(
        state="running", ratio=2.0, prints=(Print("a"),), marks=marks, headline="x", clock="y", fraction=0.5
    )
    assert frame(running) == blank
    assert frame(Easel(state="waiting", headline="x")) == blank
    pair = (Print("a", id="1"), Print("b", id="2"))
    for other in (Easel("done", prints=pair), Easel("done", prints=pair, compare=True),
                  Easel("done", prints=pair, axes=Axes(("1", "2"), ("x",)))):  # fmt: skip
        assert frame(other) == blank


def test_an_empty_message_leaves_nothing():
    assert markup.message("") == ""


@pytest.mark.parametrize(
    ("count", "ratio", "columns"), [(1, 1.0, 1), (2, 1.0, 2), (2, 2.0, 1), (4, 1.0, 2), (9, 1.0, 3)]
)
def test_pictures_share_the_easel_well(count, ratio, columns):
    assert columns_for(count, ratio) == columns


@pytest.mark.parametrize("count", range(1, 17))
def test_every_count_has_room(count):
    assert 1 <= columns_for(count, 1.0) <= count


def test_what_takes_another_number_is_there_but_disabled():
    def enabled(count: int) -> set[str]:
        return set(re.findall(r'data-act="(\w+)"(?![^>]*disabled)', actions.buttons(count)))

    assert enabled(0) == set()
    assert {"develop", "vary", "blend", "delete"} <= enabled(1) and "compare" not in enabled(1)
    assert {"develop", "blend", "compare"} <= enabled(2) and not {"vary", "words", "reuse_seed"} & enabled(2)
    assert enabled(3) == {"develop", "favourite", "delete"}
    assert actions.buttons(0).count("<button") == actions.buttons(3).count("<button") == len(actions.ACTIONS)


def test_every_action_has_a_key_of_its_own_in_the_footer():
    keys = [action.key for action in actions.ACTIONS] + [key for key, _what in (*actions.PAGE_KEYS, *actions.LATER_KEYS)]
    assert len(set(keys)) == len(keys)
    assert all(f"<kbd>{action.key}</kbd> {action.label.lower()}" in actions.footer() for action in actions.ACTIONS)


def test_prints_can_be_picked_once_they_are_saved():
    text = easel(Easel("running", prints=(Print("a", id="1"), Print("b"))))
    assert text.count("data-pick=") == text.count("data-show=") == 1
    alone = easel(Easel("done", prints=(Print("a", id="1"),), link="a"))
    assert "data-pick" not in alone and 'data-id="1"' in alone
