"""Pictures under their final name are whole, never replaced, and failing to save is said in one sentence."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import RenderFailed
from cascade_app.events import Event, Finished, ImageReady, ImageSaved, RunStarted
from cascade_app.gallery import store as store_module
from cascade_app.gallery.png import read_request
from cascade_app.gallery.store import PictureStore, record
from cascade_app.plan import make_plan, own_request
from cascade_app.request import GenerationRequest
from tests.fakes import record_of

ROOT = Path(__file__).resolve().parent.parent.parent
SPEC = CheckpointSpec(
    "pocket", "Pocket", Path("pocket"), "ours", default_size_px=64, min_size_px=64, max_size_px=128, size_step_px=32
)


def ready(prompt: str = "a boat", *, seed: int = 7, index: int = 0) -> ImageReady:
    request = GenerationRequest.from_values({"prompt": prompt, "seed": seed})
    plan = make_plan(request, SPEC)
    return ImageReady(index, seed, Image.effect_noise((64, 64), 60).convert("RGB"), plan, record_of(plan, seed))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_is_made_with_the_first_picture(tmp_path: Path):
    folder = tmp_path / "deep" / "pictures"
    store = PictureStore(folder)
    assert not folder.exists()
    path = store.save(ready())
    assert names(folder) == [path.name]
    assert path.name.endswith("-a-boat-7.png")
    assert read_request(path) == own_request(ready().plan, 7)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a Boat, on the SEA!", "a-boat-on-the-sea"),
        ("../../etc/passwd", "etc-passwd"),
        ("船 🚤", "picture"),
        ("con\r\nnul", "con-nul"),
        ("word " * 100, "word-word-word-word-word-word-word-word"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_names_are_safe_on_any_system(tmp_path: Path, prompt: str, words: str):
    path = PictureStore(tmp_path).save(ready(prompt))
    assert path.parent == tmp_path
    assert path.name[16:] == f"{words}-7.png"


def test_pictures_of_one_second_do_not_replace_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store_module.time, "strftime", lambda _: "20260101-120000")
    store = PictureStore(tmp_path)
    paths = [store.save(ready()) for _ in range(3)]
    stem = "20260101-120000-a-boat-7"
    assert [path.name for path in paths] == [f"{stem}.png", f"{stem}-2.png", f"{stem}-3.png"]
    assert len({path.read_bytes() for path in paths}) == 3


@pytest.mark.parametrize("has_links", [True, False])
def test_many_threads_saving_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool):
    monkeypatch.setattr(store_module.time, "strftime", lambda _: "20260101-120000")
    if not has_links:  # as on FAT, exFAT and some network drives
        monkeypatch.setattr(store_module.os, "link", _refuse_to_link)
    store = PictureStore(tmp_path)
    saved: list[Path] = []
    threads = [threading.Thread(target=lambda: saved.append(store.save(ready()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(saved)) == 8
    assert names(tmp_path) == sorted(path.name for path in saved)
    for path in saved:
        assert read_request(path).seed == 7


def _refuse_to_link(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "pictures", Path("/proc/no-such-folder")):
        with pytest.raises(RenderFailed) as caught:
            PictureStore(folder).save(ready())
        message = caught.value.message
        assert message.startswith("The picture could not be saved: ")
        assert "CASCADE_DATA_DIR" in message
        assert "\n" not in message


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    event = ready()
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(RenderFailed, match="could not be saved"):
            PictureStore(tmp_path).save(event)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == []


SAVE_FOR_EVER = """
import sys
from pathlib import Path
from tests.gallery.test_store import PictureStore, ready
store = PictureStore(Path(sys.argv[1]))
print("saving", flush=True)
while True:
    store.save(ready())
"""


def test_killed_while_saving_every_named_picture_is_whole(tmp_path: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", SAVE_FOR_EVER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "saving\n"
    deadline = time.monotonic() + 20
    while len(list(tmp_path.glob("*.png"))) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    pictures = list(tmp_path.glob("*.png"))
    assert len(pictures) >= 20
    for path in pictures:
        with Image.open(path) as image:
            image.load()
        assert read_request(path).seed == 7


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


def test_each_picture_is_followed_by_where_it_was_saved(tmp_path: Path):
    run = Run()
    events = list(record(run, PictureStore(tmp_path)))
    assert [type(event) for event in events] == [RunStarted, ImageReady, ImageSaved, ImageReady, ImageSaved, Finished]
    assert [event.path.is_file() for event in events if isinstance(event, ImageSaved)] == [True, True]
    assert run.closed


def test_leaving_at_the_sight_of_a_picture_keeps_it(tmp_path: Path):
    run = Run()
    events = record(run, PictureStore(tmp_path))
    while not isinstance(next(events), ImageReady):
        pass
    events.close()
    assert run.closed, "the engine must stop now, not when it is collected"
    assert len(names(tmp_path)) == 1


def test_a_picture_that_cannot_be_saved_is_still_shown(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    run = Run()
    events = record(run, PictureStore(tmp_path / "file"))
    seen = []
    with pytest.raises(RenderFailed):
        for event in events:
            seen.append(type(event))
    assert seen == [RunStarted, ImageReady]
    assert run.closed
