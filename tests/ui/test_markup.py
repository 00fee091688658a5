"""The page's own HTML: text from outside stays text, and what it shows does not change its outer form."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from cascade_app.ui import markup
from cascade_app.ui.markup import Easel, Print, StageMark, Thumbnail, columns_for

NASTY = '<img src=x onerror="alert(1)">&\'"</p>'


class Tags(HTMLParser):
    """The tags and their classes, in order; fails on tags that are not closed in order."""

    VOID = frozenset({"img", "circle", "rect", "path"})

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
        markup.no_facts(NASTY),
        markup.facts(title=NASTY, details=[NASTY], url=NASTY, filename=NASTY),
        markup.session_row([Thumbnail(NASTY, NASTY, NASTY)], 0),
        markup.checkpoint_about(asking=NASTY, presets=[NASTY]),
        markup.system_note(NASTY),
        markup.system([(NASTY, NASTY)], {NASTY: [(NASTY, NASTY, NASTY)]}),
        markup.easel(Easel(), [NASTY]),
        markup.easel(
            Easel(state="done", prints=(Print(NASTY, NASTY, 1), Print(NASTY, NASTY)), headline=NASTY, clock=NASTY)
        ),
        markup.easel(Easel(state="done", prints=(Print(NASTY, NASTY),), link=NASTY)),
    ],
)
def test_outside_text_never_becomes_markup(text):
    assert "onerror" not in Tags(text).attributes


def test_the_easel_keeps_its_form_in_every_state():
    def frame(view: Easel) -> list[tuple[str, str | None]]:
        inside = {
            "cs-sheet",
            "cs-print-frame",
            "cs-empty",
            "cs-drawing",
            "cs-ink",
            "cs-light",
            "cs-chips",
            "cs-chip",
            None,
        }
        return [(tag, name) for tag, name in Tags(markup.easel(view)).seen if name not in inside]

    empty = frame(Easel())
    marks = (StageMark("done", 20, 20), StageMark("active", 3, 10), StageMark())
    running = Easel(
        state="running", ratio=2.0, prints=(Print("a"),), marks=marks, headline="x", clock="y", fraction=0.5
    )
    assert frame(running) == empty
    assert frame(Easel(state="waiting", headline="x")) == empty


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
