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
        data = encode_png(event.image, event.plan, event.seed)
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
            yield event
            if isinstance(event, ImageReady):
                yield ImageSaved(event.index, event.seed, store.save(event), event.plan)
    finally:
        close = getattr(events, "close", None)
        if close:
            close()  # closing the outer generator must stop the engine now, not when it is collected


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
        return _rename_to_free_name(Path(temporary), folder, stem)
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
        os.unlink(temporary)
        return path
    raise FileExistsError(f"10,000 pictures are already named {stem}")
