"""A client that sends whatever bytes it is given, keeps what came back, and judges it: what no answer of this server may be."""

from __future__ import annotations

import http.client
import json
import re
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120  # for an answer to be whole
MARKER = "zebrafinch-in-a-file"  # stands in files that no caller may read
_TRACES = re.compile(
    r'Traceback \(most recent|File \\?"[^"]{1,300}\.py|site-packages|\.pyenv|root:x:0|Exception in ASGI'
)


@dataclass(frozen=True)
class Answer:
    """`status` is 0 where the server closed the connection without a word."""

    status: int
    headers: str
    text: str


@dataclass
class Wire:
    """Connections to one server, and a count of what was sent over them.

    own: names of the server's folders that no answer may hold.
    """

    port: int
    own: Sequence[str]
    cookie: str = ""
    calls: Counter = field(default_factory=Counter)
    statuses: Counter = field(default_factory=Counter)
    _socket: socket.socket | None = None

    def connect(self, timeout_s: float = 60) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout_s)

    def send(
        self, kind: str, raw: bytes, *, method: str = "GET", may_close: bool = False, listen: bool = True
    ) -> Answer:
        """One request as it is; its answer, judged.

        may_close: the server may close the connection without a word, because this is no HTTP.
        listen: wait for an event stream to end.
        """
        answer = self._exchange(raw, method, listen=listen)
        self.calls[kind] += 1
        self.statuses[answer.status] += 1
        self.judge(answer, raw)
        assert answer.status or may_close, f"no answer to {raw[:300]!r}"
        return answer

    def request(
        self, kind: str, method: str, target: str, body: bytes = b"", *, headers: str = "", listen: bool = True
    ) -> Answer:
        """A well-formed request for `target`."""
        return self.send(kind, self.written(method, target, body, headers=headers), method=method, listen=listen)

    def written(self, method: str, target: str, body: bytes = b"", *, headers: str = "") -> bytes:
        length = f"Content-Length: {len(body)}\r\n" if body or method in ("POST", "PUT", "PATCH") else ""
        cookie = f"Cookie: {self.cookie}\r\n" if self.cookie else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n{cookie}{headers}{length}\r\n"
        return head.encode("utf-8", "surrogatepass") + body

    def post(self, kind: str, target: str, value: Any, *, listen: bool = True) -> Answer:
        """`value` as Python writes JSON, NaN and half surrogate pairs included."""
        headers = "Content-Type: application/json\r\n"
        return self.request(kind, "POST", target, json.dumps(value).encode(), headers=headers, listen=listen)

    def judge(self, answer: Answer, sent: bytes) -> None:
        said = answer.headers + answer.text
        sent += unquote_to_bytes(sent)
        busy = answer.status == 503 and re.search(r"full|again|too many|busy", answer.text, re.IGNORECASE)
        assert answer.status < 500 or busy, f"{answer.status} {said[:400]} to {sent[:600]!r}"
        leak = _TRACES.search(answer.text)
        assert leak is None or leak[0].encode() in sent, f"{leak[0]!r} in {said[:600]} to {sent[:300]!r}"
        for secret in (*self.own, MARKER):
            assert secret not in said or secret.encode() in sent, f"{secret} in {said[:600]} to {sent[:300]!r}"

    def _exchange(self, raw: bytes, method: str, *, listen: bool) -> Answer:
        for fresh in (self._socket is None, True):
            one = self.connect() if fresh else self._socket
            with suppress(OSError):  # refused before all of it was sent: the answer is there to be read
                one.sendall(raw)
            try:
                answer, keep = _read(one, method, listen=listen)
            except (OSError, http.client.HTTPException):
                one.close()
                self._socket = None
                continue  # once more, where the server had closed a connection that was kept
            if not keep:
                one.close()
            self._socket = one if keep else None
            return answer
        return Answer(0, "", "")


def _read(one: socket.socket, method: str, *, listen: bool) -> tuple[Answer, bool]:
    with http.client.HTTPResponse(one, method=method) as response:
        response.begin()
        stream = response.headers.get_content_type() == "text/event-stream"
        text = b"" if stream and not listen else _whole(response)
        keep = not response.will_close and not (stream and not listen)
    encoding = response.headers.get("content-encoding")
    assert encoding is None, encoding
    return Answer(response.status, str(response.headers), text.decode("utf-8", "replace")), keep


def _whole(response: http.client.HTTPResponse) -> bytes:
    """The body. A stream that keeps itself alive for ever fails here, not the whole suite."""
    parts, deadline_s = [], time.monotonic() + LIMIT_S
    while part := response.read1(65536):
        parts.append(part)
        assert time.monotonic() < deadline_s, f"a stream without an end: {b''.join(parts)[-300:]!r}"
    return b"".join(parts)


def folders_of(data_dir: Path) -> Iterable[str]:
    """What tells where a server lives. Its folder of uploads is not among it: Gradio's files go by their path."""
    return (str(ROOT), str(data_dir), str(Path(tempfile.gettempdir()) / "cascade"))
