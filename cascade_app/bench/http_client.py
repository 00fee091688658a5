"""As much of an HTTP client as many visitors in one process need: JSON calls and event streams over asyncio, a connection each.

Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

LIMIT_S = 120  # for an answer that is no stream


class HttpError(Exception):
    """The other side does not speak HTTP as expected."""


class Http:
    """A visitor's way to one server. `headers` go with every request."""

    def __init__(self, host: str, port: int, *, headers: dict[str, str] | None = None) -> None:
        self.host, self.port, self.headers = host, port, dict(headers or {})

    async def ask(self, method: str, target: str, value: Any = None) -> tuple[int, dict[str, str], bytes]:
        """One request and its whole answer: status, headers by their names in lower case, body."""
        return await asyncio.wait_for(self._ask(method, target, value), LIMIT_S)

    async def _ask(self, method: str, target: str, value: Any) -> tuple[int, dict[str, str], bytes]:
        reader, writer = await self._send(method, target, value)
        try:
            status, headers = await _head(reader)
            return status, headers, b"".join([part async for part in _body(reader, headers)])
        finally:
            writer.close()

    @asynccontextmanager
    async def stream(self, target: str) -> AsyncIterator[AsyncIterator[str]]:
        """The messages of an event stream, as they come. Leaving it closes the connection.

        Raises:
            HttpError: there is no stream.
        """
        reader, writer = await self._send("GET", target, None)
        try:
            status, headers = await asyncio.wait_for(_head(reader), LIMIT_S)
            if status != 200:
                raise HttpError(f"HTTP {status} in place of a stream")
            yield _messages(reader, headers)
        finally:
            writer.close()

    async def _send(self, method: str, target: str, value: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        body = b"" if value is None else json.dumps(value).encode()
        headers = {**self.headers, "Host": f"{self.host}:{self.port}", "Connection": "close", "Content-Length": str(len(body))}
        if body:
            headers["Content-Type"] = "application/json"
        lines = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
        writer.write(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        await writer.drain()
        return reader, writer


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    first = (await reader.readline()).split()
    if len(first) < 2:
        raise HttpError("the connection was closed without an answer")
    headers: dict[str, str] = {}
    while (line := (await reader.readline()).strip()) != b"":
        name, _, text = line.decode("latin-1").partition(":")
        headers[name.lower()] = text.strip()
    return int(first[1]), headers


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    """The body in the pieces it was sent in."""
    if headers.get("transfer-encoding", "").lower() != "chunked":
        yield await (reader.readexactly(int(headers["content-length"])) if "content-length" in headers else reader.read())
        return
    while size := int((await reader.readline()).split(b";")[0] or b"0", 16):
        yield await reader.readexactly(size)
        await reader.readline()


async def _messages(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[str]:
    """Server-sent events, each as its lines."""
    held = b""
    async for part in _body(reader, headers):
        held += part
        *whole, held = held.split(b"\n\n")
        for one in whole:
            yield one.decode("utf-8", "replace")
