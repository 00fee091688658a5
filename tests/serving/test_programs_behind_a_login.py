"""Other programs where a login is set up: the examples, MCP and Prometheus bring it with each call, or are told to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from gradio.utils import get_upload_folder

from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.png import read_request
from cascade_app.serving.api import gradio_request
from cascade_app.serving.endpoints import endpoints
from cascade_app.serving.front import front
from cascade_app.serving.health import Health, health_route
from cascade_app.serving.mcp_server import PATH, Tools
from cascade_app.serving.metrics import Metrics, metrics_route
from cascade_app.serving.pictures import app_options
from cascade_app.settings import Settings
from cascade_app.ui.blocks import build_ui, launch_options
from tests.fakes import SPEC, FakeBackend

LOGIN = "ann:pass:wörd"
EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("login")
    gallery = Gallery(folder / "pictures")
    gallery.open()
    backend = FakeBackend(spec=replace(SPEC, defaults={"prior_steps": 2, "decoder_steps": 2}))
    before = front(Settings(login=LOGIN, data_dir=folder))
    tools = Tools(
        endpoints(backend, backend.spec), backend, gallery, asking=gradio_request, cache=lambda: Path(get_upload_folder())
    )
    options = {**app_options(gallery, front=before.middleware), "lifespan": tools.lifespan}
    options["routes"] += [*tools.routes, health_route(Health(backend)), metrics_route(Metrics(backend))]
    blocks = build_ui(backend, gallery, checkpoint="pocket")
    _app, address, _ = blocks.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, app_kwargs=options, **launch_options()
    )
    before.launched()
    yield address.rstrip("/")
    blocks.close(verbose=False)
    gallery.close()


def run(script: Path, address: str, folder: Path, *more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(script), "a boat", "--server", address, "-o", "boat.png", *more], cwd=folder,
        capture_output=True, text=True, encoding="utf-8", timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.stem)
def test_an_example_brings_the_login(script, address, tmp_path):
    without = run(script, address, tmp_path)
    assert without.returncode == 1 and "log" in without.stderr and "Traceback" not in without.stderr, without.stderr
    assert not (tmp_path / "boat.png").exists()
    done = run(script, address, tmp_path, "--login", LOGIN)
    assert done.returncode == 0, done.stderr
    assert read_request(tmp_path / "boat.png").prompt == "a boat"


def test_numbers_and_tools_are_behind_the_login_and_health_is_not(address):
    with httpx.Client(base_url=address, timeout=30) as client:
        assert client.get("/health").json() == {"state": "ready", "reasons": []}
        assert client.get("/metrics").status_code == client.post(f"{PATH}/", json={}).status_code == 401
        assert client.get("/made/x/y.png").status_code == 401
        user, _, password = LOGIN.partition(":")
        answer = client.get("/metrics", auth=(user.encode(), password.encode()))
        assert answer.status_code == 200 and "cascade_queue_length" in answer.text
