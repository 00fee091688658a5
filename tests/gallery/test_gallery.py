"""What a visitor keeps is found again, by that visitor alone, and the same after the index was made again from the files."""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from cascade_app.errors import GalleryError, NotInGallery
from cascade_app.gallery import gallery as gallery_module
from cascade_app.gallery.gallery import Album, Gallery, Reconciled
from cascade_app.gallery.item import Query
from cascade_app.gallery.limits import Limits
from cascade_app.record import Record, new_id
from cascade_app.request import GenerationRequest

ANNA, BERT = "a" * 32, "b" * 32
PICTURE = Image.new("RGB", (8, 8), (200, 100, 50))


def record_of(prompt: str = "a boat", *, parents: tuple[str, ...] = (), kind: str = "picture", **values) -> Record:
    request = GenerationRequest.from_values({"prompt": prompt, "seed": 7, "width": 256, "height": 256, **values})
    return Record(new_id(), kind, 1.5e9, request, parents=parents)


def keep(album: Album, *prompts: str) -> list[str]:
    return [album.add(PICTURE.copy(), record_of(prompt)).id for prompt in prompts]  # Pillow saves one image once at a time


def ids(album: Album, **query) -> list[str]:
    return [item.id for item in album.page(Query(**query)).items]


def everything(gallery: Gallery) -> list:
    """All that visitors can see of a gallery."""
    seen = []
    for visitor in (ANNA, BERT):
        album = gallery.of(visitor)
        items = [item for trash in (False, True) for item in album.page(Query(trash=trash)).items]
        family = [(album.parents(item.id), album.children(item.id)) for item in items]
        seen += [items, family, album.checkpoints(), album.usage()]
    return seen


@pytest.fixture
def gallery(tmp_path: Path):
    gallery = Gallery(tmp_path / "pictures")
    assert gallery.open() == Reconciled()
    yield gallery
    gallery.close()


@pytest.fixture
def album(gallery: Gallery) -> Album:
    return gallery.of(ANNA)


def test_newest_first_a_page_at_a_time(album: Album):
    kept = keep(album, *(f"boat {n}" for n in range(7)))
    first = album.page(count=3)
    second = album.page(Query(after=first.after), count=3)
    third = album.page(Query(after=second.after), count=3)
    assert [item.id for shelf in (first, second, third) for item in shelf.items] == kept[::-1]
    assert third.after == ""
    assert album.page(count=7).after == "", "a last page that is full is still the last"


def test_a_record_comes_back_whole(album: Album):
    record = record_of("ein Boot, 船", negative_prompt="fog")
    item = album.add(PICTURE, record)
    assert album.record(record.id) == record
    assert (item, album.path(record.id).stat().st_size) == (album.get(record.id), item.n_bytes)
    assert item.request == record.request and item.url == f"pictures/{record.id}.png"


def test_search_asks_for_every_word_in_any_case(album: Album):
    boat, tower = keep(album, "A Boat on the Öresund", "a TOWER, 100% stone_work")
    mist = album.add(PICTURE, record_of("hills", negative_prompt="mist")).id
    for words, found in {
        "boat": [boat], "BOAT a": [boat], "öresund": [boat], "boat tower": [], "%": [tower], "e_w": [tower], "mist": [mist],
        "'": [], "\x00": [], "  ": [mist, tower, boat], "x" * 5000: [],
    }.items():  # fmt: skip
        assert ids(album, search=words) == found, words


def test_filters(album: Album):
    old, new = keep(album, "old", "new")
    sketch = album.add(PICTURE, record_of("sketch", kind="sketch", checkpoint="other")).id
    album.favourite(old, True)
    assert ids(album, favourites=True) == [old]
    assert ids(album, kind="sketch") == [sketch] and ids(album, kind="picture") == [new, old]
    assert ids(album, checkpoint="pocket") == [new, old] and ids(album, checkpoint="none such") == []
    assert album.checkpoints() == ["other", "pocket"]
    assert ids(album, checkpoint="pocket", favourites=True, search="old") == [old]


