"""What a user would have seen, event by event, with the stand-in engine."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from cascade_app.events import RunStarted, StageStarted, StepDone, Waiting
from cascade_app.gallery.gallery import Album, Gallery
from cascade_app.gallery.png import read_record
from cascade_app.gallery.store import record
from cascade_app.request import GenerationRequest
from cascade_app.ui.easel import Easel, Print
from cascade_app.ui.render import View, advance, preview_uri, render
from cascade_app.work import WHOLE, Work
from tests.fakes import FakeBackend


def album(folder: Path) -> Album:
    gallery = Gallery(folder)
    gallery.open()
    return gallery.of("a" * 32)


def views_of(tmp_path: Path, work: Work = WHOLE, **values) -> list[View]:
    request = GenerationRequest.from_values({"prompt": "hills", "seed": 7, **values})
    return list(render([(record(FakeBackend().generate(request, work), album(tmp_path)), ())]))


def test_every_step_of_both_stages_is_seen(tmp_path):
    views = views_of(tmp_path, prior_steps=6, decoder_steps=4)
    seen = {
        (stage, mark.step)
        for view in views
        for stage, mark in zip("CBA", view.easel.marks, strict=True)
        if mark.progress == "active"
    }
    assert {("C", step) for step in range(1, 7)} <= seen
    assert {("B", step) for step in range(1, 5)} <= seen
    frames = {view.easel.prints[0].src for view in views if view.easel.prints and view.easel.prints[0].src}
    assert len(frames) >= 10


def test_the_pass_from_stage_to_stage(tmp_path):
    views = views_of(tmp_path, prior_steps=2, decoder_steps=2)
    order = [tuple(mark.progress for mark in view.easel.marks) for view in views]
    states = [state for n, state in enumerate(order) if n == 0 or order[n - 1] != state]
    assert states == [
        ("ahead", "ahead", "ahead"),
        ("active", "ahead", "ahead"),
        ("done", "active", "ahead"),
        ("done", "done", "active"),
        ("done", "done", "done"),
    ]


def test_the_end_tells_what_was_saved_and_the_time(tmp_path):
    views = views_of(tmp_path, images=3)
    saved = [view.saved for view in views if view.saved]
    assert [one.request.seed for one in saved] == [7, 8, 9]
    assert sorted(read_record(path).id for path in tmp_path.rglob("*.png")) == sorted(one.id for one in saved)
    last = views[-1]
    assert last.finished and last.easel.state == "done" and last.easel.clock.startswith("made in")
    assert [one.id for one in last.easel.prints] == [one.id for one in saved]


def test_a_sketch_leaves_the_later_stages_for_later(tmp_path):
    views = views_of(tmp_path, Work(sketch=True), images=8, prior_steps=3)
    forming = [view.easel for view in views if view.easel.marks[0].progress == "active" and view.easel.marks[0].step]
    assert all(len([one for one in easel.prints if one.src]) == 8 for easel in forming) and len(forming) >= 3
    assert forming[0].headline == "Stage C, making 8 negatives"
    last = views[-1].easel
    assert [mark.progress for mark in last.marks] == ["done", "kept", "kept"]
    assert all(one.sketch and one.id for one in last.prints)


def test_several_runs_fill_one_sheet_in_their_cells():
    backend, first, second = FakeBackend(), *(GenerationRequest.from_values({"prompt": p, "seed": 7}) for p in ("hills", "sea"))
    blank = Easel(prints=tuple(Print() for _ in range(3)))
    runs = [(backend.generate(replace(first, images=2)), (0, 2)), (backend.generate(second), (1,))]
    views = list(render(runs, blank))
    filled = [[bool(one.src) for one in view.easel.prints] for view in views]
    assert [True, False, True] in filled and filled[-1] == [True] * 3
    assert [view.finished for view in views].count(True) == 1 and views[-1].finished
    fractions = [view.easel.fraction for view in views]
    assert fractions == sorted(fractions) and 0.6 < fractions[len(fractions) // 2] < 0.75
    assert [view.seed for view in views if view.seed is not None] == [7]


def test_the_seed_is_told_once_and_early(tmp_path):
    views = views_of(tmp_path, prior_steps=1, decoder_steps=1)
    assert [view.seed for view in views if view.seed is not None] == [7]
    assert views[0].seed == 7


def test_closing_closes_the_engine(tmp_path):
    backend = FakeBackend()
    request = GenerationRequest.from_values({"prompt": "hills", "seed": 7})
    views = render([(record(backend.generate(request), album(tmp_path)), ())])
    while not next(views).easel.marks[0].step:
        pass
    views.close()
    assert backend.closed_early == 1 and not backend.lock.locked()
    assert list(tmp_path.rglob("*.png")) == []


def test_waiting_says_why():
    easel = advance(Easel(), Waiting("Two runs are ahead of yours."))
    assert (easel.state, easel.headline) == ("waiting", "Two runs are ahead of yours.")


def test_a_later_batch_goes_back_to_stage_c():
    plan = FakeBackend().plan(GenerationRequest.from_values({"prompt": "hills", "images": 6}))
    easel = advance(Easel(), RunStarted(plan))
    easel = advance(easel, StageStarted("vqgan", 1, (0, 1, 2, 3)))
    easel = advance(easel, StageStarted("prior", 20, (4, 5)))
    assert [mark.progress for mark in easel.marks] == ["active", "ahead", "ahead"]
    assert easel.headline.endswith("5 to 6 of 6")
    preview = Image.new("RGB", (8, 8), "red")
    easel = advance(easel, StepDone("prior", 1, 20, 0.7, 1.0, 0.5, (preview, preview), (4, 5)))
    assert [bool(one.src) for one in easel.prints] == [False] * 4 + [True] * 2


@pytest.mark.parametrize(
    ("size", "expected"),
    [((96, 64), (384, 256)), ((400, 300), (400, 300)), ((1024, 768), (512, 384)), ((3000, 2), (512, 1))],
)
def test_previews_are_small_jpegs(size, expected):
    head, data = preview_uri(Image.new("RGB", size), 512).split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (image.format, image.size) == ("JPEG", expected)
