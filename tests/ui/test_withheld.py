"""What the page shows where pictures are withheld, and where the gallery itself is the trouble."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from cascade_app.serving.logged import Logged
from cascade_app.serving.safe import Safe
from cascade_app.settings import Settings
from tests.fakes import FakeBackend
from tests.serving.test_safe import Finds
from tests.ui.test_callbacks import finish, kept, shown


@pytest.fixture
def checked(page):
    """The page behind an image checker that flags the pictures of these numbers."""

    def make(*numbers: int):
        safe = Safe(FakeBackend(), Settings())
        safe._checker = Finds(*numbers)
        return replace(page, backend=Logged(safe))

    return make


def test_the_others_are_on_the_easel_and_in_the_gallery(checked):
    page = checked(1)
    last = finish(page, images=3, seed=7, randomise=False)
    assert last[page.table].ids == tuple(item.id for item in reversed(kept(page))) and len(kept(page)) == 2
    assert "withheld 1 of 3 pictures" in shown(last[page.prompt.message])
    assert last[page.prompt.generate]["interactive"]


def test_none_is_left_and_the_page_says_so(checked):
    page = checked(0, 1)
    last = finish(page, images=2)
    assert "withheld what was made" in shown(last[page.prompt.message]) and not kept(page)
    assert "data:image" not in last[page.stage.easel] and last[page.prompt.generate]["interactive"]


def test_a_gallery_that_cannot_be_read_is_said_and_the_next_picture_is_made(page, caplog):
    """Its folder is gone while a run is under way, and a file lies where it was."""
    folder = page.gallery.folder

    def gone():
        shutil.rmtree(folder)
        folder.write_text("in the way")

    backend = FakeBackend()
    real = backend._run
    backend._run = lambda request, work: (gone(), (yield from real(request, work)))[1]
    last = finish(replace(page, backend=Logged(backend)))
    assert "(reference " in shown(last[page.prompt.message]) and last[page.prompt.generate]["interactive"]
    assert str(folder) not in shown(last[page.prompt.message])
    assert any(record.message == "fault" for record in caplog.records)
    folder.unlink()
    again = finish(replace(page, backend=FakeBackend()))
    assert len(kept(page)) == 1 and again[page.table].ids == (kept(page)[0].id,)
