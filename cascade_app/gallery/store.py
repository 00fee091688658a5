"""Where finished pictures go: one PNG a picture, written to a temporary name, synced, then renamed.

The file is the truth: whatever is in the folder under its final name is whole.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from cascade_app.errors import RenderFailed
from cascade_app.events import Event, ImageReady, ImageSaved
from cascade_app.gallery.png import encode_png


class PictureStore:
    """A folder of pictures. It is made when the first one is saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, event: ImageReady) -> Path:
        """Write the picture and its request; returns once it is safely on disk.

        Raises:
            RenderFailed: the disk is full or the folder cannot be written.
        """
        data = encode_png(event.image, event.record)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return _write_durably(self.folder, _stem(event), data)
        except OSError as error:
            raise RenderFailed(
                f"The picture could not be saved: {error.strerror or error}. Free some space or set CASCADE_DATA_DIR."
            ) from error


def record(events: Iterable[Event], store: PictureStore) -> Iterator[Event]:
    """Pass `events` on; each finished picture is saved first and followed by its `ImageSaved`."""
    try:
        for event in events:
            if isinstance(event, ImageReady):
                yield from _saved(event, store)
            else:
                yield event
    finally:
        close = getattr(events, "close", None)
        if close:
            close()  # closing the outer generator must stop the engine now, not when it is collected


def _saved(event: ImageReady, store: PictureStore) -> Iterator[Event]:
    """Save before anyone sees the event: who leaves at the sight of the picture must not lose it."""
    try:
        saved = ImageSaved(event.index, event.seed, store.save(event), event.plan, event.record)
    except RenderFailed:
        yield event  # it can at least be looked at
        raise
    yield event
    yield saved


def _stem(event: ImageReady) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", event.plan.request.prompt.lower()).strip("-")[:40].strip("-")
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{words or 'picture'}-{event.seed}"


def _write_durably(folder: Path, stem: str, data: bytes) -> Path:
    handle, temporary = tempfile.mkstemp(prefix=".saving-", suffix=".tmp", dir=folder)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        path = _rename_to_free_name(Path(temporary), folder, stem)
        _sync_names(folder)
        return path
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _rename_to_free_name(temporary: Path, folder: Path, stem: str) -> Path:
    for number in range(1, 10_000):
        path = folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
        try:
            os.link(temporary, path)  # unlike rename, refuses to replace a picture that is already there
        except FileExistsError:
            continue
        except OSError:  # a file system without hard links: take the name first, then fill it
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                continue
            os.replace(temporary, path)
            return path
        os.unlink(temporary)
        return path
    raise FileExistsError(f"10,000 pictures are already named {stem}")


def _sync_names(folder: Path) -> None:
    """A new name is on disk only once its folder is."""
    with suppress(OSError):  # not every system lets a folder be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
