"""The line under the prompt: the words as they will be sent, before the run, and as they were, at it."""

from __future__ import annotations

import pytest

from cascade_app.request import FIELD
from cascade_app.serving.visitors import visitor_of
from cascade_app.ui.form import ON_PAGE
from tests.ui.conftest import visitor
from tests.ui.test_callbacks import finish, shown
from tests.ui.test_form import sent


def line(page, **changes) -> str:
    return shown(page.words(*sent(**changes)))


def test_plain_words_need_no_line(page):
    assert page.words(*sent(prompt="a boat", negative_prompt="fog")) == ""
    assert page.words(*sent(prompt="  ")) == page.words(*sent(prompt="a boat", width=250)) == ""


def test_a_style_is_shown_as_the_words_it_adds(page):
    assert line(page, prompt="a boat", style="night") == "Sends a boat, at night, stars, a white moon"
    inked = line(page, prompt="a boat", style="ink", negative_prompt="fog")
    assert inked.startswith("Sends black ink drawing of a boat") and "Without fog, photograph, colour" in inked
    assert "no style" in line(page, style="none such") and "data-problem" in page.words(*sent(style=["ink"]))


def test_what_an_open_seed_draws_is_an_example_that_stays(page):
    open_seed = {"prompt": "a {red|blue} boat __time__", "randomise": True, "seed": 5}
    assert line(page, **open_seed) == line(page, **open_seed)
    assert line(page, **open_seed).startswith("For example a ")
    fixed = line(page, **(open_seed | {"randomise": False}))
    assert fixed == line(page, **open_seed).replace("For example", "Sends")


def test_what_is_shown_before_a_run_is_what_is_sent_and_recorded(page, gallery):
    form = {"prompt": "a {red|blue|green} [boat] __time__", "style": "snow", "images": 3, "seed": 21, "randomise": False}
    before = line(page, **form)
    updates = finish(page, **form)
    assert shown(updates[page.prompt.words]) == before.replace("Sends", "Sent")
    records = [item.request for item in gallery.of(visitor_of(visitor())).page().items]
    assert len(records) == 3 and all("{" not in one.prompt and "[boat]" in one.prompt for one in records)
    told = before.removeprefix("Sends ").replace("boat 0.91", "[boat]").split("; ")
    assert {" ".join(one.prompt.split()) for one in records} == {text.replace(" ]", "]") for text in told}


def test_weights_are_shown_as_figures(page):
    html = page.words(*sent(prompt="a (red:1.3) [boat] <b>"))
    assert "<b>red<sub>1.3</sub></b>" in html and "<b>boat<sub>0.91</sub></b>" in html and "&lt;b&gt;" in html


def test_words_that_cannot_be_read_are_said_while_they_are_typed(page):
    problem = page.words(*sent(prompt="a (red boat"))
    assert "data-problem" in problem and "is never closed" in shown(problem)
    assert "did you mean colour" in line(page, prompt="a __color__ boat")
    assert "never closed" in shown(finish(page, prompt="a (red boat")[page.prompt.message])


def test_where_the_prompt_is_cut_is_said_before_the_run(page):
    assert line(page, prompt="a boat " * 10) == (
        "The encoder reads the first 17 words of the prompt; left out: boat a boat."
    )


@pytest.mark.parametrize("value", [None, 3, ["night"], "x" * 10_000, {"a": 1}])
def test_a_style_that_no_chooser_sends_is_refused_or_none(page, value):
    updates = finish(page, style=value)
    if value is not None:
        assert "There is no style" in shown(updates[page.prompt.message])
        assert len(shown(updates[page.prompt.message])) < 300


def test_settings_reused_bring_the_words_and_no_style(page):
    request = page.form.request(sent(prompt="a boat", style="dusk"))
    filled = page.form.fill(request, page.form.spec)
    assert filled[page.form.style] == "" and "at dusk" in filled[page.form.controls["prompt"]]
    assert "style" not in FIELD and len(page.form.inputs) == len(ON_PAGE) + 2
