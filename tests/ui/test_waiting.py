"""A run that waits: the page shows its place, and cancelling or leaving gives it up at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cascade_app.request import GenerationRequest
from cascade_app.serving.caller import Caller, asked_by
from cascade_app.serving.fair import Fair, Load
from cascade_app.serving.quotas import Allowance
from cascade_app.ui.elements import Turn
from tests.ui.test_callbacks import press, shown


@pytest.fixture
def held(page):
    """The page of somebody behind another one's run, the queue, and that run."""
    fair = Fair(page.backend, size=2, allowance=Allowance(waiting=1))
    first = asked_by(Caller("somebody else"), fair).generate(GenerationRequest(prompt="first", seed=1, width=256, height=256))
    next(first)
    return replace(page, backend=fair), fair, first


def test_the_place_is_on_the_easel_until_it_is_ones_turn(held):
    page, fair, first = held
    run = press(page, "generate")
    assert "1st of 1 in the queue" in shown(next(run)[page.stage.easel])
    first.close()
    assert "Reading the prompt" in shown(next(run)[page.stage.easel])
    assert fair.load() == Load(0, 1, 2)
    run.close()
    assert fair.load() == Load(0, 0, 2)


def test_cancelling_while_waiting_leaves_the_queue(held):
    page, fair, _ = held
    turn = Turn()
    run = press(page, "generate", turn=turn)
    next(run)
    assert fair.load().waiting == 1
    page.cancel(turn)
    (last,) = run
    assert "Cancelled" in shown(last[page.prompt.message]) and fair.load().waiting == 0


def test_leaving_while_waiting_does_too(held):
    page, fair, _ = held
    run = press(page, "generate")
    next(run)
    run.close()
    assert fair.load() == Load(0, 1, 2)


def test_a_refusal_is_its_sentence(held):
    page, _, _ = held
    next(press_kept := press(page, "generate"))
    (last,) = press(page, "generate")
    assert "1 of your requests is waiting; the limit is 1" in shown(last[page.prompt.message])
    press_kept.close()
