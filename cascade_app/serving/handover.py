"""What a call of the API takes with it: its pictures, for a while, where Gradio's own file route may serve them, and at an
address of ours that tells nothing of this machine's folders, GET made/<folder>/<name>.

A caller who is a visitor, because the call carries the page's cookie or a login, finds them in the gallery too, and nobody
else may fetch these files: the folder's name says whose they are, and the `Visitors` middleware asks. A caller who is nobody
keeps no gallery; the files then lie under a name of 128 random bits, for whoever was told it. All are removed after an hour.
Knows nothing of endpoints.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from cascade_app.errors import NoVisitor, RenderFailed
from cascade_app.events import ImageReady
from cascade_app.gallery.gallery import Album, Gallery
from cascade_app.gallery.png import encode_png
from cascade_app.serving.visitors import HANDED_PREFIX, NOT_HERE, handed_name, handed_to, visitor_asking, visitor_of

KEPT_S = 3600
_ADDRESS = re.compile(rf"/made/(?P<folder>{HANDED_PREFIX}[0-9a-f-]+)/(?P<name>[^/?#]+)$")
_SAFE = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}


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


def address_of(path: Path) -> str:
    """Where the copy that `HandOver.save` returned is fetched."""
    return f"/made/{path.parent.name}/{quote(path.name)}"


def file_at(address: str, visitor: str | None, cache: Path) -> Path | None:
    """The file at such an address, or at a whole URL of one, if it is still there and `visitor` may have it."""
    match = _ADDRESS.search(address)
    if match is None or not handed_to(match["folder"], visitor):
        return None
    path = cache / match["folder"] / unquote(match["name"])
    try:
        return path if path.parent.name == match["folder"] and path.is_file() else None
    except (OSError, ValueError):  # a name no file system takes
        return None


def made_route(cache: Callable[[], Path]) -> Route:
    """`GET /made/<folder>/<name>`. Whether the caller may have it was asked by the `Visitors` middleware already."""

    def answer(request: Request) -> Response:
        try:
            visitor = visitor_asking(request)
        except NoVisitor:
            visitor = None
        path = file_at(request.url.path, visitor, cache())
        if path is None:
            return PlainTextResponse(NOT_HERE, 404)
        return FileResponse(path, media_type="image/png", headers=_SAFE)

    return Route("/made/{folder}/{name}", answer)


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
