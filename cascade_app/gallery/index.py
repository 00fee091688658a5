"""The index over the gallery's files: one SQLite database in WAL mode, and every statement that is sent to it.

Connections are lent out, one user at a time, so any thread may ask; other processes may have the same database open. It
holds nothing that the files do not say too. Knows rows and statements; knows no files and no limits.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from cascade_app.errors import GalleryError
from cascade_app.gallery.item import Item, Query, Usage
from cascade_app.gallery.migrations import migrate
from cascade_app.request import GenerationRequest

BUSY_S = 30.0  # how long a statement waits for another writer
WORDS_LIMIT = 16  # search words beyond these are not looked at
ALL = ""  # the visitor under whom `usage` sums up everyone
_COLUMNS = (
    "id, name, kind, action, created_s, request, digest, has_negative, n_bytes, favourite, deleted_s, "
    "(SELECT json_group_array(parent) FROM (SELECT parent FROM descent WHERE descent.visitor = picture.visitor AND child = id "
    "ORDER BY position))"
)


class Index:
    """`read` and `write` lend a connection; the functions below say things to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._opened = 0  # times; connections of an earlier one are not used again
        self.moved_aside: Path | None = None
        """Where a damaged database was put; the one in use is then new and empty."""

    def open(self) -> None:
        """Make or migrate the database. One that is damaged is put aside: the files hold all it held.

        Raises:
            GalleryError: it was written by a later version, or the folder cannot be written.
        """
        self._opened += 1
        self.close()
        try:
            self._try()
        except sqlite3.OperationalError as error:
            raise _sentence(error) from error
        except sqlite3.DatabaseError:
            self.moved_aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
            self.path.rename(self.moved_aside)
            for suffix in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + suffix).unlink()
            self._try()

    def _try(self) -> None:
        with closing(self._connect("rwc")) as db:
            migrate(db)
            if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("the database is damaged")

    @property
    def vanished(self) -> bool:
        """Whether somebody removed the database after it was opened; what is written to it is lost then."""
        return self._opened > 0 and not self.path.exists()

    def close(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the index throughout. Raises GalleryError for what SQLite complains about."""
        with self._lent("BEGIN") as db:
            yield db

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """The only connection that writes, of all threads and processes; everything is undone if an exception leaves."""
        with self._lent("BEGIN IMMEDIATE") as db:
            yield db

    @contextmanager
    def _lent(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            opened = self._opened
            try:
                db = self._idle.get_nowait()
            except queue.Empty:
                db = self._connect()
            try:
                db.execute(begin)
                yield db
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                if opened == self._opened:
                    self._idle.put(db)
                else:
                    db.close()
        except sqlite3.Error as error:
            raise _sentence(error) from error

    def _connect(self, mode: str = "rw") -> sqlite3.Connection:
        # Only `open` makes a database ("rwc"): one made in passing would be without tables.
        address = f"file:{quote(str(self.path.absolute()))}?mode={mode}"
        db = sqlite3.connect(address, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # what a power cut takes from the index, the files give back
        return db


def _sentence(error: sqlite3.Error) -> GalleryError:
    return GalleryError(f"The gallery's index cannot be used: {error}. Free some space or set CASCADE_DATA_DIR elsewhere.")


# --- what is asked ---------------------------------------------------------------------------------------------------


def page_sql(visitor: str, query: Query, count: int) -> tuple[str, list[object]]:
    """The statement for one page of items, newest first, and its values.

    Words are looked for in the prompts themselves, as any language writes them and within other words too. There is no index
    for that: it reads on until the page is full, at worst all of one visitor's rows, which the limits bound.
    """
    where, values = ["visitor = ?", f"deleted_s IS {'NOT ' if query.trash else ''}NULL"], [visitor]
    if query.favourites:
        where.append("favourite = 1")
    for column in ("kind", "checkpoint"):
        if wanted := getattr(query, column):
            where.append(f"{column} = ?")
            values.append(wanted)
    if query.after:
        where.append("name < ?")
        values.append(query.after)
    for word in query.search.casefold().split()[:WORDS_LIMIT]:
        where.append("instr(words, ?) > 0")
        values.append(word)
    return f"SELECT {_COLUMNS} FROM picture WHERE {' AND '.join(where)} ORDER BY name DESC LIMIT ?", [*values, count]


def page(db: sqlite3.Connection, visitor: str, *, query: Query, count: int) -> list[Item]:
    return [_item(row) for row in db.execute(*page_sql(visitor, query, count))]


def get(db: sqlite3.Connection, visitor: str, *, id: str) -> Item | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM picture WHERE visitor = ? AND id = ?", (visitor, id)).fetchone()
    return _item(row) if row else None


def children(db: sqlite3.Connection, visitor: str, *, id: str, count: int) -> list[Item]:
    """What was made from `id` and is not in the trash, oldest first."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM picture WHERE visitor = ?1 AND deleted_s IS NULL AND id IN "
        "(SELECT child FROM descent WHERE visitor = ?1 AND parent = ?2) ORDER BY name LIMIT ?3", (visitor, id, count),
    )  # fmt: skip
    return [_item(row) for row in rows]


