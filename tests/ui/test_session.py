"""What the page says of records: how two differ, and what several went through."""

from __future__ import annotations

from cascade_app.ui.actions import ACTION, buttons
from cascade_app.ui.easel import StageMark
from cascade_app.ui.session import EXCERPT, sheet_on_easel, told_apart
from tests.ui.test_callbacks import finish, kept


def made(page, act: str = "generate", ids=(), **changes):
    """The record that a press makes."""
    (id,) = finish(page, act, ids, **changes)[page.table].ids
    return next(item for item in kept(page) if item.id == id)


def test_what_is_compared_says_how_it_differs(page):
    first = made(page, seed=7, randomise=False)
    developed = made(page, "develop", [first.id], decoder_steps=3)
    again = made(page, "again", [first.id])
    other = made(page, prompt="a windmill on a hill " * 4, width=192, seed=7, randomise=False)
    assert told_apart(first, developed) == (f"20 + {first.request.decoder_steps} steps", "20 + 3 steps")
    assert told_apart(first, again) == ("the earlier", "the later")
    assert told_apart(again, first) == ("the later", "the earlier")
    words, size = told_apart(other, first)[0].split(", ")
    assert words.startswith("a windmill on a hill") and len(words) == EXCERPT and size == f"192 x {other.request.height} px"


def test_several_that_differ_do_not_tell_the_first_ones_steps(page):
    first = made(page, seed=7, randomise=False)
    developed = made(page, "develop", [first.id], decoder_steps=3)
    steps = first.request.prior_steps
    assert sheet_on_easel([first, first]).marks[0] == StageMark("done", steps, steps)
    assert sheet_on_easel([first, developed]).marks == (StageMark("done", 1, 1),) * 3


def test_every_button_says_how_many_it_takes():
    html = buttons(17)
    for action in ACTION.values():
        assert f'data-act="{action.name}"' in html and f'data-takes="{action.fewest} {action.most}"' in html
    assert "Pick 1 to 16 pictures to develop." in html
