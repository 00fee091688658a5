"""What the page does with the answer to a dropped file; the browser passes it on, so it is checked again."""

from __future__ import annotations

import io
from dataclasses import replace

import gradio as gr
import pytest
from PIL import Image

from cascade_app.gallery.intake import take_in
from cascade_app.record import new_id
from cascade_app.ui.gallery_panel import Browse
from cascade_app.ui.session import Table
from tests.ui.conftest import visitor
from tests.ui.test_callbacks import ME, finish, kept, press, shown
from tests.ui.test_form import sent

OTHER = visitor("b")


def opened(page, answer: dict, http=ME) -> dict:
    return page.opened(http, Table(), "pocket", gr.EventData(None, answer))


def dropped(page, path, http) -> dict:
    """What the gallery's address answers to that file."""
    taken = take_in(page.album(http), path.read_bytes())
    return {"id": taken.item.id, "source": taken.restored.source, "values": taken.restored.values, "notes": []}


def test_a_picture_comes_to_another_visitor_with_its_settings_and_its_negative(page):
    made = finish(page, seed=7, randomise=False, prior_steps=9, width=352, height=192)[page.table]
    updates = opened(page, dropped(page, page.album(ME).path(made.ids[0]), OTHER), OTHER)
    controls = page.form.controls
    assert (updates[controls["seed"]], updates[controls["prior_steps"]]) == (7, 9) and updates[page.form.randomise] is False
    assert updates[controls["width"]]["value"] == 352 and updates[page.settings.aspect]["value"] == "16:9"
    assert updates[page.table].ids == made.ids and "develop it" in shown(updates[page.prompt.message])
    (item,) = page.album(OTHER).page().items
    assert item.has_negative


def test_what_began_from_another_is_made_again_from_its_own_settings(page):
    parent = finish(page)[page.table].ids
    (child,) = finish(page, "vary", parent, count=1, result="pictures")[page.table].ids
    updates = opened(page, dropped(page, page.album(ME).path(child), OTHER), OTHER)
    assert "Make again" in shown(updates[page.prompt.message])
    *_others, last = press(page, "again", [child])
    again = last[page.table].ids[0]
    first, second = (page.album(ME).path(id).read_bytes() for id in (child, again))
    assert Image.open(io.BytesIO(first)).tobytes() == Image.open(io.BytesIO(second)).tobytes()


def test_foreign_settings_are_taken_as_far_as_they_fit(page):
    values = {"prompt": "a castle", "prior_steps": 30, "width": 1024, "height": 1536, "seed": 12, "prior_guidance": 7}
    updates = opened(page, {"id": None, "source": "parameters", "values": values, "notes": ["No sampler of that name here."]})
    said = shown(updates[page.prompt.message])
    assert updates[page.form.controls["prompt"]] == "a castle" and updates[page.form.controls["seed"]] == 12
    assert "No sampler of that name" in said and "Pocket does not make 1024 x 1536 px" in said
    width, height = (updates[page.form.controls[side]]["value"] for side in ("width", "height"))
    assert width < height and page.stage.easel not in updates


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"error": "The file is larger than 32 MB, the limit."}, {"values": {"prior_steps": 10**9, "seed": "x"}},
        {"values": {"width": float("nan"), "height": [1]}}, {"values": {"checkpoint": "/etc"}}, {"values": "no", "notes": 3},
        {"id": "../../etc", "values": {"unheard": 1, "images": 5}}, {"values": {"prompt": "x" * 10_000}},
    ],
)  # fmt: skip
def test_whatever_is_claimed_becomes_sentences_at_most(page, answer):
    updates = opened(page, answer)
    said = shown(updates.pop(page.prompt.message))
    assert said.endswith(".") and "Traceback" not in said and len(said) < 700
    assert not set(updates) - {page.form.randomise} and kept(page) == []


def test_the_form_is_as_this_browser_left_it(page):
    controls = page.form.controls
    left = sent(prompt="a boat", prior_steps=7, images=3, seed=5, randomise=False, width=192, height=256)
    updates = page.remember(left, "pocket")
    assert (updates[controls["prompt"]], updates[controls["prior_steps"]], updates[controls["images"]]) == ("a boat", 7, 3)
    assert updates[page.form.randomise] is False and updates[controls["height"]]["value"] == 256
    assert page.remember(sent(prompt=""), "pocket")[page.form.randomise] is True
    for broken in (None, "x", [], [1, 2], {}, [None] * 18, [float("nan")] * 18, [["x"]] * 18):
        assert not set(page.remember(broken, "pocket")) & {controls["prior_steps"], controls["seed"], controls["width"]}


@pytest.mark.parametrize("act", ["develop", "vary", "again", "words", "blend"])
def test_a_file_cannot_name_a_checkpoint_that_is_not_served_here(page, act):
    (id,) = finish(page)[page.table].ids
    album = page.album(ME)
    record = album.record(id)
    forged = replace(record, id=new_id(), request=replace(record.request, checkpoint="/somewhere/else"))
    album.add(Image.new("RGB", (256, 256)), forged)
    finish(page, act, [forged.id])
    newest = kept(page)[0]
    assert newest.parents == (forged.id,) and newest.request.checkpoint == "pocket"
    refused = page.act(ME, Table(), Browse(), gr.EventData(None, {"act": "reuse_settings", "ids": [forged.id]}))
    assert "is not served here" in shown(refused[page.prompt.message]) and len(refused) == 1


def test_anothers_picture_is_not_opened_by_its_id(page):
    made = finish(page)[page.table].ids
    updates = opened(page, {"id": made[0], "values": {}, "notes": []}, OTHER)
    assert page.table not in updates and made[0] not in str(updates)


def test_a_grid_runs_the_prior_once_for_each_seed(page):
    grid = {"across": "decoder_steps", "across_values": "2, 3, 4, 5", "down": "seed", "down_values": "1, 2, 3"}
    assert "4 x 3 pictures from 3 negatives" in shown(page.plan_grid(*sent(), *grid.values()))
    updates = list(press(page, "grid", prior_steps=2, **grid))
    assert page.backend.prior_steps_done == 3 * 2
    last = updates[-1]
    album = page.album(ME)
    made = [album.get(id).request for id in last[page.table].ids]
    assert [(one.decoder_steps, one.seed) for one in made] == [(steps, seed) for seed in (1, 2, 3) for steps in (2, 3, 4, 5)]
    assert last[page.stage.easel].count('class="cs-across"') == 4 and last[page.stage.easel].count('class="cs-down"') == 3
    wrong = finish(page, "grid", **{**grid, "down": "decoder_steps"})
    assert "Both axes are Decoder steps" in shown(wrong[page.prompt.message])
