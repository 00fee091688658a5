"""The index's tables, as numbered steps: step n takes a database from version n - 1 to n, whole or not at all.

A step that was published is never edited; what it got wrong, a later one puts right. A program refuses a database of a later
version than its own. Knows nothing of what the rows mean.
"""

from __future__ import annotations

import sqlite3

from cascade_app.errors import GalleryError

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (  # 1: pictures and where they come from
        """CREATE TABLE picture (
            visitor TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, action TEXT NOT NULL,
            created_s REAL NOT NULL, request TEXT NOT NULL, words TEXT NOT NULL, checkpoint TEXT NOT NULL, digest TEXT NOT NULL,
            has_negative INTEGER NOT NULL, n_bytes INTEGER NOT NULL, favourite INTEGER NOT NULL DEFAULT 0, deleted_s REAL,
            PRIMARY KEY (visitor, id))""",
        """CREATE TABLE descent (
            visitor TEXT NOT NULL, child TEXT NOT NULL, position INTEGER NOT NULL, parent TEXT NOT NULL,
            PRIMARY KEY (visitor, child, position)) WITHOUT ROWID""",
        "CREATE INDEX descent_by_parent ON descent (visitor, parent)",
        """CREATE TRIGGER descent_ends AFTER DELETE ON picture BEGIN
            DELETE FROM descent WHERE visitor = old.visitor AND child = old.id; END""",
        "CREATE INDEX shown ON picture (visitor, name) WHERE deleted_s IS NULL",
        "CREATE INDEX trashed ON picture (visitor, name) WHERE deleted_s IS NOT NULL",
        "CREATE INDEX favoured ON picture (visitor, name) WHERE deleted_s IS NULL AND favourite = 1",
        "CREATE INDEX by_kind ON picture (visitor, kind, name) WHERE deleted_s IS NULL",
        "CREATE INDEX by_checkpoint ON picture (visitor, checkpoint, name) WHERE deleted_s IS NULL",
    ),
    (  # 2: what limits look at: sums kept by the database itself, and the oldest of all visitors
        "CREATE TABLE usage (visitor TEXT PRIMARY KEY, pictures INTEGER NOT NULL, n_bytes INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO usage SELECT visitor, count(*), sum(n_bytes) FROM picture GROUP BY visitor",
        "INSERT INTO usage SELECT '', count(*), coalesce(sum(n_bytes), 0) FROM picture",
        """CREATE TRIGGER usage_grows AFTER INSERT ON picture BEGIN
            INSERT INTO usage VALUES (new.visitor, 1, new.n_bytes), ('', 1, new.n_bytes)
            ON CONFLICT DO UPDATE SET pictures = pictures + 1, n_bytes = n_bytes + excluded.n_bytes; END""",
        """CREATE TRIGGER usage_shrinks AFTER DELETE ON picture BEGIN
            UPDATE usage SET pictures = pictures - 1, n_bytes = n_bytes - old.n_bytes WHERE visitor IN (old.visitor, '');
            DELETE FROM usage WHERE visitor = old.visitor AND pictures = 0; END""",
        "CREATE INDEX oldest ON picture (name) WHERE deleted_s IS NULL AND favourite = 0",
        "CREATE INDEX oldest_of_visitor ON picture (visitor, name) WHERE deleted_s IS NULL AND favourite = 0",
        "CREATE INDEX longest_trashed ON picture (deleted_s, name) WHERE deleted_s IS NOT NULL",
        "CREATE INDEX longest_trashed_of_visitor ON picture (visitor, deleted_s, name) WHERE deleted_s IS NOT NULL",
    ),
)
VERSION = len(MIGRATIONS)


def migrate(db: sqlite3.Connection, *, upto: int = VERSION) -> None:
    """Bring `db` (in autocommit mode) to version `upto`, each step in a transaction of its own.

    Raises:
        GalleryError: it was written by a later Cascade Studio.
    """
    while True:
        db.execute("BEGIN IMMEDIATE")  # before looking: another process may be doing the same
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise GalleryError(
                    f"The gallery's index has version {version} and this Cascade Studio knows up to {VERSION}: a later one wrote "
                    "it. Update Cascade Studio, or set CASCADE_DATA_DIR to another folder."
                )
            if version >= upto:
                db.execute("COMMIT")
                return
            for statement in MIGRATIONS[version]:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {version + 1}")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
