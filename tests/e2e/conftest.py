"""A real server process with the real engine and the bundled checkpoint, and a real Chromium that watches itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.ensure_chromium import find_chromium

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "screenshots"
START_LIMIT_S = 180  # a machine with other work takes minutes over the imports
CHROMIUM_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()

expect.set_options(timeout=60_000)


@dataclass
class Server:
    """A running `app.py` on `port`; `log_path` holds what it printed."""

    process: subprocess.Popen
    port: int
    log_path: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def stop(self) -> int:
        """Ask it to stop as a service manager would; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start_server(folder: Path, command: Sequence[str] = (sys.executable, "app.py"), **variables: str) -> Server:
    """Start `app.py`, or what else `command` serves, with a folder of its own; returns without waiting for it."""
    port = free_port()
    data_dir = folder / ".local share é"  # hidden, as the default folder is, and with what a URL must quote
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CASCADE_", "GRADIO_"))}
    environment |= {"CASCADE_PORT": str(port), "CASCADE_DATA_DIR": str(data_dir), "PYTHONUNBUFFERED": "1"}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), **variables}
    log_path = folder / "server.log"
    with log_path.open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    return Server(process, port, log_path)


def wait_for_page(server: Server) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(server.url, timeout=5) as answer:
                assert answer.status == 200
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    pytest.fail(f"The page did not answer within {START_LIMIT_S} s:\n{server.log_path.read_text()}")


@pytest.fixture(scope="session")
def server(pocket: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(tmp_path_factory.mktemp("server"))
    wait_for_page(running)
    yield running
    status = running.stop()
    log = running.log_path.read_text()
    assert status == 0, log
    assert "Traceback" not in log, log


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    assert path, "no Chromium found; `make chromium` installs one"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Watch:
    """What a browser did that it must not: errors in its console, requests to another host."""

    complaints: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def follow(self, page: Page, port: int) -> None:
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

        def asked(request) -> None:
            parts = urlsplit(request.url)
            if parts.scheme not in ("data", "blob") and parts.netloc != f"127.0.0.1:{port}":
                self.foreign.append(request.url)

        page.on("request", asked)


def wait_until_ready(page: Page) -> None:
    """The page has its settings and its engine."""
    expect(page.locator("#plan .cs-plan")).not_to_be_empty()
    expect(page.locator("#lamp .cs-lamp")).to_have_attribute("data-state", "ready")


@pytest.fixture
def open_page(browser: Browser, server: Server) -> Iterator[Callable[..., Page]]:
    """Open the page in a context of its own; afterwards, none may have complained or called elsewhere."""
    contexts: list[BrowserContext] = []
    watch = Watch()

    def open_one(*, width: int = 1440, height: int = 900, scheme: str = "light", phone: bool = False) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, is_mobile=phone, has_touch=phone
        )
        contexts.append(context)
        page = context.new_page()
        watch.follow(page, server.port)
        page.goto(server.url)
        wait_until_ready(page)
        return page

    yield open_one
    complaints = list(watch.complaints)  # before the contexts close, which breaks off what is still under way
    for context in contexts:
        context.close()
    assert complaints == []
    assert watch.foreign == []
