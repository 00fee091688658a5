"""The page's handlers, called as Gradio would call them, with the stand-in engine."""

from __future__ import annotations

import re
from types import SimpleNamespace

import gradio as gr
import pytest

from cascade_app import published
from cascade_app.errors import CascadeError, CheckpointDamaged, RenderFailed
from cascade_app.gallery.store import PictureStore
from cascade_app.serving.backend import BackendStatus
from cascade_app.ui.blocks import build_ui, lay_out
from cascade_app.ui.callbacks import UNEXPECTED, Page, Turn
from cascade_app.ui.checkpoint_panel import choices
from tests.fakes import FakeBackend
from tests.ui.test_form import sent


@pytest.fixture
def page(tmp_path) -> Page:
    with gr.Blocks():
        return lay_out(FakeBackend(), PictureStore(tmp_path), checkpoint="pocket")


def finish(page: Page, pictures=(), **changes) -> dict:
    """All the updates of a run, the later ones over the earlier."""
    merged: dict = {}
    for update in page.run(*sent(**changes), list(pictures), None, Turn(started=1)):
        merged |= update
    return merged


def shown(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_one_picture_is_chosen_when_it_is_done(page):
    last = finish(page, seed=7, randomise=False)
    assert last[page.chosen] == 0 and len(last[page.pictures]) == 1
    assert "seed 7" in shown(last[page.stage.facts]) and "Download PNG" in shown(last[page.stage.facts])
    assert last[page.prompt.generate]["interactive"] and not last[page.prompt.cancel]["interactive"]
    assert last[page.form.controls["seed"]] == 7


def test_several_pictures_wait_to_be_chosen(page):
    last = finish(page, images=3, seed=7, randomise=False)
    assert last[page.chosen] is None and len(last[page.pictures]) == 3
    assert len(re.findall('data-pick="[012]"', last[page.stage.easel])) == 3
    chosen = page.select(last[page.pictures], SimpleNamespace(index=2))
    assert chosen[page.chosen] == 2 and "seed 9" in shown(chosen[page.stage.facts])


def test_a_later_run_adds_to_the_session(page):
    pictures = finish(page)[page.pictures]
    assert len(finish(page, pictures)[page.pictures]) == 2


def test_bad_input_becomes_its_sentence_and_touches_no_field(page):
    updates = finish(page, prompt="")
    assert "Prompt is empty" in shown(updates[page.prompt.message])
    assert not set(updates) & set(page.form.controls.values())
    assert updates[page.prompt.generate]["interactive"]


def test_a_failed_run_keeps_the_session(page):
    pictures = finish(page)[page.pictures]
    page.backend.failure = RenderFailed("The device ran out of memory; choose a smaller size.")
    updates = finish(page, pictures)
    assert shown(updates[page.prompt.message]) == "The device ran out of memory; choose a smaller size."
    assert updates[page.pictures] == pictures


def test_a_bug_is_not_shown_but_logged(page, caplog):
    page.backend.failure = ZeroDivisionError("secret detail")
    updates = finish(page)
    assert shown(updates[page.prompt.message]) == UNEXPECTED
    assert "secret detail" in caplog.text


def test_closing_the_run_frees_the_engine(page):
    run = page.run(*sent(), [], None, Turn(started=1))
    for _ in range(4):
        next(run)
    assert page.backend.lock.locked()
    run.close()
    assert not page.backend.lock.locked() and page.backend.closed_early == 1


def cancel_after(page: Page, updates: int, pictures: list) -> dict:
    """The last update of a run that is cancelled after some."""
    turn = Turn()
    page.begin(turn)
    run = page.run(*sent(), pictures, None, turn)
    for _ in range(updates):
        next(run)
    page.cancel(turn)
    (last,) = run
    return last


def test_cancel_puts_the_last_picture_back(page):
    assert "Nothing on the easel" in shown(cancel_after(page, 4, [])[page.stage.easel])
    assert not page.backend.lock.locked() and page.backend.closed_early == 1
    pictures = finish(page)[page.pictures]
    last = cancel_after(page, 4, pictures)
    assert last[page.chosen] == 0 and "Cancelled" in shown(last[page.prompt.message])
    assert last[page.prompt.generate]["interactive"] and not last[page.prompt.cancel]["interactive"]


def test_cancel_before_the_run_has_its_turn(page):
    cancel_after(page, 0, [])
    assert page.backend.steps_done == 0


def test_a_cancelled_run_does_not_cancel_the_next(page):
    turn = Turn(started=1, cancelled=1)
    page.begin(turn)
    *_others, last = page.run(*sent(), [], None, turn)
    assert len(last[page.pictures]) == 1


def test_a_run_cancelled_late_keeps_the_pictures_it_saved(page):
    turn = Turn(started=1)
    run = page.run(*sent(images=2), [], None, turn)
    while page.pictures not in next(run):
        pass
    page.cancel(turn)
    (last,) = run
    assert len(last[page.pictures]) == 2  # the second was saved before the run looked again


@pytest.mark.parametrize("index", [None, -1, 5, "0", 1.0])
def test_a_choice_that_is_none_changes_nothing(page, index):
    pictures = finish(page)[page.pictures]
    assert list(page.select(pictures, SimpleNamespace(index=index))) == [page.chosen]


def test_reuse(page):
    pictures = finish(page, seed=11, randomise=False, width=352, height=192, prior_steps=9)[page.pictures]
    seed = page.reuse_seed(pictures, 0)
    assert seed == {page.form.controls["seed"]: 11, page.form.randomise: False}
    assert page.reuse_last(pictures) == seed
    settings = page.reuse_settings(pictures, 0)
    assert settings[page.form.controls["prior_steps"]] == 9 and settings[page.settings.aspect]["value"] == "16:9"
    assert page.form.controls["seed"] not in page.reuse_seed([], None)


def test_the_plan_line_states_the_size_or_what_is_wrong_with_it(page):
    assert "256 x 256" in shown(page.plan(*sent(prompt="")))
    problem = page.plan(*sent(width=250))
    assert "data-problem" in problem and "Choose 224 or 256" in shown(problem)


def test_presets_and_swap(page):
    width, height = page.form.controls["width"], page.form.controls["height"]
    assert page.take_aspect("16:9", 256, 256, "pocket") == {width: 352, height: 192}
    assert page.take_aspect("16:9", 192, 256, "pocket") == {width: 192, height: 352}
    assert page.swap(352, 192) == {width: 192, height: 352}
    assert page.follow_size(192, 352, "pocket") == "16:9" and page.follow_size(128, 512, "pocket") is None
    assert list(page.take_aspect("7:3", 256, 256, "pocket")) == [page.settings.aspect]
    assert list(page.take_aspect(["1:1"], 256, 256, "pocket")) == [page.settings.aspect]


def test_the_lamp_polls_until_ready_or_failed(page):
    page.backend.state = BackendStatus("loading", "Loading Pocket.")
    updates = page.poll()
    assert updates[page.timer].active and "Loading Pocket." in shown(updates[page.lamp])
    page.backend.state = BackendStatus("failed", "prior/config.json is missing. Restore it.")
    updates = page.poll()
    assert not updates[page.timer].active
    assert shown(updates[page.prompt.message]) == "prior/config.json is missing. Restore it."


def test_a_damaged_checkpoint_still_opens_a_page(tmp_path):
    backend = FakeBackend(failure=CheckpointDamaged("model_index.json is missing. Restore it."))
    assert build_ui(backend, PictureStore(tmp_path), checkpoint="pocket")


def test_a_notice_stays_beside_the_finished_picture(page):
    page.backend.notice = "Memory ran short; the weights are streamed."
    last = finish(page)
    assert shown(last[page.prompt.message]) == "Memory ran short; the weights are streamed."
    assert 'data-kind="note"' in last[page.prompt.message] and len(last[page.pictures]) == 1


def test_choosing_a_checkpoint_sets_the_form_to_it(page):
    updates = page.choose("stable-cascade", "pocket")
    controls = page.form.controls
    width = updates[controls["width"]]
    assert (width["minimum"], width["maximum"], width["step"], width["value"]) == (256, 2048, 32, 1024)
    assert updates[controls["prior_steps"]] == 20 and updates[page.settings.checkpoint.in_use] == "stable-cascade"
    assert "Stable Cascade, 3.6B + 1.5B stable-cascade-nc-community" in shown(updates[page.header])
    assert updates[page.settings.aspect]["value"] == "1:1"
    assert not {controls["prompt"], controls["images"], controls["seed"]} & set(updates)
    assert page.take_aspect("16:9", 256, 256, "stable-cascade")[controls["width"]] > 1024
    back = page.choose("pocket", "stable-cascade")
    assert back[controls["width"]]["value"] == 256 and back[page.settings.checkpoint.about] == ""


@pytest.mark.parametrize("name", ["/etc", "../pictures", "", None, ["pocket"], "unheard of" * 1000])
def test_only_what_is_offered_can_be_chosen_or_used(page, name):
    updates = page.choose(name, "stable-cascade-lite")
    assert updates[page.form.controls["checkpoint"]] == "stable-cascade-lite" and len(updates) == 2
    sentence = shown(updates[page.prompt.message])
    assert "is not served here; choose one of pocket, stable-cascade" in sentence and len(sentence) < 300
    assert "is not served here" in shown(finish(page, checkpoint=name)[page.prompt.message])
    assert page.backend.steps_done == 0


def test_a_checkpoint_that_cannot_be_read_keeps_the_form(page):
    page.backend.failure = CheckpointDamaged("prior/config.json is missing. Restore it.")
    updates = page.choose("stable-cascade", "pocket")
    assert shown(updates.pop(page.prompt.message)) == "prior/config.json is missing. Restore it."
    assert updates == {page.form.controls["checkpoint"]: "pocket"}
    assert page.take_aspect("1:1", 256, 256, "stable-cascade")[page.form.controls["width"]] == 256


def test_what_is_offered_says_how_much_is_to_be_fetched(page):
    offer = dict(reversed(one) for one in choices(page.backend, "pocket"))
    assert list(offer) == ["pocket", *published.CHECKPOINTS] and offer["pocket"] == "Pocket"
    assert re.fullmatch(r"Stable Cascade, 3.6B \+ 1.5B \(1\d\.\d GB to fetch\)", offer["stable-cascade"])
    page.backend.failure = CheckpointDamaged("prior/config.json is missing. Restore it.")
    assert choices(page.backend, "models/mine") == [("mine (cannot be used)", "models/mine")]


def test_the_authors_settings_and_back(page):
    controls = page.form.controls
    authors = page.apply_preset("stable-cascade", SimpleNamespace(preset="authors"))
    assert (authors[controls["prior_shift"]], authors[controls["guidance_rescale"]]) == (2.0, 0.7)
    card = page.apply_preset("stable-cascade", SimpleNamespace(preset="model card"))
    assert (card[controls["prior_shift"]], card[controls["decoder_guidance"]]) == (1.0, 0.0)
    for nothing in ("unheard of", None):
        assert list(page.apply_preset("pocket", SimpleNamespace(preset=nothing))) == [page.prompt.message]


def test_a_licence_is_asked_for_until_it_is_accepted(page):
    about = page.choose("stable-cascade", "pocket")[page.settings.checkpoint.about]
    assert "no commercial use" in shown(about) and "Accept" in shown(about)
    page.backend.failure = CascadeError("Set CASCADE_ACCEPT_LICENSE.")
    refused = page.accept("stable-cascade")
    assert shown(refused[page.prompt.message]) == "Set CASCADE_ACCEPT_LICENSE."
    page.backend.failure = None
    accepted = page.accept("stable-cascade")
    assert "commercial" not in accepted[page.settings.checkpoint.about] and accepted[page.timer].active
    assert "Accept" not in page.choose("stable-cascade", "pocket")[page.settings.checkpoint.about]


def test_reusing_a_picture_of_another_checkpoint_brings_its_limits(page):
    made = finish(page, checkpoint="stable-cascade", width=1536, height=1024, prior_steps=2, decoder_steps=1)
    settings = page.reuse_settings(made[page.pictures], 0)
    controls = page.form.controls
    assert settings[controls["checkpoint"]] == settings[page.settings.checkpoint.in_use] == "stable-cascade"
    assert (settings[controls["width"]]["value"], settings[controls["width"]]["maximum"]) == (1536, 2048)
    assert "3.6B" in shown(settings[page.header])
    page.backend.failure = CheckpointDamaged("prior/config.json is missing. Restore it.")
    assert list(page.reuse_settings(made[page.pictures], 0)) == [page.prompt.message]


def test_the_system_panel(page):
    text = shown(page.read_system())
    assert "Drawing Board 3000, bfloat16" in text and "Resident. All of it fits" in text
    assert "text encoder 5.3 MB on the device" in text and "vqgan 0.9 MB in host memory" in text
    assert page.look_again("pocket")[page.system.report] == page.read_system()
    page.backend.state = BackendStatus("loading", "Loading Pocket.")
    assert shown(page.read_system()) == "The engine is still loading."


def test_only_generate_is_public(tmp_path):
    blocks = build_ui(FakeBackend(), PictureStore(tmp_path), checkpoint="pocket")
    public = [fn.api_name for fn in blocks.fns.values() if fn.api_visibility != "private"]
    assert public == ["generate"]
