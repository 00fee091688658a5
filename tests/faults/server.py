"""A real server process for faults to happen to, and what a visitor and its log say about them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 120  # for anything; a test that waits so long has failed
SMALL = {"width": 192, "height": 192, "prior_steps": 2, "decoder_steps": 1}


@dataclass
class Server:
    """`app.py` with a folder of its own. What it writes to its error stream is read as it comes."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ("app.py",)  # for Python

    def start(self) -> Server:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CASCADE_", "GRADIO_"))}
        environment = kept | {
            "CASCADE_PORT": str(self.port), "CASCADE_DATA_DIR": str(self.folder / "data"), "CASCADE_LOG_FORMAT": "json",
            "GRADIO_TEMP_DIR": str(self.folder / "temporary"), "HF_HUB_OFFLINE": "1", "HF_HOME": str(self.folder / "hub"),
            "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", **self.variables,
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, *self.command], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.lines: list[str] = []
        self._came = threading.Condition()
        for stream in (self.process.stdout, self.process.stderr):
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()
        self.heard(lambda line: line.startswith("Cascade Studio is at"))
        return self

    def _read(self, stream: Iterator[str]) -> None:
        for line in stream:
            with self._came:
                self.lines.append(line.rstrip("\n"))
                self._came.notify_all()

    def heard(self, what: Callable[[str], bool]) -> str:
        """The first line that `what` is true of, waited for."""
        with self._came:
            came = self._came.wait_for(lambda: any(map(what, self.lines)), LIMIT_S)
            assert came, "\n".join(self.lines)
            return next(filter(what, self.lines))

    @property
    def log(self) -> list[dict]:
        """What was logged so far."""
        return [json.loads(line) for line in list(self.lines) if line.startswith("{")]

    def logged(self, **wanted: str) -> dict:
        """The first line of the log with these fields, waited for."""
        line = self.heard(
            lambda line: line.startswith("{") and wanted.items() <= {k: str(v) for k, v in json.loads(line).items()}.items()
        )
        return json.loads(line)

    def visitor(self) -> httpx.Client:
        """Somebody who has opened the page, and keeps a gallery."""
        client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=LIMIT_S)
        client.get("/").raise_for_status()
        return client

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def ended(self) -> int:
        """The exit status, waited for."""
        return self.process.wait(LIMIT_S)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True)
class Answer:
    """How a call ended: what was made, or the sentence."""

    files: list[str]
    sentence: str = ""


def begin(client: httpx.Client, name: str = "generate", **values) -> str:
    """Ask for a run; its number."""
    values = {"prompt": "a red sun over blue mountains", **SMALL, **values} if name in ("generate", "sketch") else values
    return client.post(f"/gradio_api/call/v2/{name}", json=values).raise_for_status().json()["event_id"]


def listen(client: httpx.Client, number: str, name: str = "generate") -> Answer:
    """The end of a run."""
    with client.stream("GET", f"/gradio_api/call/{name}/{number}") as stream:
        kind = ""
        for line in stream.iter_lines():
            if line.startswith("event:"):
                kind = line[6:].strip()
            elif line.startswith("data:") and kind in ("complete", "error"):
                told = json.loads(line[5:])
                if kind == "complete":
                    return Answer([one["url"] for one in told[0]])
                return Answer([], told if isinstance(told, str) else (told or {}).get("error") or str(told))
    raise AssertionError("the stream ended without an answer")


def make(client: httpx.Client, name: str = "generate", **values) -> Answer:
    """A run from its beginning to its end."""
    return listen(client, begin(client, name, **values), name)


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for something that happens in another process."""
    end_s = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < end_s, what
        time.sleep(0.02)
