"""A server to be hostile to: its process, clients of it, and what it says of itself."""

from __future__ import annotations

import json
import socket
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
from PIL import Image

from cascade_app.gallery.png import encode_png
from cascade_app.plan import make_plan
from cascade_app.request import GenerationRequest
from tests.e2e.conftest import Server
from tests.fakes import draw
from tests.fakes import record_of as made_of
from tests.hostile.malice import API
from tests.hostile.server import SMALL
from tests.hostile.wire import MARKER, Answer, Wire, folders_of


class Target:
    """A running server: its process, a client that is a visitor, and what it says of itself."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.process = server, psutil.Process(server.process.pid)
        data_dir = folder / ".local share é"
        self.own = tuple(folders_of(data_dir))
        self.wire = Wire(server.port, self.own)
        page = self.wire.request("opened", "GET", "/")
        self.wire.cookie = (
            next(line for line in page.headers.splitlines() if "cascade_visitor=" in line).split(": ")[1].split(";")[0]
        )
        self.anonymous = Wire(server.port, self.own, calls=self.wire.calls, statuses=self.wire.statuses)
        self.config = self.ask("/config")
        self.info = self.ask(f"{API}/info")["named_endpoints"]
        self.components = {one["id"]: one for one in self.config["components"]}
        self.dependencies = self.config["dependencies"]
        (data_dir / "secret.txt").write_text(MARKER)
        self.files = (
            str(data_dir / "secret.txt"),
            str(data_dir / "pictures" / "index.sqlite"),
            f"{self.own[0]}/README.md",
        )
        self.ids = tuple(self.keep(n) for n in range(3))
        self.rss_bytes = self.process.memory_info().rss

    def ask(self, target: str) -> Any:
        return json.loads(self.wire.request("opened", "GET", target).text)

    def keep(self, number: int) -> str:
        """Have the visitor keep a picture; its id."""
        plan = make_plan(GenerationRequest.from_values({"prompt": f"picture {number}", "seed": number}), SMALL)
        picture = encode_png(draw(plan.width, plan.height, number), made_of(plan, number))
        kept = json.loads(self.wire.request("opened", "POST", "/pictures", picture).text)
        assert kept["id"], kept
        return kept["id"]

    def picture(self) -> Image.Image:
        """Have one made, through the API, and fetch it."""
        joined = self.anonymous.post("opened", f"{API}/call/v2/generate", {"prompt": "a red sun", "seed": 7})
        event = json.loads(joined.text)["event_id"]
        told = self.anonymous.request("opened", "GET", f"{API}/call/generate/{event}").text
        assert "event: complete" in told, told
        path = json.loads(told.rpartition("data: ")[2])[0][0]["path"]
        with socket.create_connection(("127.0.0.1", self.server.port), 60) as one:
            one.sendall(f"GET {API}/file={quote(path)} HTTP/1.0\r\n\r\n".encode())
            whole = b"".join(iter(lambda: one.recv(65536), b""))
        return Image.open(BytesIO(whole.partition(b"\r\n\r\n")[2]))

    def listened(self, kind: str, answer: Answer, target: str) -> None:
        """Fetch what a call that was taken comes to: a stream that ends, and is judged like any answer."""
        if answer.status == 200:
            told = self.wire.request(kind, "GET", target.replace("EVENT", json.loads(answer.text)["event_id"]))
            self.wire.calls[kind] -= 1  # no hostile call of its own
            assert told.text, f"an empty answer to {answer.text}"
