"""Faults of the gallery alone: its index locked by another process, and a disk that is full for SQLite."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cascade_app.errors import GalleryError
from cascade_app.gallery import index
from cascade_app.gallery.gallery import Gallery, Reconciled
from tests.faults.server import ROOT
from tests.gallery.test_gallery import ANNA, PICTURE, record_of

HOLD = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None); db.execute('BEGIN IMMEDIATE'); " \
    "print('held', flush=True); sys.stdin.read()"  # fmt: skip

# A picture of a few kilobytes fits under the limit; what SQLite writes for it does not.
FULL = """
import resource, sys
from pathlib import Path
from cascade_app.errors import GalleryError
from cascade_app.gallery.gallery import Gallery
from tests.gallery.test_gallery import ANNA, PICTURE, record_of

gallery = Gallery(Path(sys.argv[1]))
gallery.open()
album = gallery.of(ANNA)
album.add(PICTURE.copy(), record_of("before"))
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
try:
    album.add(PICTURE.copy(), record_of("while it is full"))
except GalleryError as error:
    print(error.message)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
album.add(PICTURE.copy(), record_of("after"))
print(sorted(item.request.prompt for item in album.page().items))
"""


@pytest.fixture
def gallery(tmp_path):
    gallery = Gallery(tmp_path / "pictures")
    gallery.open()
    yield gallery
    gallery.close()


def test_another_process_holds_the_index(gallery, monkeypatch):
    monkeypatch.setattr(index, "BUSY_S", 0.2)
    gallery.open()  # with connections of that patience
    album = gallery.of(ANNA)
    kept = album.add(PICTURE.copy(), record_of("before"))
    command = [sys.executable, "-c", HOLD, str(gallery.index.path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline().strip() == "held"
    with pytest.raises(GalleryError, match="index cannot be used: database is locked"):
        album.add(PICTURE.copy(), record_of("while it is held"))
    assert album.get(kept.id) == kept, "who only looks need not wait"
    holder.communicate("")
    assert album.add(PICTURE.copy(), record_of("after"))
    assert {item.request.prompt for item in album.page().items} >= {"before", "after"}
    assert gallery.open().dropped == 0


def test_the_disk_is_full_for_sqlite(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "pictures")], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    sentence, shown = done.stdout.splitlines()
    assert sentence.startswith("The gallery's index cannot be used: ") and "Free some space" in sentence
    assert shown == "['after', 'before']"
    gallery = Gallery(tmp_path / "pictures")
    healed = gallery.open()
    assert healed == Reconciled(added=healed.added) and healed.added <= 1, "a picture whose row was lost has one again"
    gallery.close()


def test_an_index_removed_while_it_is_open_is_made_again_from_the_files(gallery):
    kept = gallery.of(ANNA).add(PICTURE.copy(), record_of("before"))
    for path in gallery.folder.glob("index.sqlite3*"):
        path.unlink()
    assert gallery.of(ANNA).get(kept.id) == kept
    held = gallery.of(ANNA)
    for path in gallery.folder.glob("index.sqlite3*"):
        path.unlink()
    saved = held.add(PICTURE.copy(), record_of("in a run that began before"))
    assert {item.id for item in gallery.of(ANNA).page().items} == {kept.id, saved.id}


def test_a_file_without_a_record_is_named_by_its_id_alone(gallery, caplog):
    saved = gallery.of(ANNA).add(PICTURE.copy(), record_of("an unmistakable heron"))
    (path,) = gallery.folder.rglob("*.png")
    path.write_bytes(b"\x89PNG")
    gallery.rebuild()
    assert saved.id in caplog.text and "heron" not in caplog.text
