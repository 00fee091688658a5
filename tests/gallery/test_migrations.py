"""An index of any version becomes the newest with all it held; one from the future is refused and left as it is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cascade_app.errors import GalleryError
from cascade_app.gallery import migrations
from cascade_app.gallery.gallery import Gallery, Reconciled
from cascade_app.gallery.migrations import MIGRATIONS, VERSION, migrate
from tests.gallery.test_gallery import ANNA, busy, everything


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def schema(db: sqlite3.Connection) -> list[tuple]:
    return db.execute("SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%' ORDER BY name").fetchall()


def put_back(path: Path, version: int) -> None:
    """The rows of the index at `path` in a database of an earlier version."""
    with closing(connect(path)) as db:
        rows = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in ("picture", "descent")}
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    with closing(connect(path)) as db:
        migrate(db, upto=version)
        assert db.execute("PRAGMA user_version").fetchone()[0] == version
        for table in ("picture", "descent") if version else ():
            for row in rows[table]:
                db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)


@pytest.fixture
def gallery(tmp_path: Path):
    gallery = Gallery(tmp_path / "pictures")
    gallery.open()
    busy(gallery)
    yield gallery
    gallery.close()


@pytest.mark.parametrize("version", range(VERSION + 1))
def test_from_every_earlier_version(gallery: Gallery, version: int):
    before = everything(gallery)
    with closing(connect(gallery.index.path)) as db:
        newest = schema(db)
    gallery.close()
    put_back(gallery.index.path, version)
    again = Gallery(gallery.folder)
    assert again.open() == (Reconciled() if version else Reconciled(added=7))
    assert everything(again) == before
    with closing(connect(gallery.index.path)) as db:
        assert schema(db) == newest and db.execute("PRAGMA user_version").fetchone()[0] == VERSION
    again.of(ANNA).add(*_another())
    assert again.of(ANNA).usage().pictures == before[3].pictures + 1, "the triggers count on"
    again.close()


def _another():
    from tests.gallery.test_gallery import PICTURE, record_of

    return PICTURE.copy(), record_of("another")


def test_a_step_that_fails_leaves_the_version_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    broken = (*MIGRATIONS, ("CREATE TABLE later (x)", "INSERT INTO later VALUES (1)", "no SQL at all"))
    monkeypatch.setattr(migrations, "MIGRATIONS", broken)
    monkeypatch.setattr(migrations, "VERSION", len(broken))
    with closing(connect(tmp_path / "index.sqlite3")) as db:
        with pytest.raises(sqlite3.OperationalError):
            migrate(db, upto=len(broken))
        assert db.execute("PRAGMA user_version").fetchone()[0] == VERSION
        assert "later" not in {row[1] for row in schema(db)} and not db.in_transaction


def test_an_index_from_a_later_version_is_refused_and_left_alone(gallery: Gallery):
    gallery.close()
    with closing(connect(gallery.index.path)) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = gallery.index.path.read_bytes()
    with pytest.raises(GalleryError, match=f"version {VERSION + 1} and this Cascade Studio knows up to {VERSION}") as caught:
        Gallery(gallery.folder).open()
    assert "Update Cascade Studio" in caught.value.message and "\n" not in caught.value.message
    assert gallery.index.path.read_bytes() == before and not list(gallery.folder.glob("*.damaged*"))


def test_two_processes_that_migrate_at_once_do_it_once(tmp_path: Path):
    path = tmp_path / "index.sqlite3"
    with closing(connect(path)) as one, closing(connect(path)) as two:
        migrate(one, upto=1)
        migrate(two)
        migrate(one)
        assert schema(one) == schema(two)
