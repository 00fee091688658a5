"""The process around the page: the client API, its start, and its end."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from playwright.sync_api import expect

from cascade_app.gallery.png import read_request
from tests.e2e.conftest import ROOT, start_server, wait_for_page


@pytest.fixture(scope="module")
def client(server, tmp_path_factory) -> Client:
    return Client(server.url, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


def test_the_client_needs_only_a_prompt(client):
    files, made = client.predict(prompt="a red sun over blue mountains", api_name="/generate")
    request = read_request(Path(files[0]))
    assert (request.prompt, request.seed) == ("a red sun over blue mountains", made["seed"])
    assert (made["width"], made["height"], made["checkpoint"]) == (256, 256, "pocket")
    assert set(made["seconds"]) >= {"prior", "decoder", "vqgan", "total"}


def test_the_client_hears_the_sentence(client):
    for values, sentence in (
        ({"prompt": ""}, "Prompt is empty"),
        ({"prompt": "hills", "width": 250}, "Choose 224 or 256"),
        ({"prompt": "hills", "sampler": "unheard of"}, "choose one of ddpm, ddim"),
    ):
        with pytest.raises(AppError, match=sentence):
            client.predict(**values, api_name="/generate")
    files, _made = client.predict(prompt="hills", prior_steps=1, decoder_steps=1, images=2, api_name="/generate")
    assert len(files) == 2


def test_only_the_named_endpoints_are_offered(client):
    described = client.view_api(return_format="dict")
    assert list(described["named_endpoints"]) == ["/generate", "/sketch", "/develop", "/vary", "/checkpoints", "/plan"]
    assert not described["unnamed_endpoints"]


def test_the_page_is_up_before_torch():
    """Building everything the page needs imports neither torch nor the model libraries."""
    script = (
        "import sys, app, cascade_app.serving.local; from cascade_app.ui.blocks import build_ui, launch_options;"
        "from cascade_app.gallery.gallery import Gallery; from cascade_app.settings import Settings; from pathlib import Path;"
        "backend = cascade_app.serving.local.LocalBackend(Settings());"
        "build_ui(backend, Gallery(Path('pictures')), checkpoint='pocket'); launch_options();"
        "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def run_app(**variables: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CASCADE_")} | variables
    return subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_bad_setting_is_one_line():
    done = run_app(CASCADE_PORT="many")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.splitlines() == ['CASCADE_PORT is "many"; set it to a whole number from 0 to 65535.']


def test_a_taken_port_is_one_line(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = run_app(CASCADE_PORT=str(port), CASCADE_DATA_DIR=str(tmp_path))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and f"Port {port}" in done.stderr and "CASCADE_PORT" in done.stderr


def test_a_missing_checkpoint_is_said_on_the_page(browser, tmp_path):
    server = start_server(tmp_path, CASCADE_CHECKPOINT=str(tmp_path / "nowhere"))
    try:
        wait_for_page(server)
        page = browser.new_context().new_page()
        page.goto(server.url)
        expect(page.locator("#lamp .cs-lamp")).to_have_attribute("data-state", "failed", timeout=60_000)
        expect(page.locator("#message")).to_contain_text("neither a known name")
        page.locator("#field-prompt textarea").fill("hills")
        page.keyboard.press("Control+Enter")
        expect(page.locator("#message")).to_contain_text("neither a known name")
        page.context.close()
    finally:
        assert server.stop() == 0
    assert "Traceback" not in server.log_path.read_text()


def test_the_server_says_how_it_is(server):
    with urlopen(f"{server.url}health", timeout=30) as answer:
        assert json.load(answer)["state"] in ("ready", "loading")
    with urlopen(f"{server.url}metrics", timeout=30) as answer:
        assert "cascade_engine_state" in answer.read().decode()
