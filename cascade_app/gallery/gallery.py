"""The gallery: every visitor's pictures and sketches, kept as files, looked up in an index that can be made again from them.

    gallery = Gallery(folder, limits)      one a process
    gallery.open()                         migrates the index, brings it in line with the files
    album = gallery.of(visitor)            one visitor's pictures; `visitor` comes from serving/visitors.py
    record(backend.generate(request), album)            saves each picture as it is finished (store.py)
    album.page(Query(search="boat"))       -> Shelf(items, after): newest first; the next page with Query(after=shelf.after)
    album.get(id), .record(id)             -> Item (shown), Record (its negative too, read from the file)
    album.parents(id), .children(id)       -> Items; walk the tree with them
    album.favourite(id, True), .delete([id]), .restore([id]), .purge([id]), .empty_trash()
    album.checkpoints(), .usage(), .what_would_go(pictures=4, n_bytes=8_000_000).sentence
    album.path(id), .thumbnail(id)         -> Path, bytes, for serving/pictures.py; the page links Item.url, .thumbnail_url
    gallery.rebuild()                      the index anew, from the files alone

There is no way to ask for a picture without saying whose: all of an `Album`'s answers are about its visitor, and an id of
somebody else's is answered like one that never was, by NotInGallery. The file comes first and the row after, the other way
round when something goes; every change of a file that exists is made while holding the index's write lock, so that two
processes never move the same file. What is inside a file is png.py's business, where it lies files.py's.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from cascade_app.errors import GalleryError, GalleryFull, InvalidRequest, NotInGallery
from cascade_app.events import ImageReady
from cascade_app.gallery import downloads, files, index
from cascade_app.gallery.index import Index
from cascade_app.gallery.item import Item, Query, Shelf, Usage, item_of
from cascade_app.gallery.limits import Candidate, Departure, Limits, check_disk, departure, to_go
from cascade_app.gallery.png import encode_png, read_record
from cascade_app.record import Record, is_id

INDEX_NAME = "index.sqlite3"
PAGE, CHILDREN = 60, 200  # items at most in an answer
PURGED_AT_ONCE = 50  # of what is too long in the trash, whenever something is saved; the rest at the next start
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconciled:
    """What `open` or `rebuild` found: rows made for files, rows dropped that had no file, files that hold no record."""

    added: int = 0
    moved: int = 0
    dropped: int = 0
    unreadable: tuple[Path, ...] = ()


class Gallery:
    """All visitors' pictures, in `folder`; nothing is touched before `open`."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        self.folder = folder
        self.limits = limits or Limits()
        self.index = Index(folder / INDEX_NAME)
        self._opening = threading.RLock()

    def open(self) -> Reconciled:
        """Make what is missing, migrate, and bring the index in line with the files; cheap where they agree.

        Raises:
            GalleryError: the folder cannot be used, or a later version of Cascade Studio wrote its index.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the index holds every visitor's prompts
        except OSError as error:
            raise _unusable(error) from error
        self.index.open()
        if self.index.moved_aside:
            _log.warning("The gallery's index was damaged and is made again; the old one is %s", self.index.moved_aside)
        return self._reconcile(afresh=False)

    def rebuild(self) -> Reconciled:
        """Make the index again from the files alone."""
        return self._reconcile(afresh=True)

    def clear_abandoned(self) -> None:
        """Remove what processes left that were killed while saving, once nobody can still be writing it."""
        for visitor in files.visitors(self.folder):
            self.of(visitor)._clear_abandoned()

    def close(self) -> None:
        self.index.close()

    def of(self, visitor: str) -> Album:
        """One visitor's pictures. `visitor` is 32 hexadecimal digits, see serving/visitors.py.

        Raises:
            GalleryError: somebody removed the index or all of the folder, and it cannot be made again.
        """
        if not files.is_visitor(visitor):
            raise ValueError("a visitor is named by 32 hexadecimal digits")
        if self.index.vanished:
            with self._opening:
                if self.index.vanished:
                    _log.warning("The gallery's index was removed and is made again from the files")
                    self.open()
        return Album(self, visitor)

    def check_room(self, n_bytes: int = 0) -> None:
        """Whether the disk has room for `n_bytes` more. Raises GalleryFull where it has not."""
        with suppress(OSError):  # a folder that cannot be looked at cannot be written either, which `add` says
            check_disk(shutil.disk_usage(self.folder).free, n_bytes, self.limits)

    def _reconcile(self, *, afresh: bool) -> Reconciled:
        with self.index.read() as db:
            known = index.visitors(db)
        total = Reconciled()
        for visitor in sorted({*known, *files.visitors(self.folder)}):
            one = self.of(visitor)._reconcile(afresh=afresh)
            total = Reconciled(
                total.added + one.added, total.moved + one.moved, total.dropped + one.dropped, total.unreadable + one.unreadable
            )
        for path in total.unreadable:  # named by its id alone: the rest of the name are words of a prompt
            _log.warning("The picture %s holds no record that can be read; it is left alone and not shown", path.stem[-32:])
        self._purge_expired(count=-1)
        return total

    def _purge_expired(self, *, count: int = PURGED_AT_ONCE) -> None:
        with self.index.read() as db:
            old = index.expired(db, time.time() - self.limits.trash_s, count=count)
        for visitor, id, _name, _favourite in old:
            self.of(visitor).purge([id])


@dataclass(frozen=True)
class Album:
    """One visitor's pictures. Every method that takes an id raises NotInGallery where the visitor has none of that id."""

    gallery: Gallery
    visitor: str

    @property
    def home(self) -> Path:
        return self.gallery.folder / self.visitor

    @property
    def _index(self) -> Index:
        return self.gallery.index

    # --- keeping ---

    def save(self, event: ImageReady) -> Path:
        """Keep a finished picture; returns where it lies once it is safely on disk. Raises like `add`."""
        item = self.add(event.image, event.record)
        return self._path(item)

    def add(self, image: Image.Image, record: Record) -> Item:
        """Keep `image`; the oldest go where limits ask for it.

        Raises:
            GalleryFull: a limit is reached and only favourites are left.
            GalleryError: the disk is full or the folder cannot be written.
        """
        data = encode_png(image, record)
        self._make_room(len(data))
        name = files.file_name(record, time.time())
        try:
            files.write(self.home / name, data)
        except OSError as error:
            raise GalleryError(
                f"The picture could not be saved: {error.strerror or error}. Free some space or set CASCADE_DATA_DIR."
            ) from error
        item = item_of(record, name=name, n_bytes=len(data))
        with self._index.write() as db:
            before = index.get(db, self.visitor, id=item.id)
            index.insert(db, self.visitor, item=item)
            if before is not None and before.name != name:
                files.remove(self._path(before))
        self.gallery._purge_expired()
        return item

    def what_would_go(self, *, n_bytes: int, pictures: int = 1) -> Departure:
        """What of this visitor's would be removed for good to keep `pictures` more, of `n_bytes` together."""
        try:
            return departure(self._to_go(pictures=pictures, n_bytes=n_bytes), self.visitor)
        except GalleryFull as error:
            return Departure(sentence=error.message, fits=False)

    def _to_go(self, *, pictures: int, n_bytes: int) -> list[Candidate]:
        with self._index.read() as db:
            return to_go(
                self.visitor, self.gallery.limits, pictures=pictures, n_bytes=n_bytes,
                used=index.usage(db, self.visitor), used_by_all=index.usage(db, index.ALL),
                candidates=lambda visitor: (Candidate(*row) for row in index.going(db, visitor)),
            )  # fmt: skip

    def _make_room(self, n_bytes: int) -> None:
        for one in self._to_go(pictures=1, n_bytes=n_bytes):
            self.gallery.of(one.visitor).purge([one.id], only_if=one)
        self.gallery.check_room(n_bytes)

    # --- looking ---

    def page(self, query: Query | None = None, *, count: int = PAGE) -> Shelf:
        """At most `count` items, newest first."""
        query, count = query or Query(), min(max(count, 1), PAGE)
        with self._index.read() as db:
            items = index.page(db, self.visitor, query=query, count=count + 1)
        more = len(items) > count
        return Shelf(tuple(items[:count]), items[count - 1].name if more else "")

    def get(self, id: str) -> Item:
        """One item, in the trash or not."""
        with self._index.read() as db:
            item = index.get(db, self.visitor, id=id) if is_id(id) else None
        if item is None:
            raise NotInGallery("This picture is not in your gallery; it may have been removed for good.")
        return item

    def path(self, id: str) -> Path:
        """Where the file of `id` lies."""
        path = self._path(self.get(id))
        if not path.is_file():  # somebody moved it by hand, or removed it: look again
            gone = self._reconcile(afresh=False).dropped
            if gone:
                _log.warning("Files of the gallery have vanished, of %d pictures; they are not shown any more", gone)
            path = self._path(self.get(id))
        return path

    def record(self, id: str) -> Record:
        """The whole record, its negative included, from the file."""
        return read_record(self.path(id))

    def thumbnail(self, id: str) -> bytes:
        """A small JPEG of `id`, made when it is first asked for."""
        small = files.thumbnail_path(self.home, self.get(id).id)
        with suppress(FileNotFoundError):
            return small.read_bytes()
        data = downloads.thumbnail(self.path(id))
        with suppress(OSError):  # a full disk: it is made again next time
            files.write(small, data, durably=False)
        return data

    def parents(self, id: str) -> tuple[Item, ...]:
        """What `id` was made from, as far as it is still here."""
        with self._index.read() as db:
            item = index.get(db, self.visitor, id=id) if is_id(id) else None
            found = [index.get(db, self.visitor, id=parent) for parent in (item.parents if item else ())]
        return tuple(one for one in found if one is not None)

    def children(self, id: str, *, count: int = CHILDREN) -> tuple[Item, ...]:
        """What was made from `id`, oldest first, without what is in the trash; `id` itself may be gone."""
        with self._index.read() as db:
            return tuple(index.children(db, self.visitor, id=id, count=min(count, CHILDREN)))

    def checkpoints(self) -> list[str]:
        """The checkpoints that made what is shown."""
        with self._index.read() as db:
            return index.checkpoints(db, self.visitor)

    def usage(self) -> Usage:
        """What this visitor keeps, the trash included."""
        with self._index.read() as db:
            return index.usage(db, self.visitor)

    # --- changing ---

    def favourite(self, id: str, on: bool) -> Item:
        """Put a star on it, or take it off."""
        return self._change(id, favourite=on)

    def delete(self, ids: Iterable[str]) -> list[Item]:
        """To the trash."""
        return [self._change(id, deleted=True) for id in ids]

    def restore(self, ids: Iterable[str]) -> list[Item]:
        """Back from the trash, as they were."""
        return [self._change(id, deleted=False) for id in ids]

    def purge(self, ids: Iterable[str], *, only_if: Candidate | None = None) -> None:
        """For good, from the trash or from anywhere; `only_if` it is still as that says."""
        for id in ids:
            with self._index.write() as db:
                item = index.get(db, self.visitor, id=id)
                if item is None:
                    continue
                if only_if and (item.favourite, item.deleted_s is not None) != (only_if.favourite, only_if.deleted):
                    continue
                files.remove(self._path(item))
                files.remove(files.thumbnail_path(self.home, id))
                index.delete(db, self.visitor, id=id)

    def empty_trash(self) -> int:
        """Everything in the trash, for good; returns how many."""
        count = 0
        while items := self.page(Query(trash=True)).items:
            self.purge([item.id for item in items])
            count += len(items)
        return count

    def _change(self, id: str, *, favourite: bool | None = None, deleted: bool | None = None) -> Item:
        """Move the file, then the row, with the write lock held."""
        with self._index.write() as db:
            item = index.get(db, self.visitor, id=id) if is_id(id) else None
            if item is None:
                raise NotInGallery("This picture is not in your gallery; it may have been removed for good.")
            was_deleted = item.deleted_s is not None
            favourite, deleted = item.favourite if favourite is None else favourite, was_deleted if deleted is None else deleted
            if (favourite, deleted) == (item.favourite, was_deleted):
                return item
            now_s = float(int(time.time()))  # whole seconds: every file system keeps those
            new = replace(item, favourite=favourite, deleted_s=(item.deleted_s if was_deleted else now_s) if deleted else None)
            try:
                files.move(self._path(item), self._path(new), at_s=new.deleted_s)
            except OSError as error:
                raise _unusable(error) from error
            index.place(db, self.visitor, id=id, name=new.name, favourite=new.favourite, deleted_s=new.deleted_s)
            return new

    def _path(self, item: Item) -> Path:
        return files.path_of(self.home, item.name, favourite=item.favourite, deleted=item.deleted_s is not None)

    # --- the index and the files ---

    def rebuild(self) -> Reconciled:
        """This visitor's part of the index again, from the files alone."""
        return self._reconcile(afresh=True)

    def _reconcile(self, *, afresh: bool) -> Reconciled:
        """Rows are read before files are looked for, and no file is moved meanwhile: what has a row and no file is gone."""
        self._clear_abandoned()
        added = moved = 0
        unreadable = []
        with self._index.write() as db:
            if afresh:
                index.forget(db, self.visitor)
            rows = index.places(db, self.visitor)
            for found in {one.id: one for one in sorted(files.scan(self.home), key=lambda one: one.name)}.values():
                state = (found.name, found.favourite, found.deleted_s)
                row = rows.pop(found.id, None)
                if row is None:
                    item = _item_of_file(found)
                    if item is None:
                        unreadable.append(found.path)
                        continue
                    index.insert(db, self.visitor, item=item)
                    added += 1
                elif row != state:
                    index.place(db, self.visitor, id=found.id, name=state[0], favourite=state[1], deleted_s=state[2])
                    moved += 1
            for id in rows:
                index.delete(db, self.visitor, id=id)
        return Reconciled(added, moved, len(rows), tuple(unreadable))

    def _clear_abandoned(self) -> None:
        for folder in (self.home, files.thumbnail_path(self.home, "").parent):
            files.clear_abandoned(folder)


def _item_of_file(found: files.Found) -> Item | None:
    try:
        record = read_record(found.path)
        n_bytes = found.path.stat().st_size
    except (InvalidRequest, OSError):
        return None
    if record.id != found.id:
        return None
    item = item_of(record, name=found.name, n_bytes=n_bytes)
    return replace(item, favourite=found.favourite, deleted_s=found.deleted_s)


def _unusable(error: OSError) -> GalleryError:
    return GalleryError(f"The gallery's folder cannot be used: {error.strerror or error}. Set CASCADE_DATA_DIR to one that can.")
