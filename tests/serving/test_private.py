"""The page's own functions, called from outside: by name they are not there, by number they serve whoever calls them only."""

from __future__ import annotations

import json
from collections.abc import Iterator

import gradio as gr
import httpx
import pytest

from cascade_app.gallery.gallery import Gallery
from cascade_app.serving.pictures import app_options
from cascade_app.serving.visitors import COOKIE
from cascade_app.ui.blocks import build_ui, launch_options
from tests.fakes import FakeBackend

SOMEBODY, OTHER = ({"cookie": f"{COOKIE}={letter * 43}"} for letter in "SO")


@pytest.fixture(scope="module")
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture(scope="module")
def page(backend, tmp_path_factory) -> Iterator[tuple[object, httpx.Client]]:
    """The page's Blocks, and a client at its address."""
    gallery = Gallery(tmp_path_factory.mktemp("gallery") / "pictures")
    gallery.open()
    blocks = build_ui(backend, gallery, checkpoint="pocket")
    _app, address, _ = blocks.launch(
        server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, app_kwargs=app_options(gallery), **launch_options()
    )
    with httpx.Client(base_url=address, timeout=60) as client:
        yield blocks, client
    blocks.close(verbose=False)
    gallery.close()


def private(blocks) -> list:
    return [one for one in blocks.fns.values() if one.api_visibility == "private"]


def test_by_name_none_of_them_is_there(page, backend):
    blocks, client = page
    names = {one.api_name for one in private(blocks)}
    assert {"run", "cancel"} <= names
    for name in names:
        for way, body in (("call", {"data": []}), ("call/v2", {})):
            answer = client.post(f"/gradio_api/{way}/{name}", json=body)
            assert answer.status_code == 404 and "Traceback" not in answer.text, (way, name)
    assert backend.steps_done == 0


def test_by_number_they_reach_only_what_is_the_callers(page):
    """Gradio lets anyone join its queue with any function's number, as the page itself does, and say what was clicked."""
    blocks, client = page
    made = call(client, "generate", SOMEBODY, prompt="hills", prior_steps=1, decoder_steps=1)[1]
    kept = f"/pictures/{made['files'][0].removesuffix('.png').rpartition('-')[2]}.png"
    assert client.get(kept, headers=SOMEBODY).status_code == 200
    id = kept.removeprefix("/pictures/").removesuffix(".png")
    for one in private(blocks):
        if one.fn is None:
            continue  # JavaScript alone
        values = [None if isinstance(component, gr.State) else getattr(component, "value", None) for component in one.inputs]
        clicked = {"ids": [id], "id": id, "act": "delete", "star": True, "tag": "x"}
        joined = {"data": values, "fn_index": one._id, "session_hash": f"outside{one._id}", "event_data": clicked}
        answer = client.post("/gradio_api/queue/join", json=joined, headers=OTHER)
        told = json.dumps(last_event(client, joined["session_hash"])) if answer.status_code == 200 else answer.text
        assert answer.status_code < 500 and "Traceback" not in told and id not in told.replace(json.dumps(clicked), "")
    assert client.get(kept, headers=SOMEBODY).status_code == 200
    assert client.get(kept, headers=OTHER).status_code == 404


def call(client: httpx.Client, name: str, headers: dict[str, str], **values) -> list:
    """A public function, by name."""
    event = client.post(f"/gradio_api/call/v2/{name}", json=values, headers=headers).raise_for_status().json()["event_id"]
    return json.loads(client.get(f"/gradio_api/call/{name}/{event}").text.rpartition("data: ")[2])


def last_event(client: httpx.Client, session: str) -> dict:
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                told = json.loads(line.removeprefix("data: "))
                if told["msg"] in ("process_completed", "unexpected_error", "close_stream"):
                    return told
    raise AssertionError("the stream ended")