def checkpoints(db: sqlite3.Connection, visitor: str) -> list[str]:
    """Those whose pictures are shown, by name: one step into the index for each, however many pictures it has."""
    names: list[str] = []
    while True:
        row = db.execute(
            "SELECT checkpoint FROM picture WHERE visitor = ? AND checkpoint > ? AND deleted_s IS NULL "
            "ORDER BY checkpoint LIMIT 1",
            (visitor, names[-1] if names else ""),
        ).fetchone()
        if row is None:
            return names
        names.append(row[0])


def usage(db: sqlite3.Connection, visitor: str) -> Usage:
    return Usage(*(db.execute("SELECT pictures, n_bytes FROM usage WHERE visitor = ?", (visitor,)).fetchone() or (0, 0)))


def visitors(db: sqlite3.Connection) -> list[str]:
    return [row[0] for row in db.execute("SELECT visitor FROM usage WHERE visitor <> ''")]


def going(db: sqlite3.Connection, visitor: str) -> Iterator[tuple[str, str, str, int, bool, bool]]:
    """What goes first when room is needed, as (visitor, id, name, n_bytes, favourite, deleted): the trash, longest in it first,
    then the oldest that are no favourites. `visitor` may be ALL."""
    whose, values = ("", ()) if visitor == ALL else ("visitor = ? AND ", (visitor,))
    columns = "visitor, id, name, n_bytes, favourite, deleted_s IS NOT NULL"
    yield from db.execute(f"SELECT {columns} FROM picture WHERE {whose}deleted_s IS NOT NULL ORDER BY deleted_s, name", values)
    yield from db.execute(
        f"SELECT {columns} FROM picture WHERE {whose}deleted_s IS NULL AND favourite = 0 ORDER BY name", values
    )


def expired(db: sqlite3.Connection, before_s: float, *, count: int) -> list[tuple[str, str, str, bool]]:
    """(visitor, id, name, favourite) of what has been in the trash since before `before_s`."""
    rows = db.execute(
        "SELECT visitor, id, name, favourite FROM picture WHERE deleted_s < ? ORDER BY deleted_s LIMIT ?", (before_s, count)
    )
    return rows.fetchall()


def places(db: sqlite3.Connection, visitor: str) -> dict[str, tuple[str, bool, float | None]]:
    """id -> (name, favourite, deleted_s) of everything a visitor has."""
    rows = db.execute("SELECT id, name, favourite, deleted_s FROM picture WHERE visitor = ?", (visitor,))
    return {id: (name, bool(favourite), deleted_s) for id, name, favourite, deleted_s in rows}


# --- what is told ----------------------------------------------------------------------------------------------------


def insert(db: sqlite3.Connection, visitor: str, *, item: Item) -> None:
    """A row for `item`, in place of one that it may have already."""
    delete(db, visitor, id=item.id)
    request = item.request
    words = f"{request.prompt}\n{request.negative_prompt}".casefold()
    db.execute(
        "INSERT INTO picture VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (visitor, item.id, item.name, item.kind, item.action, item.created_s, request.to_json(), words, request.checkpoint,
         item.checkpoint_digest, item.has_negative, item.n_bytes, item.favourite, item.deleted_s),
    )  # fmt: skip
    db.executemany(
        "INSERT INTO descent VALUES (?, ?, ?, ?)",
        [(visitor, item.id, position, parent) for position, parent in enumerate(item.parents)],
    )


def place(db: sqlite3.Connection, visitor: str, *, id: str, name: str, favourite: bool, deleted_s: float | None) -> None:
    """Where the file of `id` lies now."""
    db.execute(
        "UPDATE picture SET name = ?, favourite = ?, deleted_s = ? WHERE visitor = ? AND id = ?",
        (name, favourite, deleted_s, visitor, id),
    )


def delete(db: sqlite3.Connection, visitor: str, *, id: str) -> None:
    db.execute("DELETE FROM picture WHERE visitor = ? AND id = ?", (visitor, id))


def forget(db: sqlite3.Connection, visitor: str) -> None:
    """Every row of a visitor."""
    db.execute("DELETE FROM picture WHERE visitor = ?", (visitor,))


def _item(row: tuple) -> Item:
    id, name, kind, action, created_s, request, digest, has_negative, n_bytes, favourite, deleted_s, parents = row
    return Item(
        id=id, name=name, kind=kind, action=action, created_s=created_s, request=GenerationRequest.from_json(request),
        parents=tuple(json.loads(parents)), checkpoint_digest=digest, has_negative=bool(has_negative), n_bytes=n_bytes,
        favourite=bool(favourite), deleted_s=deleted_s,
    )  # fmt: skip