def test_the_trash_and_back(album: Album):
    one, two = keep(album, "one", "two")
    album.favourite(one, True)
    (deleted,) = album.delete([one])
    assert ids(album) == [two] and ids(album, trash=True) == [one] and ids(album, favourites=True) == []
    assert album.get(one) == deleted and deleted.favourite and deleted.deleted_s is not None
    assert album.delete([one]) == [deleted], "deleting again changes nothing"
    (restored,) = album.restore([one])
    assert restored.favourite and ids(album) == [two, one]
    album.delete([one, two])
    assert album.empty_trash() == 2 and ids(album, trash=True) == []
    with pytest.raises(NotInGallery):
        album.restore([one])
    assert not list(album.home.rglob("*.png"))


def test_purged_for_good(album: Album):
    one, two = keep(album, "one", "two")
    path = album.path(one)
    album.purge([one, "f" * 32])
    assert not path.exists() and ids(album) == [two]


def test_the_trash_is_emptied_after_a_time(album: Album, monkeypatch: pytest.MonkeyPatch):
    one, two = keep(album, "one", "two")
    now = gallery_module.time.time()
    monkeypatch.setattr(gallery_module.time, "time", lambda: now - 31 * 86400)
    album.delete([one])
    monkeypatch.setattr(gallery_module.time, "time", lambda: now - 29 * 86400)
    album.delete([two])
    monkeypatch.undo()
    keep(album, "three")
    assert ids(album, trash=True) == [two]


def test_a_tree_that_can_be_walked(album: Album):
    root = keep(album, "root")[0]
    left, right = (album.add(PICTURE, record_of(name, parents=(root,))).id for name in ("left", "right"))
    blend = album.add(PICTURE, record_of("blend", parents=(right, left))).id
    assert [item.id for item in album.children(root)] == [left, right]
    assert [item.id for item in album.parents(blend)] == [right, left], "in the order of the blend"
    album.purge([left])
    assert [item.id for item in album.parents(blend)] == [right]
    assert album.get(blend).parents == (right, left), "what it came from is remembered"
    album.purge([root])
    assert [item.id for item in album.children(root)] == [right], "orphans are still found by their parent's id"


def test_nobody_sees_anything_of_others(gallery: Gallery):
    anna, bert = gallery.of(ANNA), gallery.of(BERT)
    (id,) = keep(anna, "secret")
    child = anna.add(PICTURE, record_of("child", parents=(id,))).id
    anna.favourite(id, True)
    before = everything(gallery)
    own = keep(bert, "own")[0]
    for ask in (
        bert.get, bert.path, bert.record, lambda id: bert.favourite(id, False), lambda id: bert.delete([id]),
        lambda id: bert.restore([id]),
    ):  # fmt: skip
        with pytest.raises(NotInGallery) as others:
            ask(id)
        with pytest.raises(NotInGallery) as nobodys:
            ask("f" * 32)
        assert others.value.message == nobodys.value.message
    assert bert.children(id) == () and bert.parents(child) == ()
    bert.purge([id])
    assert ids(bert) == [own] and bert.usage().pictures == 1
    bert.purge([own])
    assert everything(gallery) == before


@pytest.mark.parametrize("visitor", ["", "A" * 32, "a" * 31, "../" + "a" * 29, "a" * 32 + "\n"])
def test_a_visitor_is_never_a_path(gallery: Gallery, visitor: str):
    with pytest.raises(ValueError):
        gallery.of(visitor)


@pytest.mark.parametrize("id", ["", "x", "../../secret", "A" * 32, "a" * 33, None, 7, ["a"], "a" * 32 + "\n"])
def test_an_id_that_is_none_is_not_in_the_gallery(album: Album, id):
    for ask in (album.get, album.path, album.record, lambda id: album.delete([id]), lambda id: album.favourite(id, True)):
        with pytest.raises(NotInGallery):
            ask(id)
    assert album.parents(id) == ()


