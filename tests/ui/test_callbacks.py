"""The page's handlers, called as Gradio would call them, with the stand-in engine."""

from __future__ import annotations

import re
from types import SimpleNamespace

import gradio as gr
import pytest

from cascade_app import published
from cascade_app.errors import CascadeError, CheckpointDamaged, RenderFailed
from cascade_app.gallery.limits import Limits
from cascade_app.serving.backend import BackendStatus
from cascade_app.ui.blocks import build_ui
from cascade_app.ui.callbacks import Page
from cascade_app.ui.checkpoint_panel import choices
from cascade_app.ui.elements import UNEXPECTED, Turn
from cascade_app.ui.gallery_panel import Browse
from cascade_app.ui.grid_panel import NONE
from cascade_app.ui.session import Table
from cascade_app.ui.variations_panel import MANNERS, RESULTS
from tests.fakes import FakeBackend
from tests.ui.conftest import visitor
from tests.ui.test_form import sent

ME = visitor()


def press(page: Page, act: str, ids=(), table=None, turn=None, **changes):
    """The updates of a run, as a press of its button starts it."""
    turn = turn or Turn()
    table = table or Table()
    if act == "generate":
        page.begin_generate(turn)
    elif act in ("sketch", "grid"):
        {"sketch": page.begin_sketch, "grid": page.begin_grid}[act](turn)
    else:
        page.begin_make(turn, told(act=act, ids=list(ids)))
    variation = {"amount": 0.3, "count": 2, "manner": MANNERS[0], "result": RESULTS[0], "new_words": False}
    grid = {"across": "decoder_steps", "across_values": "2, 3", "down": NONE, "down_values": ""}
    extra = {"sketches": 4, **variation, **grid}
    extra |= {name: changes.pop(name) for name in list(changes) if name in extra}
    return page.run(ME, *sent(**changes), *extra.values(), table, turn)


def unchanged() -> list:
    """All of the page's controls, as they start."""
    return [*sent(), 4, 0.3, 2, MANNERS[0], RESULTS[0], False, "decoder_steps", "2, 3", NONE, ""]


def finish(page: Page, act: str = "generate", ids=(), table=None, **changes) -> dict:
    """All the updates of a run, the later ones over the earlier."""
    merged: dict = {}
    for update in press(page, act, ids, table, **changes):
        merged |= update
    return merged


def told(**data) -> gr.EventData:
    return gr.EventData(None, data)


