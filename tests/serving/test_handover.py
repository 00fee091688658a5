"""Files that the API hands over, at a real server: a visitor's are nobody else's, though Gradio's file route serves them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import gradio as gr
import httpx
import pytest

from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.reading import read
from cascade_app.serving.api import add_api
from cascade_app.serving.pictures import app_options
from tests.fakes import SPEC, FakeBackend

VALUES = {"prompt": "a secret", "prior_steps": 1, "decoder_steps": 1}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    gallery = Gallery(tmp_path_factory.mktemp("gallery") / "pictures")
    gallery.open()
    with gr.Blocks(analytics_enabled=False) as blocks:
        add_api(FakeBackend(), gallery, SPEC)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    blocks.launch(
        server_port=port, prevent_thread_lock=True, quiet=True, ssr_mode=False, app_kwargs=app_options(gallery)
    )
    yield f"http://127.0.0.1:{port}"
    blocks.close(verbose=False)
    gallery.close()


def visitor(address: str, *, opened: bool = True) -> httpx.Client:
    client = httpx.Client(base_url=address, timeout=60)
    if opened:
        client.get("/").raise_for_status()
    return client


def generate(client: httpx.Client) -> dict:
    """Call the endpoint as curl would; returns the first file it hands over."""
    event = client.post("/gradio_api/call/v2/generate", json=VALUES).raise_for_status().json()["event_id"]
    answer = client.get(f"/gradio_api/call/generate/{event}").text
    assert "event: complete" in answer, answer


    return json.loads(answer.rpartition("data: ")[2])[0][0]


def spellings(path: str) -> list[str]:
    folder, name = path.rpartition("/")[::2]
    return [
        path, path.upper(), f"{folder}//{name}", f"{folder}/./{name}", f"{folder}/../{Path(folder).name}/{name}",
        quote(path, safe=""), path.lstrip("/"),
    ]  # fmt: skip


def test_a_visitors_file_is_served_to_that_visitor_alone(address):
    owner, other, stranger = visitor(address), visitor(address), visitor(address, opened=False)
    file = generate(owner)
    route = f"/gradio_api/file={file['path']}"
    assert read(owner.get(route).content).record.request.prompt == "a secret"
    for client in (other, stranger):
        for spelled in spellings(file["path"]):
            for prefix in ("/gradio_api/file=", "/gradio_api/file/", "/gradio_api/proxy=", "/file="):
                answer = client.get(prefix + spelled)
                assert answer.status_code in (400, 403, 404) and b"secret" not in answer.content
        assert client.get(route, headers={"Range": "bytes=0-100"}).status_code == 404
    id = read(owner.get(route).content).record.id
    assert owner.get(f"/pictures/{id}.png").status_code == 200 and other.get(f"/pictures/{id}.png").status_code == 404


def test_who_is_nobody_gets_the_file_under_a_name_that_cannot_be_guessed(address):
    client = visitor(address, opened=False)
    file = generate(client)
    assert client.get(f"/gradio_api/file={file['path']}").status_code == 200
    folder = Path(file["path"]).parent
    assert len(folder.name.rpartition("-")[2]) == 32
    for path in (folder, folder.parent, folder.parent / "..", f"{folder.parent}/*"):
        assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)
    assert b"a secret" not in client.get("/").content
