"""What a user would have seen, event by event, with the stand-in engine."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from cascade_app.events import RunStarted, StageStarted, StepDone, Waiting
from cascade_app.gallery.png import read_request
from cascade_app.gallery.store import PictureStore, record
from cascade_app.request import GenerationRequest
from cascade_app.ui.markup import Easel
from cascade_app.ui.render import View, advance, preview_uri, render
from tests.fakes import FakeBackend


def views_of(tmp_path: Path, **values) -> list[View]:
    request = GenerationRequest.from_values({"prompt": "hills", "seed": 7, **values})
    return list(render(record(FakeBackend().generate(request), PictureStore(tmp_path))))


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


def test_the_end_shows_the_saved_file_and_the_time(tmp_path):
    views = views_of(tmp_path, images=3)
    saved = [view.saved for view in views if view.saved]
    assert [one.request.seed for one in saved] == [7, 8, 9]
    assert [read_request(Path(one.path)) for one in saved] == [one.request for one in saved]
    last = views[-1]
    assert last.finished and last.easel.state == "done" and last.easel.clock.startswith("made in")
    assert [one.src for one in last.easel.prints] == [one.url for one in saved]


def test_the_seed_is_told_once_and_early(tmp_path):
    views = views_of(tmp_path, prior_steps=1, decoder_steps=1)
    assert [view.seed for view in views if view.seed is not None] == [7]
    assert views[0].seed == 7


def test_closing_closes_the_engine(tmp_path):
    backend = FakeBackend()
    request = GenerationRequest.from_values({"prompt": "hills", "seed": 7})
    views = render(record(backend.generate(request), PictureStore(tmp_path)))
    while not next(views).easel.marks[0].step:
        pass
    views.close()
    assert backend.closed_early == 1 and not backend.lock.locked()
    assert list(tmp_path.iterdir()) == []


def test_waiting_says_why():
    easel = advance(Easel(), Waiting("Two runs are ahead of yours."))
    assert (easel.state, easel.headline) == ("waiting", "Two runs are ahead of yours.")


def test_a_later_batch_goes_back_to_stage_c():
    plan = FakeBackend().plan(GenerationRequest.from_values({"prompt": "hills", "images": 6}))
    easel = advance(Easel(), RunStarted(plan))
    easel = advance(easel, StageStarted("vqgan", 1, (0, 1, 2, 3)))
    easel = advance(easel, StageStarted("prior", 20, (4, 5)))
    assert [mark.progress for mark in easel.marks] == ["active", "ahead", "ahead"]
    assert easel.headline.endswith("pictures 5 to 6 of 6")
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