def busy(gallery: Gallery) -> None:
    """Every state a picture can be in, for two visitors."""
    anna, bert = gallery.of(ANNA), gallery.of(BERT)
    one, two, three, four = keep(anna, "one", "two", "three", "four")
    anna.add(PICTURE, record_of("child", parents=(one, three), kind="sketch", checkpoint="other"))
    anna.favourite(one, True)
    anna.favourite(two, True)
    anna.delete([two, three])
    bert.add(PICTURE, anna.record(four))  # the same id, as after a dropped download
    bert.delete(keep(bert, "own"))


def test_rebuilt_from_the_files_alone_it_is_the_same(gallery: Gallery):
    busy(gallery)
    before = everything(gallery)
    assert gallery.rebuild() == Reconciled(added=7)
    assert everything(gallery) == before
    gallery.close()
    for path in gallery.folder.glob("index.sqlite3*"):
        path.unlink()
    again = Gallery(gallery.folder)
    assert again.open() == Reconciled(added=7)
    assert everything(again) == before
    assert again.open() == Reconciled(), "where both agree nothing is done"
    again.close()


def test_a_copy_of_the_folder_is_the_same_gallery(gallery: Gallery, tmp_path: Path):
    busy(gallery)
    before = everything(gallery)
    gallery.close()
    copy = Gallery(gallery.folder.rename(tmp_path / "moved"))
    copy.open()
    assert everything(copy) == before
    copy.close()


def test_files_and_rows_are_brought_in_line(gallery: Gallery):
    album = gallery.of(ANNA)
    gone, moved, lost, trashed = keep(album, "gone", "moved", "lost", "trashed")
    album.path(gone).unlink()
    path = album.path(moved)
    (album.home / "favourites").mkdir()
    path.rename(album.home / "favourites" / path.name)
    with gallery.index.write() as db:
        db.execute("DELETE FROM picture WHERE id = ?", (lost,))
    album.delete([trashed])
    path = album.path(trashed)
    path.rename(album.home / path.name)
    for name in ("notes.txt", "x.png", f"20260101-000000-000-half-7-{'c' * 32}.png"):
        (album.home / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    half = album.home / f"20260101-000000-000-half-7-{'c' * 32}.png"
    assert gallery.open() == Reconciled(added=1, moved=2, dropped=1, unreadable=(half,))
    assert ids(album) == [trashed, lost, moved] and ids(album, favourites=True) == [moved]
    assert half.exists(), "what cannot be read is left alone"


def test_a_file_moved_by_hand_is_found_while_running(album: Album):
    (id,) = keep(album, "one")
    path = album.path(id)
    (album.home / "favourites").mkdir()
    path.rename(album.home / "favourites" / path.name)
    assert album.path(id).is_file() and album.get(id).favourite
    album.path(id).unlink()
    with pytest.raises(NotInGallery):
        album.path(id)


def test_what_a_killed_process_left_is_cleared_when_it_is_old(album: Album):
    keep(album, "one")
    old, new = album.home / ".saving-old.tmp", album.home / ".saving-new.tmp"
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    os.utime(old, (0, 0))
    album.gallery.open()
    assert not old.exists() and new.exists()


@pytest.mark.parametrize("harm", ["no database", "torn pages"])
def test_a_damaged_index_is_made_again(gallery: Gallery, harm: str):
    busy(gallery)
    before = everything(gallery)
    with gallery.index.write() as db:
        db.execute("SELECT 1")
    gallery.close()
    path = gallery.index.path
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = path.read_bytes()
    path.write_bytes(b"no database" * 1000 if harm == "no database" else data[:4096] + os.urandom(len(data) - 4096))
    again = Gallery(gallery.folder)
    assert again.open().added == 7
    assert everything(again) == before
    assert len(list(gallery.folder.glob("index.sqlite3.damaged-*"))) == 1
    again.close()


def test_a_folder_that_cannot_be_used_is_a_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper", Path("/proc/no-such-folder")):
        with pytest.raises(GalleryError, match="CASCADE_DATA_DIR") as caught:
            Gallery(folder).open()
        assert "\n" not in caught.value.message


def test_threads_and_a_second_process_share_it(gallery: Gallery):
    """Two galleries over one folder, as two processes have, and eight threads that do everything at once."""
    other = Gallery(gallery.folder)
    other.open()
    failures: list[Exception] = []

    def work(one: Gallery) -> None:
        try:
            album = one.of(ANNA)
            for id in keep(album, "one", "two", "three"):
                album.favourite(id, True)
                album.delete([id])
                album.page()
                album.restore([id])
            one.of(ANNA)._reconcile(afresh=False)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(one,)) for one in (gallery, other) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    before = everything(gallery)
    assert len(ids(gallery.of(ANNA), favourites=True)) == 24
    assert gallery.open() == Reconciled() and everything(other) == before
    assert other.rebuild() == Reconciled(added=24) and everything(gallery) == before
    other.close()


