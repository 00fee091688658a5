"""The gallery's files: their names, where they lie, and how they get there so that a name always means a whole picture.

    FOLDER/<visitor>/                   pictures and sketches
    FOLDER/<visitor>/favourites/        favourites
    FOLDER/<visitor>/trash/             deleted, and still to be had back; the file's time says since when
    FOLDER/<visitor>/trash/favourites/  the same for favourites
    FOLDER/<visitor>/thumbnails/        made when first asked for, and again when missing

Where a file lies is the whole of its state, so that the index can be made again from the files alone, and a rename changes
it at once or not at all. A name holds when the picture came (UTC, which is the gallery's order), its words, its seed and its
record's id. Knows nothing of rows or of what is inside a file.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cascade_app.record import Record

TEMPORARY = ".saving-"
ABANDONED_S = 3600  # a temporary file that old belongs to nobody
# place -> (favourite, deleted)
PLACES = {"": (False, False), "favourites": (True, False), "trash": (False, True), "trash/favourites": (True, True)}
PLACE_OF = {state: place for place, state in PLACES.items()}
_NAME = re.compile(r"\d{8}-\d{6}-\d{3}-[a-z0-9-]*-(?P<id>[0-9a-f]{32})\.png")
_VISITOR = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Found:
    """A picture's file in a visitor's folder. `deleted_s` is None outside the trash."""

    id: str
    name: str
    path: Path
    favourite: bool
    deleted_s: float | None


def file_name(record: Record, added_s: float) -> str:
    """The name of a picture that came at `added_s`; names sort like times."""
    words = re.sub(r"[^a-z0-9]+", "-", record.request.prompt.lower()).strip("-")[:40].strip("-")
    moment = datetime.fromtimestamp(added_s, timezone.utc)
    stamp = f"{moment:%Y%m%d-%H%M%S}-{moment.microsecond // 1000:03d}"
    return f"{stamp}-{words or record.kind}-{record.request.seed or 0}-{record.id}.png"


def is_visitor(name: str) -> bool:
    return _VISITOR.fullmatch(name) is not None


def visitors(folder: Path) -> list[str]:
    """Everyone who has a folder here."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if is_visitor(entry.name) and entry.is_dir())
    return []


def path_of(home: Path, name: str, *, favourite: bool, deleted: bool) -> Path:
    """Where a file of that state lies; `home` is the visitor's folder."""
    return home / PLACE_OF[favourite, deleted] / name


def scan(home: Path) -> Iterator[Found]:
    """Every finished picture of a visitor, by name alone: no file is opened."""
    for place, (favourite, deleted) in PLACES.items():
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(home / place) as entries:
            for entry in entries:
                match = _NAME.fullmatch(entry.name)
                if match and entry.is_file(follow_symlinks=False):
                    deleted_s = entry.stat().st_mtime if deleted else None
                    yield Found(match["id"], entry.name, Path(entry.path), favourite, deleted_s)


def write(path: Path, data: bytes, *, durably: bool = True) -> None:
    """Put `data` at `path`, whole or not at all, replacing an older file; `durably`, it is on the disk when this returns."""
    _make(path.parent)
    handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durably:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durably:
            _sync_names(path.parent)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_names(path.parent)


def move(old: Path, new: Path, *, at_s: float | None = None) -> None:
    """Rename durably; `at_s` becomes the file's time first, so that it is never in the trash without one."""
    _make(new.parent)
    if at_s is not None:
        os.utime(old, (at_s, at_s))
    os.replace(old, new)
    for folder in {old.parent, new.parent}:
        _sync_names(folder)


def thumbnail_path(home: Path, id: str) -> Path:
    return home / "thumbnails" / f"{id}.jpg"


def remove(path: Path) -> None:
    """Delete for good; a file that is gone already is fine."""
    with suppress(FileNotFoundError):
        path.unlink()


def clear_abandoned(folder: Path) -> None:
    """Remove what a process left that was killed while saving, once nobody can still be writing it."""
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(TEMPORARY):
                with suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < time.time() - ABANDONED_S:
                        os.unlink(entry.path)


def _make(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        for above in list(folder.parents)[:2]:
            _sync_names(above)


def _sync_names(folder: Path) -> None:
    """A new name is on disk only once its folder is."""
    with suppress(OSError):  # not every system lets a folder be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