def shown(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def kept(page: Page) -> list:
    """Everything in the visitor's gallery, newest first."""
    return list(page.album(ME).page().items)


def test_one_picture_is_on_the_easel_when_it_is_done(page):
    last = finish(page, seed=7, randomise=False)
    assert last[page.table].ids == (kept(page)[0].id,)
    assert "seed 7" in shown(last[page.stage.facts]) and "Download PNG" in shown(last[page.stage.facts])
    assert last[page.prompt.generate]["interactive"] and not last[page.prompt.cancel]["interactive"]
    assert last[page.form.controls["seed"]] == 7


def test_several_pictures_wait_to_be_picked(page):
    last = finish(page, images=3, seed=7, randomise=False)
    table = last[page.table]
    assert table.look == "sheet" and len(table.ids) == 3
    assert all(f'data-pick="{id}"' in last[page.stage.easel] for id in table.ids)
    picked = page.picks(ME, table, Turn(), told(ids=[table.ids[2]]))
    assert "seed 9" in shown(picked[page.stage.facts])
    whole = page.show(ME, table, Turn(), told(id=table.ids[1]))
    assert "seed 8" in shown(whole[page.stage.facts]) and whole[page.table].sheet == table.ids
    back = page.act(ME, whole[page.table], Browse(), told(act="contact"))
    assert back[page.table].ids == table.ids


def test_an_answer_that_was_overtaken_changes_nothing(page):
    one, two = finish(page, images=2)[page.table].ids
    turn = Turn()
    assert "cs-facts" in str(page.picks(ME, Table(), turn, told(ids=[one, two], number=3))[page.stage.facts])
    assert page.picks(ME, Table(), turn, told(ids=[one], number=2)) == {page.stage.facts: gr.skip()}
    assert page.show(ME, Table(), turn, told(id=one, number=5))[page.table].ids == (one,)
    assert page.show(ME, Table(), turn, told(id=two, number=4)) == {page.table: gr.skip()}


def test_a_sketch_is_a_sheet_of_records_that_are_developed_without_the_prior(page):
    sheet = finish(page, "sketch", seed=7, randomise=False)[page.table].ids
    assert [item.kind for item in kept(page)] == ["sketch"] * 4 and len(sheet) == 4
    priors = page.backend.prior_steps_done
    developed = finish(page, "develop", sheet[1:3], decoder_steps=3)
    assert page.backend.prior_steps_done == priors
    newest = kept(page)[:2]
    assert {item.parents for item in newest} == {(sheet[1],), (sheet[2],)}
    assert {(item.kind, item.action, item.request.decoder_steps) for item in newest} == {("picture", "develop", 3)}
    assert set(developed[page.table].ids) == {item.id for item in newest}


def test_a_mixed_lot_is_developed_on_one_sheet_in_its_order(page):
    sheets = [finish(page, "sketch", prompt=prompt)[page.table].ids for prompt in ("hills", "sea")]
    lot = (sheets[0][0], sheets[1][0], sheets[0][1])
    last = finish(page, "develop", lot)
    album = page.album(ME)
    assert [album.get(id).parents[0] for id in last[page.table].ids] == list(lot)


def test_the_tree_can_be_walked(page):
    parent = finish(page)[page.table].ids[0]
    varied = finish(page, "vary", [parent], count=3, amount=0.8)[page.table].ids
    assert len(varied) == 3 and all(item.kind == "sketch" for item in kept(page)[:3])
    child = page.show(ME, Table(), Turn(), told(id=varied[0]))
    assert "Varied from" in child[page.stage.facts] and f'data-show="{parent}"' in child[page.stage.facts]
    above = page.show(ME, Table(), Turn(), told(id=parent))
    assert "Became" in above[page.stage.facts] and all(f'data-show="{id}"' in above[page.stage.facts] for id in varied)


def test_blend_and_new_words(page):
    first, second = (finish(page, seed=seed, randomise=False)[page.table].ids[0] for seed in (1, 2))
    blended = finish(page, "blend", [first, second], count=3)[page.table].ids
    assert [page.album(ME).get(id).parents for id in blended] == [(first, second)] * 3
    finish(page, "blend", [first], count=2, prompt="a harbour")
    finish(page, "words", [first], prompt="a harbour", result="pictures")
    newest = kept(page)[0]
    assert (newest.action, newest.request.prompt, newest.request.seed) == ("words", "a harbour", 1)
    assert newest.kind == "picture" and newest.parents == (first,)


@pytest.mark.parametrize(("act", "count"), [("vary", 0), ("vary", 2), ("blend", 3), ("develop", 0), ("words", 2), ("paint", 1)])
def test_an_action_says_how_many_it_takes(page, act, count):
    sheet = finish(page, "sketch")[page.table].ids
    sentence = shown(finish(page, act, sheet[:count])[page.prompt.message])
    assert ("Pick others" in sentence or "Reload" in sentence) and len(kept(page)) == 4


def test_anothers_picture_cannot_be_used_or_seen(page):
    id = finish(page)[page.table].ids[0]
    other = visitor("b")
    assert page.stage.easel not in page.show(other, Table(), Turn(), told(id=id))
    assert id not in str(page.open(other)) and id not in str(page.picks(other, Table((id,)), Turn(), told(ids=[id])))
    for act in ("delete", "favourite", "reuse_settings", "undo"):
        page.act(other, Table(ids=(id,), trashed=(id,)), Browse(), told(act=act, ids=[id]))
    assert [(item.id, item.favourite) for item in kept(page)] == [(id, False)]
    turn = Turn()
    page.begin_make(turn, told(act="develop", ids=[id]))
    (refused,) = page.run(other, *unchanged(), Table(), turn)
    assert "not in your gallery" in shown(refused[page.prompt.message])


def test_opening_the_page_again_brings_everything_back(page):
    sheet = finish(page, "sketch")[page.table].ids
    opened = page.open(ME)
    assert opened[page.table].ids == sheet and all(id in opened[page.stage.row] for id in sheet)
    (picture,) = finish(page, "develop", sheet[:1])[page.table].ids
    assert page.open(ME)[page.table].ids == (picture,)
    assert page.stage.easel not in page.open(visitor("b"))


def test_a_browser_without_cookies_is_told(page):
    nobody = SimpleNamespace(headers={}, username=None)
    assert "cookie" in shown(page.open(nobody)[page.prompt.message])
    turn = Turn()
    page.begin_generate(turn)
    (refused,) = page.run(nobody, *unchanged(), Table(), turn)
    assert "cookie" in shown(refused[page.prompt.message]) and refused[page.prompt.generate]["interactive"]


def test_bad_input_becomes_its_sentence_and_touches_no_field(page):
    updates = finish(page, prompt="")
    assert "Prompt is empty" in shown(updates[page.prompt.message])
    assert not set(updates) & set(page.form.controls.values())
    assert updates[page.prompt.generate]["interactive"]
    for wrong in ({"sketches": 3}, {"sketches": float("nan")}):
        assert "4 to 16" in shown(finish(page, "sketch", **wrong)[page.prompt.message])


def test_a_failed_run_keeps_the_session(page):
    table = finish(page)[page.table]
    page.backend.failure = RenderFailed("The device ran out of memory; choose a smaller size.")
    updates = finish(page, table=table)
    assert shown(updates[page.prompt.message]).startswith("The device ran out of memory; choose a smaller size (reference ")
    assert updates[page.table] == table and table.ids[0] in updates[page.stage.row]


def test_a_bug_is_not_shown_but_logged(page, caplog):
    page.backend.failure = ZeroDivisionError("secret detail")
    updates = finish(page)
    (record,) = (record for record in caplog.records if record.message == "fault")
    assert shown(updates[page.prompt.message]) == f"{UNEXPECTED[:-1]} (reference {record.fields['reference']})."
    assert record.exc_info[1] is page.backend.failure


def test_closing_the_run_frees_the_engine(page):
    run = press(page, "generate")
    for _ in range(4):
        next(run)
    assert page.backend.lock.locked()
    run.close()
    assert not page.backend.lock.locked() and page.backend.closed_early == 1


def cancel_after(page: Page, updates: int, table: Table | None = None) -> dict:
    """The last update of a run that is cancelled after some."""
    turn = Turn()
    run = press(page, "generate", table=table, turn=turn)
    for _ in range(updates):
        next(run)
    page.cancel(turn)
    (last,) = run
    return last


def test_cancel_puts_the_last_picture_back(page):
    assert "Nothing on the easel" in shown(cancel_after(page, 4)[page.stage.easel])
    assert not page.backend.lock.locked() and page.backend.closed_early == 1
    table = finish(page)[page.table]
    last = cancel_after(page, 4, table)
    assert last[page.table] == table and "Cancelled" in shown(last[page.prompt.message])
    assert last[page.prompt.generate]["interactive"] and not last[page.prompt.cancel]["interactive"]


def test_cancel_before_the_run_has_its_turn(page):
    cancel_after(page, 0)
    assert page.backend.steps_done == 0


def test_a_cancelled_run_does_not_cancel_the_next(page):
    *_others, last = press(page, "generate", turn=Turn(started=1, cancelled=1))
    assert len(last[page.table].ids) == 1


def test_a_run_cancelled_late_keeps_the_pictures_it_saved(page):
    turn = Turn()
    run = press(page, "generate", turn=turn, images=2)
    while page.stage.row not in next(run):
        pass
    page.cancel(turn)
    (last,) = run
    assert len(kept(page)) == 2  # the second was saved before the run looked again
    assert all(item.id in last[page.stage.row] for item in kept(page))


@pytest.mark.parametrize("id", [None, -1, "0", 1.0, ["a"], "0" * 32, {}])
def test_what_is_no_picture_changes_nothing(page, id):
    finish(page)
    assert list(page.show(ME, Table(), Turn(), told(id=id))) == [page.table]
    assert "Pick one" in shown(page.picks(ME, Table(look="sheet"), Turn(), told(ids=[id]))[page.stage.facts])
    assert list(page.act(ME, Table(), Browse(), told(act="compare", ids=[id]))) == [page.table]
    assert list(page.act(ME, Table(), Browse(), told(act=id, ids=[id]))) == [page.table]
    page.act(ME, Table(), Browse(), gr.EventData(None, id))
    assert len(kept(page)) == 1


def test_reuse(page):
    made = finish(page, seed=11, randomise=False, width=352, height=192, prior_steps=9)[page.table]
    act = lambda name: page.act(ME, made, Browse(), told(act=name, ids=list(made.ids)))  # noqa: E731
    seed = {page.form.controls["seed"]: 11, page.form.randomise: False}
    assert act("reuse_seed") == seed and page.reuse_last(ME) == seed
    settings = act("reuse_settings")
    assert settings[page.form.controls["prior_steps"]] == 9 and settings[page.settings.aspect]["value"] == "16:9"


def test_compare_favourite_delete_and_undo(page):
    table = finish(page, images=3)[page.table]
    first, second, third = table.ids

    def act(name, *ids, at=table):
        return page.act(ME, at, Browse(), told(act=name, ids=list(ids)))

    compared = act("compare", first, third)
    assert "cs-divider" in compared[page.stage.easel] and compared[page.table].look == "compare"
    assert all(f">seed {one.request.seed}</span>" in compared[page.stage.easel] for one in kept(page)[::2])
    starred = act("favourite", first)[page.stage.facts]
    assert 'id="favourite" data-act="favourite" data-key="f" data-takes="1 100" aria-pressed="true"' in starred
    act("favourite", first, second)
    assert [item.favourite for item in kept(page)] == [False, True, True]
    act("favourite", first, second)
    gone = act("delete", first, second)
    assert "Bring back" in shown(gone[page.prompt.message]) and [item.id for item in kept(page)] == [third]
    assert gone[page.table].trashed == (first, second) and first not in gone[page.shelf.shelf]
    back = act("undo", at=gone[page.table])
    assert len(kept(page)) == 3 and "2 back" in shown(back[page.prompt.message])
    assert "nothing to bring back" in shown(act("undo", at=back[page.table])[page.prompt.message])


def test_the_gallery_searches_filters_and_turns_its_pages(page, monkeypatch):
    finish(page, prompt="a red boat")
    finish(page, "sketch", prompt="a blue hill")
    seek = lambda search="", filter="All", checkpoint="": page.seek(ME, search, filter, checkpoint)  # noqa: E731
    count = lambda updates: updates[page.shelf.shelf].count("cs-card")  # noqa: E731
    assert [count(seek()), count(seek("boat")), count(seek(filter="Sketches")), count(seek(filter="Favourites"))] == [5, 1, 4, 0]
    assert count(seek(checkpoint="pocket")) == 5 and count(seek("x" * 10**6)) == 0 and count(seek(["a"], {}, 3)) == 5
    monkeypatch.setattr("cascade_app.ui.browsing.PAGE", 2)
    at, seen = seek()[page.shelf.at], []
    for way in ("older", "older", "newer", "newer", "newer"):
        at = page.act(ME, Table(), at, told(act=way))[page.shelf.at]
        seen.append(count(page.refilled(page.album(ME), at)))
    assert seen == [2, 1, 2, 2, 2] and at == Browse()
    assert page.look(ME, "", "All", "", told(view="easel")) == {page.shelf.at: gr.skip()}
    rebuilt = page.act(ME, Table(), Browse(), told(act="rebuild"))
    assert "5 pictures and sketches" in shown(rebuilt[page.prompt.message]) and len(kept(page)) == 5
    assert "5 kept" in shown(page.look(ME, "", "All", "", told(view="gallery"))[page.shelf.shelf])


def test_the_plan_line_states_the_size_or_what_is_wrong_with_it(page):
    assert "256 x 256" in shown(page.plan(ME, *sent(prompt="")))
    problem = page.plan(ME, *sent(width=250))
    assert "data-problem" in problem and "Choose 224 or 256" in shown(problem)


def test_what_has_to_go_is_said_before_it_happens(page, monkeypatch):
    finish(page, images=3)
    assert "removed" not in shown(page.plan(ME, *sent()))
    monkeypatch.setattr(page.gallery, "limits", Limits(visitor_pictures=18))
    assert "the oldest one without a star" in shown(page.plan(ME, *sent()))
    assert "the oldest one without a star" in shown(page.seek(ME, "", "All", "")[page.shelf.shelf])
    assert "removed" not in shown(page.plan(visitor("b"), *sent()))


def test_presets_and_swap(page):
    width, height = page.form.controls["width"], page.form.controls["height"]
    assert page.take_aspect("16:9", 256, 256, "pocket") == {width: 352, height: 192}
    assert page.take_aspect("16:9", 192, 256, "pocket") == {width: 192, height: 352}
    assert page.swap(352, 192) == {width: 192, height: 352}
    assert page.follow_size(192, 352, "pocket") == "16:9" and page.follow_size(128, 512, "pocket") is None
    for unknown in ("7:3", ["1:1"]):
        (skipped,) = page.take_aspect(unknown, 256, 256, "pocket").values()
        assert skipped == gr.skip()


def test_the_lamp_polls_until_ready_or_failed(page):
    page.backend.state = BackendStatus("loading", "Loading Pocket.")
    updates = page.poll()
    assert updates[page.timer].active and "Loading Pocket." in shown(updates[page.lamp])
    page.backend.state = BackendStatus("failed", "prior/config.json is missing. Restore it.")
    updates = page.poll()
    assert not updates[page.timer].active
    assert shown(updates[page.prompt.message]) == "prior/config.json is missing. Restore it."


def test_a_damaged_checkpoint_still_opens_a_page(gallery):
    backend = FakeBackend(failure=CheckpointDamaged("model_index.json is missing. Restore it."))
    assert build_ui(backend, gallery, checkpoint="pocket")


def test_a_notice_stays_beside_the_finished_picture(page):
    page.backend.notice = "Memory ran short; the weights are streamed."
    last = finish(page)
    assert shown(last[page.prompt.message]) == "Memory ran short; the weights are streamed."
    assert 'data-kind="note"' in last[page.prompt.message] and len(last[page.table].ids) == 1


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
    assert shown(updates.pop(page.prompt.message)).startswith("prior/config.json is missing. Restore it (reference ")
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
    authors = page.apply_preset("stable-cascade", told(preset="authors"))
    assert (authors[controls["prior_shift"]], authors[controls["guidance_rescale"]]) == (2.0, 0.7)
    card = page.apply_preset("stable-cascade", told(preset="model card"))
    assert (card[controls["prior_shift"]], card[controls["decoder_guidance"]]) == (1.0, 0.0)
    for nothing in ("unheard of", None):
        assert list(page.apply_preset("pocket", told(preset=nothing))) == [page.prompt.message]


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
    made = finish(page, checkpoint="stable-cascade", width=1536, height=1024, prior_steps=2, decoder_steps=1)[page.table]
    settings = page.act(ME, made, Browse(), told(act="reuse_settings", ids=list(made.ids)))
    controls = page.form.controls
    assert settings[controls["checkpoint"]] == settings[page.settings.checkpoint.in_use] == "stable-cascade"
    assert (settings[controls["width"]]["value"], settings[controls["width"]]["maximum"]) == (1536, 2048)
    assert "3.6B" in shown(settings[page.header])
    page.backend.failure = CheckpointDamaged("prior/config.json is missing. Restore it.")
    assert list(page.act(ME, made, Browse(), told(act="reuse_settings", ids=list(made.ids)))) == [page.prompt.message]


def test_the_system_panel(page):
    text = shown(page.read_system())
    assert "Drawing Board 3000, bfloat16" in text and "Resident. All of it fits" in text
    assert "text encoder 5.3 MB on the device" in text and "vqgan 0.9 MB in host memory" in text
    assert page.look_again("pocket")[page.system.report] == page.read_system()
    page.backend.state = BackendStatus("loading", "Loading Pocket.")
    assert shown(page.read_system()) == "The engine is still loading."


def test_only_the_api_is_public(gallery):
    blocks = build_ui(FakeBackend(), gallery, checkpoint="pocket")
    public = [fn.api_name for fn in blocks.fns.values() if fn.api_visibility != "private"]
    assert public == ["generate", "sketch", "develop", "vary", "checkpoints", "plan"]


def test_nothing_to_go_by_changes_only_what_the_event_may_change(page):
    """Gradio refuses an update of an element that is no output of the event, with an exception."""
    width, height = (page.form.controls[name] for name in ("width", "height"))
    assert set(page.reuse_last(ME)) <= {page.form.controls["seed"], page.form.randomise, page.prompt.message}
    for label in ("no such shape", None, []):
        assert set(page.take_aspect(label, 64, 64, "pocket")) <= {width, height}
    assert set(page.apply_preset("pocket", gr.EventData(None, "no object"))) <= {page.prompt.message}
