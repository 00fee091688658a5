"""`kill -9` at random moments of saving, a hundred times: what was saved is found again, and nothing half is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cascade_app.gallery.gallery import Gallery, Reconciled
from cascade_app.gallery.item import Query
from cascade_app.gallery.reading import read
from tests.gallery.test_gallery import ANNA

ROOT = Path(__file__).resolve().parents[2]
BY_LINE, BY_CLOCK = 100, 20

# One process loads the gallery and forks a saver again and again: starting Python anew each time would take minutes. The
# saver says on a pipe what it has done. Most are killed between two lines of the gallery's own code, a random one in each
# hundredth of the way through saving, starring and deleting; the others by the clock, wherever they are.
SAVE_AND_DIE = """
import os, random, signal, sys, time
from pathlib import Path
from tests.gallery.test_gallery import ANNA, PICTURE, record_of
from cascade_app.gallery.gallery import Gallery
assert not {"torch", "gradio"} & set(sys.modules)
folder, by_line, by_clock, dice = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), random.Random()
lines = 0

def cycle(album, tell):
    record = record_of("a boat")
    album.add(PICTURE.copy(), record)
    tell("saved", record.id)
    child = album.add(PICTURE.copy(), record_of("a child", parents=(record.id,))).id
    tell("saved", child)
    album.favourite(child, True)
    tell("starred", child)
    album.delete([child])
    tell("deleted", child)

def dying_at(line):
    def trace(frame, event, _):
        global lines
        if "/cascade_app/gallery/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            lines += 1
            if lines == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    return trace

def open_gallery():
    gallery = Gallery(folder)
    gallery.open()
    return gallery.of(ANNA)

album = open_gallery()
sys.settrace(dying_at(0))
cycle(album, lambda *_: None)
sys.settrace(None)
total, lines = lines, 0
album.gallery.close()
for death in range(by_line + by_clock):
    told, telling = os.pipe()
    saver = os.fork()
    if saver == 0:
        album = open_gallery()
        tell = lambda what, id: os.write(telling, f"{what} {id}\\n".encode())
        if death < by_line:
            sys.settrace(dying_at(1 + int(total * (death + dice.random()) / by_line)))
        while True:
            cycle(album, tell)
    os.close(telling)
    if death >= by_line:
        time.sleep(0.05 + dice.random() * 0.1)
        os.kill(saver, signal.SIGKILL)
    assert os.waitpid(saver, 0)[1] == signal.SIGKILL
    with os.fdopen(told) as lines_told:
        sys.stdout.write(lines_told.read())
"""


def seen(gallery: Gallery) -> list:
    """Everything there is, a page at a time."""
    album, found = gallery.of(ANNA), []
    for trash in (False, True):
        shelf = album.page(Query(trash=trash))
        found += shelf.items
        while shelf.after:
            shelf = album.page(Query(trash=trash, after=shelf.after))
            found += shelf.items
    return [*((item, album.parents(item.id), album.children(item.id)) for item in found), album.usage()]


def test_a_hundred_deaths_lose_nothing(tmp_path: Path):
    folder = tmp_path / "pictures"
    done = subprocess.run(
        [sys.executable, "-c", SAVE_AND_DIE, str(folder), str(BY_LINE), str(BY_CLOCK)],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in done.stdout.splitlines() if line.count(" ") == 1 and len(line.split()[1]) == 32]
    saved, starred, deleted = ({id for what, id in told if what == word} for word in ("saved", "starred", "deleted"))
    assert len(saved) >= BY_LINE, "most got past their first picture"

    gallery = Gallery(folder)
    healed = gallery.open()
    assert healed.dropped == 0 and healed.unreadable == ()
    album = gallery.of(ANNA)
    files = {path.name[-36:-4]: path for path in folder.rglob("*.png")}
    items = {entry[0].id: entry[0] for entry in seen(gallery)[:-1]}
    assert saved <= set(files)
    assert set(files) == set(items), "index and files agree"
    assert all(items[id].favourite for id in starred) and all(items[id].deleted_s for id in deleted)
    for id, path in files.items():
        restored = read(path.read_bytes())
        assert restored.record.id == id and album.path(id) == path
    assert album.usage().n_bytes == sum(path.stat().st_size for path in files.values())

    before = seen(gallery)
    assert gallery.open() == Reconciled()
    assert gallery.rebuild() == Reconciled(added=len(files))
    assert seen(gallery) == before
    gallery.close()
