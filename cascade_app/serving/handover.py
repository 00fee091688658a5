"""What a call of the API takes with it: its pictures, for a while, where Gradio's own file route may serve them.

A caller who is a visitor, because the call carries the page's cookie or a login, finds them in the gallery too, and nobody
else may fetch these files: the folder's name says whose they are, and the `Visitors` middleware asks. A caller who is nobody
keeps no gallery; the files then lie under a name of 128 random bits, for whoever was told it. All are removed after an hour.
Knows nothing of endpoints.
"""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade_app.errors import NoVisitor, RenderFailed
from cascade_app.events import ImageReady
from cascade_app.gallery.gallery import Album, Gallery
from cascade_app.gallery.png import encode_png
from cascade_app.serving.visitors import HANDED_PREFIX, handed_name, visitor_of

KEPT_S = 3600


@dataclass(frozen=True)
class HandOver:
    """Where `gallery.store.record` puts the pictures of one call. `cache` is Gradio's folder of files."""

    album: Album | None
    cache: Path

    def save(self, event: ImageReady) -> Path:
        """Keep the picture in the caller's gallery, if there is one; returns the copy that is handed over.

        Raises:
            GalleryError, RenderFailed: it could not be written.
        """
        if self.album is not None:
            saved = self.album.save(event)
            data, name = saved.read_bytes(), saved.name
        else:
            data, name = encode_png(event.image, event.record), f"cascade-studio-{event.seed}.png"
        folder = self.cache / handed_name(self.album.visitor if self.album else None)
        try:
            folder.mkdir(parents=True)
            (folder / name).write_bytes(data)
        except OSError as error:
            raise RenderFailed(f"The picture could not be handed over: {error.strerror or error}. Free some space.") from error
        return folder / name


def hand_over(gallery: Gallery, http: Any, cache: Path) -> HandOver:
    """For the call that came as `http` (`gr.Request`). Removes what was handed over long ago."""
    for old in cache.glob(f"{HANDED_PREFIX}*"):
        with suppress(OSError):
            if old.stat().st_mtime < time.time() - KEPT_S:
                shutil.rmtree(old)
    try:
        return HandOver(gallery.of(visitor_of(http)), cache)
    except NoVisitor:
        return HandOver(None, cache)