def test_the_oldest_without_a_star_goes_first_and_it_is_said_before(gallery: Gallery):
    gallery.limits = Limits(visitor_pictures=4)
    album = gallery.of(ANNA)
    star, old, trashed, new = keep(album, "star", "old", "trashed", "new")
    album.favourite(star, True)
    album.delete([trashed])
    keep(gallery.of(BERT), "not Anna's")
    assert album.what_would_go(n_bytes=100).ids == (trashed,)
    leaving = album.what_would_go(n_bytes=100, pictures=2)
    assert leaving.ids == (trashed, old) and leaving.pictures == 2 and leaving.fits
    assert "1 from the trash and the oldest one without a star" in leaving.sentence and "for good" in leaving.sentence
    more = keep(album, "more", "still more")
    assert ids(album) == [more[1], more[0], new, star] and ids(album, trash=True) == []
    assert len(ids(gallery.of(BERT))) == 1


def test_favourites_never_go(gallery: Gallery):
    gallery.limits = Limits(visitor_pictures=2)
    album = gallery.of(ANNA)
    for id in keep(album, "one", "two"):
        album.favourite(id, True)
    leaving = album.what_would_go(n_bytes=1)
    assert not leaving.fits and leaving.ids == () and "only favourites are left" in leaving.sentence
    with pytest.raises(GalleryError, match="only favourites are left"):
        keep(album, "three")
    assert len(ids(album, favourites=True)) == 2 and len(list(album.home.rglob("*.png"))) == 2


def test_a_limit_of_bytes_and_a_limit_for_all(gallery: Gallery):
    anna, bert = gallery.of(ANNA), gallery.of(BERT)
    n_bytes = anna.add(PICTURE, record_of("first")).n_bytes
    gallery.limits = Limits(visitor_bytes=3 * n_bytes)
    keep(anna, "second", "third", "fourth")
    assert [item.request.prompt for item in anna.page().items] == ["fourth", "third"]
    gallery.limits = Limits(all_pictures=3)
    keep(bert, "fifth", "sixth")
    assert anna.usage().pictures == 1 and bert.usage().pictures == 2
    assert bert.what_would_go(n_bytes=1).sentence == "", "of others' pictures nothing is told"
    gallery.limits = Limits(visitor_pictures=0, visitor_bytes=0, all_pictures=0, all_bytes=0)
    assert anna.what_would_go(n_bytes=10**18, pictures=10**9).ids == ()


def test_saving_again_under_the_same_id_keeps_one_row(album: Album):
    record = record_of()
    album.add(PICTURE, record)
    album.add(PICTURE, replace(record, action="vary"))
    assert [item.action for item in album.page().items] == ["vary"]
    assert album.usage().pictures == 1 and len(list(album.home.rglob("*.png"))) == 1


def test_of_two_files_with_one_id_the_newer_is_shown(album: Album):
    record = record_of()
    album.add(PICTURE, record)
    newest = album.add(PICTURE, record_of("newest"))
    path = album.path(record.id)
    (album.home / path.name.replace("20", "19", 1)).write_bytes(path.read_bytes())
    for _ in range(2):
        assert album.gallery.rebuild().added == 2
        assert [item.name for item in album.page().items] == [newest.name, path.name]
    assert album.gallery.open() == Reconciled()


def test_nobody_else_on_the_machine_can_read_it(gallery: Gallery):
    keep(gallery.of(ANNA), "secret")
    assert gallery.folder.stat().st_mode & 0o077 == 0
