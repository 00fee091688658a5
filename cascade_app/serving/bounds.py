"""How much of the server one request may take: bytes of its body, room on the disk, connections that stay open.

    Bodies      a body that is too large, by its length or as it comes, ends with 413; an upload without room for it with 507
    Streams     a page keeps connections open to hear what happens; beyond so many, or so many of one address, 503

ASGI middleware. Knows nothing of what is in a body or a stream.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cascade_app.errors import CascadeError
from cascade_app.gallery.limits import size
from cascade_app.serving.addresses import address_in

UPLOADS = re.compile(r"/gradio_api/upload/?|/pictures/?")
STREAMS = re.compile(r"/gradio_api/(heartbeat/.*|queue/data/?|call/.*|stream/.*|upload_progress/?)")
CALLS = re.compile(r"/gradio_api/mcp/?")  # answered while the run goes on
_BODYLESS = ("GET", "HEAD", "OPTIONS")


class Bodies:
    """See the module. `room` raises a CascadeError where the disk has no room for so many bytes."""

    def __init__(self, app: ASGIApp, *, n_bytes: int, room: Callable[[int], None] = lambda n_bytes: None) -> None:
        self.app, self.n_bytes, self.room = app, n_bytes, room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        told = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else math.inf if length else 0
        if told > self.n_bytes:
            await self._too_large()(scope, receive, send)
            return
        if scope["method"] not in _BODYLESS and UPLOADS.fullmatch(scope["path"].removeprefix(scope.get("root_path") or "")):
            try:
                self.room(int(told))
            except CascadeError as error:
                await _refused(error.message, 507)(scope, receive, send)
                return
        await self._count(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, until more has come than may: whoever reads it is told that the client went, and the client why."""
        come, over, begun = 0, False, False

        async def receiving() -> Message:
            nonlocal come, over
            message = {"type": "http.disconnect"} if over else await receive()
            come += len(message.get("body", b""))
            if come > self.n_bytes:
                over = True
                return {"type": "http.disconnect"}
            return message

        async def sending(message: Message) -> None:
            nonlocal begun
            if not over or begun:
                begun = True
                await send(message)

        try:
            await self.app(scope, receiving, sending)
        except Exception:
            if not over:
                raise
        if over and not begun:
            await self._too_large()(scope, receive, send)

    def _too_large(self) -> JSONResponse:
        return _refused(f"This request is larger than {size(self.n_bytes)}, the limit.", 413)


class Streams:
    """See the module. `most` connections in all, `of_one` of an address, 0 for as many."""

    def __init__(self, app: ASGIApp, *, most: int, of_one: int = 0) -> None:
        self.app, self.most, self.of_one = app, most, of_one
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._stays(scope):
            await self.app(scope, receive, send)
            return
        address = address_in(scope)
        if sentence := self._refusal(address):
            await _refused(sentence, 503, **{"Retry-After": "30"})(scope, receive, send)
            return
        self._open[address] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    @property
    def open(self) -> int:
        """How many connections are kept open now."""
        return sum(self._open.values())

    def _stays(self, scope: Scope) -> bool:
        stays = {"GET": STREAMS, "POST": CALLS}.get(scope["method"])
        return stays is not None and stays.fullmatch(scope["path"].removeprefix(scope.get("root_path") or "")) is not None

    def _refusal(self, address: str) -> str:
        if 0 < self.most <= self.open:
            return f"{self.most} connections are open, as many as this server keeps. Close a tab, or try again in a minute."
        if 0 < self.of_one <= self._open[address]:
            return f"{self.of_one} connections are open from your network address, the limit. Close a tab, or wait a minute."
        return ""


def _refused(sentence: str, status: int, **headers: str) -> JSONResponse:
    return JSONResponse({"detail": sentence, "error": sentence}, status, headers=headers)
