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
DEATHS = 100

# One process loads the gallery and forks a saver again and again: starting Python anew each time would take minutes. The
# saver says on a pipe what it has done, and is killed somewhere in what it does next.
SAVE_AND_DIE = """
import os, random, select, signal, sys, time
from pathlib import Path
from tests.gallery.test_gallery import ANNA, PICTURE, record_of
from cascade_app.gallery.gallery import Gallery
assert not {"torch", "gradio"} & set(sys.modules)
folder, deaths, dice = Path(sys.argv[1]), int(sys.argv[2]), random.Random(7)
for _ in range(deaths):
    told, telling = os.pipe()
    saver = os.fork()
    if saver == 0:
        gallery = Gallery(folder)
        gallery.open()
        album, parents = gallery.of(ANNA), ()
        while True:
            id = album.add(PICTURE.copy(), record_of("a boat", parents=parents)).id
            os.write(telling, b"saved " + id.encode() + b"\\n")
            album.favourite(id, True)
            os.write(telling, b"starred " + id.encode() + b"\\n")
            album.delete([id])
            os.write(telling, b"deleted " + id.encode() + b"\\n")
            parents = (id,)
    os.close(telling)
    select.select([told], [], [], 10)  # it has saved one
    time.sleep(dice.random() * 0.03)
    os.kill(saver, signal.SIGKILL)
    os.waitpid(saver, 0)
    with os.fdopen(told) as lines:
        sys.stdout.write(lines.read())
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
        [sys.executable, "-c", SAVE_AND_DIE, str(folder), str(DEATHS)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in done.stdout.splitlines() if line.count(" ") == 1 and len(line.split()[1]) == 32]
    saved, starred, deleted = ({id for what, id in told if what == word} for word in ("saved", "starred", "deleted"))
    assert len(saved) >= DEATHS

    gallery = Gallery(folder)
    healed = gallery.open()
    assert healed.dropped == 0 and healed.unreadable == ()
    album = gallery.of(ANNA)
    files = {path.name[-36:-4]: path for path in folder.rglob("*.png")}
    items = {entry[0].id: entry[0] for entry in seen(gallery)[:-1]}
    assert saved <= set(files) == set(items), "index and files agree, and nothing that was told to be saved is missing"
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
