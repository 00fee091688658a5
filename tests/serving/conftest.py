"""A real web server over a gallery of its own, with the routes that serve pictures and one endpoint that keeps some."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import gradio as gr
import httpx
import pytest

from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.reading import UploadLimits
from cascade_app.serving.pictures import app_options
from cascade_app.serving.visitors import visitor_of
from tests.gallery.test_gallery import PICTURE, record_of


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path_factory.mktemp("gallery") / "pictures")
    gallery.open()
    yield gallery
    gallery.close()


def serve(gallery: Gallery, **options) -> Iterator[str]:
    """A page whose endpoint `/keep` saves a picture of a prompt for whoever calls it."""

    def keep(prompt: str, http: gr.Request) -> str:
        return gallery.of(visitor_of(http)).add(PICTURE.copy(), record_of(prompt)).id

    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.api(keep, api_name="keep", queue=False)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    blocks.launch(
        server_port=port, prevent_thread_lock=True, quiet=True, ssr_mode=False,
        app_kwargs=app_options(gallery, UploadLimits(n_bytes=2_000_000)), **options,
    )  # fmt: skip
    yield f"http://127.0.0.1:{port}"
    blocks.close(verbose=False)


@pytest.fixture(scope="module")
def address(gallery: Gallery) -> Iterator[str]:
    yield from serve(gallery)


@pytest.fixture
def browser(address: str) -> Iterator[Callable[..., httpx.Client]]:
    """A visitor who has opened the page, or one who has not."""
    clients = []

    def make(*, opened: bool = True) -> httpx.Client:
        client = httpx.Client(base_url=address, timeout=30)
        clients.append(client)
        if opened:
            assert client.get("/").status_code == 200
        return client

    yield make
    for client in clients:
        client.close()


def keep(client: httpx.Client, prompt: str) -> str:
    """Have the visitor keep a picture; its id."""
    return client.post("/gradio_api/run/keep", json={"data": [prompt]}).raise_for_status().json()["data"][0]
