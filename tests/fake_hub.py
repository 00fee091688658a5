"""A small hub on loopback: the two endpoints a download asks, with ranges, redirects and faults on demand."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """What it holds, what was asked of it, and what is to go wrong.

    Attributes:
        files: (repository, path) to content. Files of 1,000 bytes and more are "large": named by SHA-256 and redirected.
        break_after: close the connection after so many bytes of a large file; each entry is used once.
        status: answer everything with this status, and `error_code` in the hub's header.
        ranges: the Range headers that were asked, None where there was none.
    """

    files: dict[tuple[str, str], bytes] = field(default_factory=dict)
    break_after: list[int] = field(default_factory=list)
    status: int = 0
    error_code: str = ""
    knows_ranges: bool = True
    spoils: bool = False
    tokens: set[str | None] = field(default_factory=set)
    ranges: list[str | None] = field(default_factory=list)
    sent_bytes: int = 0
    url: str = ""


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve `hub` at `hub.url`."""

    class Handler(_Handler):
        world = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    world: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""

    def _answer(self, *, body: bool) -> None:
        world = self.world
        world.tokens.add(self.headers.get("Authorization"))
        if world.status:
            return self._refuse(world.status, world.error_code)
        where, _, path = self.path.partition("/resolve/main/")
        stored = self.path.startswith("/stored")
        content = world.files.get((where.removeprefix("/stored").lstrip("/"), path))
        if content is None:
            return self._refuse(404, "EntryNotFound")
        if len(content) < 1000:
            etag = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            return self._send(content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, body=body)
        if not stored:
            linked = {"X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Linked-Size": str(len(content))}
            host = world.url.replace("127.0.0.1", "localhost")  # another host, as the hub's own storage is
            moved = {"Location": f"{host}/stored{self.path}", "Content-Length": "0"}
            return self._head(302, {**linked, **moved, "X-Repo-Commit": COMMIT})
        return self._send_large(content)

    def _send_large(self, content: bytes) -> None:
        world, asked = self.world, self.headers.get("Range")
        world.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and world.knows_ranges else 0
        rest = content[start:]
        headers = {"Content-Length": str(len(rest))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._head(206 if start else 200, headers)
        cut = world.break_after.pop(0) if world.break_after else len(rest)
        sent = rest[:cut]
        self.wfile.write(bytes(len(sent)) if world.spoils else sent)
        world.sent_bytes += len(sent)
        if len(sent) < len(rest):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self._head(200, {**headers, "Content-Length": str(len(content))})
        if body:
            self.wfile.write(content)

    def _refuse(self, status: int, code: str) -> None:
        self._head(status, {"X-Error-Code": code, "X-Repo-Commit": COMMIT, "Content-Length": "0"})

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
