"""Find a Chromium for the browser tests, or install one: python tests/ensure_chromium.py

Tries, in this order: one on the PATH, the one Playwright downloaded before, Playwright's download, and (as root on a
Debian or Ubuntu machine) apt. Prints what it found or did; fails with one sentence that says what to do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ON_PATH = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DOWNLOAD_LIMIT_S = 300


def on_path() -> Path | None:
    """The first browser on the PATH that starts (Ubuntu's `chromium-browser` may be a stub that does not)."""
    found = (shutil.which(name) for name in ON_PATH)
    return next((Path(path) for path in found if path and starts(Path(path))), None)


def of_playwright() -> Path | None:
    """The Chromium Playwright has downloaded for its own version, if it is there and starts."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return path if starts(path) else None


def find_chromium() -> Path | None:
    """A browser that is already installed."""
    return on_path() or of_playwright()


def starts(path: Path) -> bool:
    """Whether the program runs at all: a missing shared library shows here."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def attempts() -> Iterator[tuple[str, list[list[str]], Callable[[], Path | None]]]:
    """Ways to install one: what to tell the user, the commands, and where the browser should be afterwards."""
    playwright = [sys.executable, "-m", "playwright"]
    yield "Downloading Playwright's Chromium", [[*playwright, "install", "chromium"]], of_playwright
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        yield "Installing the libraries Chromium needs", [[*playwright, "install-deps", "chromium"]], of_playwright
        install = ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]
        yield "Installing chromium with apt", [["apt-get", "update"], install], on_path


def run(command: list[str]) -> bool:
    """Run `command`, its output kept for when it fails."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", timeout=DOWNLOAD_LIMIT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"  {error}")
        return False
    if done.returncode:
        print("\n".join(f"  {line}" for line in done.stdout.splitlines()[-5:]))
    return done.returncode == 0


def main() -> int:
    path = find_chromium()
    if path:
        print(f"Browser for the tests: {path}")
        return 0
    for what, commands, look in attempts():
        print(f"No Chromium found. {what} ...", flush=True)
        worked = all(run(command) for command in commands)
        path = look() if worked else None
        if path:
            print(f"Browser for the tests: {path}")
            return 0
    print(
        "The browser tests need Chromium and none could be installed: install chromium or google-chrome so that it is "
        "on the PATH, then run make test again.",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
