"""The scripts of `examples/` as a reader runs them, against a live server: each makes a picture that holds its settings."""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cascade_app.gallery.png import read_request
from tests.e2e.conftest import ROOT

SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
EACH = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)


def run(script: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(script), *arguments], cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=120
    )


def test_there_is_one_for_each_way_in():
    assert [script.stem for script in SCRIPTS] == ["with_gradio_client", "with_http", "with_mcp"]


@EACH
def test_it_makes_a_picture(script, server, tmp_path):
    done = run(script, "a red sun, a blue mountain", "--server", server.url, "--seed", "7", "-o", "sun é.png", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sun é.png: 256 x 256 px, seed 7, ")
    request = read_request(tmp_path / "sun é.png")
    assert (request.prompt, request.seed, request.checkpoint) == ("a red sun, a blue mountain", 7, "pocket")
    with Image.open(tmp_path / "sun é.png") as picture:
        assert picture.size == (256, 256) and len(picture.getcolors(2**16) or range(2**16)) > 1000


@EACH
def test_a_mistake_is_the_servers_sentence(script, server, tmp_path):
    done = run(script, "a (boat", "--server", server.url, folder=tmp_path)
    assert done.returncode == 1 and "is never closed" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@EACH
def test_nobody_there_is_a_sentence(script, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        done = run(script, "a boat", "--server", address, folder=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith(f"No Cascade Studio answers at {address}.")
    assert len(done.stderr.splitlines()) == 1


@EACH
def test_it_needs_nothing_of_this_repository_and_says_how_to_run(script):
    tree = ast.parse(script.read_text(encoding="utf-8"))
    assert f"python examples/{script.name} " in ast.get_docstring(tree)
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    own = {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names)
    allowed = {"with_http": set(), "with_mcp": {"mcp", "anyio", "httpx"}, "with_gradio_client": {"gradio_client", "httpx"}}
    assert own == allowed[script.stem]
