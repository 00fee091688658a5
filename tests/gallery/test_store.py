"""Each picture of a run is kept before it is shown, and a run that is left is closed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import GalleryError
from cascade_app.events import Event, Finished, ImageReady, ImageSaved, RunStarted
from cascade_app.gallery.gallery import Album, Gallery
from cascade_app.gallery.limits import Limits
from cascade_app.gallery.store import record
from cascade_app.plan import make_plan
from cascade_app.request import GenerationRequest
from tests.fakes import record_of

SPEC = CheckpointSpec(
    "pocket", "Pocket", Path("pocket"), "ours", default_size_px=64, min_size_px=64, max_size_px=128, size_step_px=32
)


def ready(prompt: str = "a boat", *, seed: int = 7, index: int = 0) -> ImageReady:
    request = GenerationRequest.from_values({"prompt": prompt, "seed": seed})
    plan = make_plan(request, SPEC)
    return ImageReady(index, seed, Image.effect_noise((64, 64), 60).convert("RGB"), plan, record_of(plan, seed))


@pytest.fixture
def album(tmp_path: Path) -> Iterator[Album]:
    gallery = Gallery(tmp_path)
    gallery.open()
    yield gallery.of("a" * 32)
    gallery.close()


class Run:
    """A run of two pictures that knows whether it was closed."""

    def __init__(self) -> None:
        self.closed = False
        self._events = self._run()

    def _run(self) -> Iterator[Event]:
        try:
            yield RunStarted(ready().plan)
            yield ready(index=0)
            yield ready(index=1, seed=8)
            yield Finished({"total": 1.0})
        finally:
            self.closed = True

    def __iter__(self) -> Iterator[Event]:
        return self._events

    def close(self) -> None:
        self._events.close()


def test_each_picture_is_followed_by_where_it_was_saved(album: Album):
    run = Run()
    events = list(record(run, album))
    assert [type(event) for event in events] == [RunStarted, ImageReady, ImageSaved, ImageReady, ImageSaved, Finished]
    assert [event.path.is_file() for event in events if isinstance(event, ImageSaved)] == [True, True]
    assert run.closed


def test_leaving_at_the_sight_of_a_picture_keeps_it(album: Album):
    run = Run()
    events = record(run, album)
    while not isinstance(next(events), ImageReady):
        pass
    events.close()
    assert run.closed, "the engine must stop now, not when it is collected"
    assert len(album.page().items) == 1


def test_a_picture_that_cannot_be_saved_is_still_shown(album: Album):
    album.gallery.limits = Limits(visitor_bytes=1)
    run = Run()
    seen = []
    with pytest.raises(GalleryError):
        for event in record(run, album):
            seen.append(type(event))
    assert seen == [RunStarted, ImageReady]
    assert run.closed
