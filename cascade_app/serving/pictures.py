"""Saved pictures over HTTP: routes of our own, each of which asks first whose the picture is.

    GET  pictures/<id>.png                 the file as it is; also .jpg and .webp, which keep the text part
    GET  pictures/<id>/plain.png           without prompts and settings; also .jpg and .webp
    GET  pictures/<id>/thumbnail.jpg
    GET  pictures/selection.zip?ids=a,b    several, each with its settings as JSON
    POST pictures                          a dropped file as the body: kept if it is ours, its settings read if not

The answer to a dropped file is JSON: `id` of the row (null where it was not kept), `source`, `values` for the form by their
names, `notes` in sentences; or `error`, a sentence, with 400, 403, 413 or 507. Nothing of it goes through Gradio's cache,
from where anyone who knows an address could fetch it.

`?download` makes the browser save instead of show. Somebody else's picture is answered like one that never was: 404, and the
same few bytes. `app_options` is what `Blocks.launch(app_kwargs=...)` takes. Knows nothing of Gradio or of the page.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from cascade_app.errors import GalleryError, InvalidRequest, NotInGallery, NoVisitor
from cascade_app.gallery.downloads import FORMATS, MEDIA_TYPES, as_format, zipped
from cascade_app.gallery.gallery import Album, Gallery
from cascade_app.gallery.intake import take_in
from cascade_app.gallery.limits import size
from cascade_app.gallery.reading import UploadLimits
from cascade_app.logs import explained
from cascade_app.serving.border import Border
from cascade_app.serving.failing import Failing
from cascade_app.serving.visitors import NOT_HERE, Visitors, visitor_asking

_log = logging.getLogger(__name__)
SELECTION_LIMIT = 500  # pictures in a zip
Answer = Callable[[Request], Response]
_SAFE = {
    "Cache-Control": "private, no-cache",  # kept by the browser, and asked about each time: it may have been deleted
    "Vary": "Cookie",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}


def app_options(
    gallery: Gallery, limits: UploadLimits | None = None, *, front: Sequence[Middleware] = ()
) -> dict[str, Any]:
    """Routes and middleware for the web application that serves the page.

    `limits` are those of dropped files; `front` is what requests pass before all of this (front.py).
    """
    pictures = Pictures(gallery, limits or UploadLimits())
    routes = [
        Route("/pictures", pictures.drop, methods=["POST"]),
        Route("/pictures/selection.zip", pictures.selection),
        Route("/pictures/{id}/thumbnail.jpg", pictures.thumbnail),
        Route("/pictures/{id}/plain.{suffix}", pictures.plain),
        Route("/pictures/{id}.{suffix}", pictures.picture),
    ]
    return {"routes": routes, "middleware": [Middleware(Failing), *front, Middleware(Visitors), Middleware(Border)]}


class Pictures:
    """The answers. Most are plain functions, so that they run beside the event loop and not in it."""

    def __init__(self, gallery: Gallery, limits: UploadLimits) -> None:
        self.gallery, self.limits = gallery, limits

    def picture(self, request: Request) -> Response:
        return self._one(request, as_format, mark="whole")

    def plain(self, request: Request) -> Response:
        return self._one(request, partial(as_format, plain=True), mark="plain")

    def thumbnail(self, request: Request) -> Response:
        try:
            album = self._album(request)
            item = album.get(request.path_params["id"])
            return _content(request, "jpg", etag=f"small-{item.name}", make=lambda: album.thumbnail(item.id))
        except (GalleryError, OSError) as error:
            return _cannot(error)

    def selection(self, request: Request) -> Response:
        """A zip of what of `ids` there is."""
        ids = dict.fromkeys(request.query_params.get("ids", "").split(",")[:SELECTION_LIMIT])
        try:
            paths = _paths(self._album(request), ids)
            first = next(paths, None)
        except GalleryError as error:
            return _cannot(error)
        if first is None:
            return _not_found()

        def rest() -> Iterator[Path]:
            yield first
            yield from paths

        headers = {**_SAFE, "Content-Disposition": 'attachment; filename="cascade-studio.zip"'}
        return StreamingResponse(zipped(rest()), media_type=MEDIA_TYPES["zip"], headers=headers)

    async def drop(self, request: Request) -> Response:
        """A file as the request's body. Only from our own page: another site must not put pictures into a gallery."""
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return _refused("Pictures are only taken from this page itself.", 403)
        data = bytearray()
        try:
            async for part in request.stream():
                data += part
                if len(data) > self.limits.n_bytes:
                    return _refused(f"The file is larger than {size(self.limits.n_bytes)}, the limit.", 413)
        except ClientDisconnect:
            return _refused("The file did not come in whole.", 400)  # nobody is there to read it
        try:
            taken = await run_in_threadpool(lambda: take_in(self._album(request), bytes(data), self.limits))
        except InvalidRequest as error:
            return _refused(error.message, 400)
        except NoVisitor as error:
            return _refused(error.message, 403)
        except GalleryError as error:
            return _refused(explained(error, _log, otherwise=error.message), 507)
        restored = taken.restored
        answer = {"id": taken.item.id if taken.item else None, "source": restored.source, "values": restored.values,
                  "notes": restored.notes}  # fmt: skip
        return JSONResponse(answer, headers=_SAFE)

    def _one(self, request: Request, make: Callable[[Path, str], bytes], *, mark: str) -> Response:
        id, suffix = request.path_params["id"], request.path_params["suffix"]
        try:
            album = self._album(request)
            item = album.get(id)  # before anything else: whether it is this visitor's
            if suffix not in FORMATS:
                return _not_found()
            return _content(
                request, suffix, etag=f"{mark}-{suffix}-{item.name}", name=f"{Path(item.name).stem.rpartition('-')[0]}.{suffix}",
                make=lambda: _again(album, id, lambda path: make(path, suffix)),
            )  # fmt: skip
        except (GalleryError, InvalidRequest, OSError) as error:
            return _cannot(error)

    def _album(self, request: Request) -> Album:
        return self.gallery.of(visitor_asking(request))


def _again(album: Album, id: str, make: Callable[[Path], bytes]) -> bytes:
    """`make` of the picture's file, once more if it was moved (to the trash, say) while it was opened."""
    try:
        return make(album.path(id))
    except FileNotFoundError:
        return make(album.path(id))


def _paths(album: Album, ids: Any) -> Iterator[Path]:
    for id in ids:
        try:
            yield album.path(id)
        except NotInGallery:
            continue


def _content(request: Request, suffix: str, *, etag: str, make: Callable[[], bytes], name: str = "") -> Response:
    """What `make` makes; nothing where the browser has it already. What a file's name stands for never changes."""
    headers = {**_SAFE, "ETag": f'"{etag}"'}
    if "download" in request.query_params and name:
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(make(), media_type=MEDIA_TYPES[suffix], headers=headers)


def _refused(sentence: str, status: int) -> Response:
    return JSONResponse({"error": sentence}, status, headers=_SAFE)


def _cannot(error: Exception) -> Response:
    """Not there for this visitor, or (the disk, the index, a file that somebody changed) not to be had now."""
    if isinstance(error, (NotInGallery, NoVisitor)):
        return _not_found()
    _log.error("A picture could not be served", exc_info=error)
    return PlainTextResponse("This picture cannot be read now; try again in a moment.", 503, headers=_SAFE)


def _not_found() -> Response:
    return PlainTextResponse(NOT_HERE, 404, headers=_SAFE)
