"""The Dockerfile as far as it can be checked without docker: its form, its promises, what goes into the image.

It has never been built where these tests are run.
"""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from cascade_app.settings import Settings
from cascade_app.space import ROOT, shipped_files

KNOWN = set("FROM ARG ENV WORKDIR COPY RUN USER VOLUME EXPOSE HEALTHCHECK CMD".split())


def instructions() -> list[tuple[str, str]]:
    """(INSTRUCTION, rest) of each, lines put together."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines if line.strip()]


def all_of(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def environment() -> dict[str, str]:
    return dict(word.split("=", 1) for rest in all_of("ENV") for word in shlex.split(rest))


def health_command() -> list[str]:
    [rest] = all_of("HEALTHCHECK")
    return json.loads(rest.partition("CMD ")[2])


def test_it_is_a_dockerfile():
    names = [name for name, _ in instructions()]
    assert set(names) <= KNOWN and names[0] == "FROM"
    assert all_of("FROM") == ["python:3.12-slim"]
    for command in all_of("RUN"):
        subprocess.run(["sh", "-n", "-c", command], check=True)  # the shell understands it
    assert json.loads(all_of("CMD")[-1]) == ["python", "app.py"]  # exec form: SIGTERM reaches the app


def test_nothing_runs_as_root():
    names = instructions()
    [user] = all_of("USER")
    assert user not in ("root", "0")
    place = names.index(("USER", user))
    assert all(name != "RUN" for name, _ in names[place:])
    assert any(name == "RUN" and f"useradd --uid 1000 --create-home {user}" in rest for name, rest in names[:place])


def test_what_is_kept_is_in_the_volume_and_the_user_may_write_there():
    [volume] = all_of("VOLUME")
    settings = Settings.from_env(environment())
    assert settings.data_dir.is_relative_to(volume) and Path(environment()["HF_HOME"]).is_relative_to(volume)
    [user] = all_of("USER")
    assert any(f"install --directory --owner={user} --group={user} {volume}" in rest for rest in all_of("RUN"))


def test_the_page_is_reachable_from_outside_the_container():
    settings = Settings.from_env(environment())
    assert settings.host == "0.0.0.0" and all_of("EXPOSE") == [str(settings.port)]


class Answering(BaseHTTPRequestHandler):
    """A server that is as well as `statuses` says, asked at /health."""

    statuses = iter((200, 503))

    def do_GET(self) -> None:
        self.send_response(next(self.statuses) if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_the_health_check_tells_a_server_that_is_well_from_others():
    command = [sys.executable, *health_command()[1:]]
    server = HTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        well, ill = (
            subprocess.run(command, env={"CASCADE_PORT": str(server.server_port)}, capture_output=True) for _ in range(2)
        )
        assert well.returncode == 0, well.stderr
        assert ill.returncode != 0
    finally:
        server.shutdown()
        server.server_close()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = str(closed.getsockname()[1])
        assert subprocess.run(command, env={"CASCADE_PORT": port}, capture_output=True).returncode != 0


def test_torch_is_the_build_without_cuda_and_of_the_pinned_version():
    [index] = all_of("ARG")
    assert index == "TORCH_INDEX=https://download.pytorch.org/whl/cpu"
    pattern = re.search(r"\$\(grep '([^']+)' requirements.txt\)", all_of("RUN")[0])[1]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if re.match(pattern, line)]) == 1
    assert "requirements.txt" in next(rest for rest in all_of("COPY"))


def test_what_goes_into_the_image_is_what_goes_to_a_space():
    rules = [
        line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")
    ]
    present = [
        path.relative_to(ROOT).as_posix()
        for top in ("app.py", "LICENSE", "Makefile", "requirements.txt", "examples", "assets", "cascade_app", "tests")
        for path in ([ROOT / top] if (ROOT / top).is_file() else (ROOT / top).rglob("*"))
        if path.is_file()
    ]
    kept = {name for name in present if not is_ignored(name, rules)}
    assert kept == {*shipped_files(ROOT), "requirements.txt"}


def is_ignored(name: str, rules: list[str]) -> bool:
    """As docker decides it: the last rule that matches the path, or a folder above it, wins."""
    parts = name.split("/")
    paths = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    ignored = False
    for rule in rules:
        pattern = _regular(rule.removeprefix("!"))
        if any(pattern.fullmatch(path) for path in paths):
            ignored = not rule.startswith("!")
    return ignored


def _regular(rule: str) -> re.Pattern[str]:
    text = re.escape(rule).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
    return re.compile(text)


def test_the_rules_are_read_as_docker_reads_them():
    rules = ["*", "!a", "a/*.txt", "**/.*"]
    assert [is_ignored(name, rules) for name in ("b", "a/x.py", "a/x.txt", "a/b/x.txt", "a/b/.x", ".x")] == [
        True, False, True, False, True, True,
    ]  # fmt: skip
