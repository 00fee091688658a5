"""The queue behind the real page and API, by HTTP: who is served when, who is refused, and what leaving does."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from cascade_app.events import Event
from cascade_app.gallery.gallery import Gallery
from cascade_app.request import GenerationRequest
from cascade_app.serving.caller import current
from cascade_app.serving.fair import Fair, Load
from cascade_app.serving.pictures import app_options
from cascade_app.ui.blocks import build_ui, launch_options
from cascade_app.work import WHOLE, Work
from tests.fakes import SPEC, FakeBackend

SIZE = 45  # more than the threads that Gradio has by itself


class Held(FakeBackend):
    """Makes nothing until it is let; notes for whom it began."""

    def __init__(self) -> None:
        super().__init__(spec=replace(SPEC, defaults={"prior_steps": 1, "decoder_steps": 1, "width": 128, "height": 128}))
        self.let = threading.Event()
        self.served: list[tuple[str, str]] = []

    def generate(self, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
        self.served.append((request.prompt, current().visitor))
        assert self.let.wait(60)
        yield from super().generate(request, work)


class Studio:
    def __init__(self, gallery: Gallery) -> None:
        self.engine = Held()
        self.fair = Fair(self.engine, size=SIZE)
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.blocks = build_ui(self.fair, gallery, checkpoint="pocket", queue_size=SIZE)
        self.blocks.launch(
            server_port=port, prevent_thread_lock=True, quiet=True, app_kwargs=app_options(gallery), **launch_options(SIZE)
        )

    def visitor(self) -> httpx.Client:
        client = httpx.Client(base_url=self.address, timeout=60)
        client.get("/").raise_for_status()
        return client

    def ask(self, client: httpx.Client, prompt: str) -> str:
        """Begin a run; returns its id."""
        answer = client.post("/gradio_api/call/v2/generate", json={"prompt": prompt})
        return answer.raise_for_status().json()["event_id"]

    def answer(self, client: httpx.Client, id: str) -> tuple[str, str]:
        """How it ended, and with what."""
        lines = client.get(f"/gradio_api/call/generate/{id}").text.strip().splitlines()
        return lines[-2].removeprefix("event: "), lines[-1].removeprefix("data: ")

    def until(self, load: Load) -> None:
        """Until the queue is like that; a test that waits in vain is ended by its own limit."""
        deadline = time.monotonic() + 60
        while self.fair.load() != load:
            assert time.monotonic() < deadline, self.fair.load()
            time.sleep(0.01)


@pytest.fixture
def studio(tmp_path) -> Iterator[Studio]:
    gallery = Gallery(tmp_path / "pictures")
    gallery.open()
    studio = Studio(gallery)
    yield studio
    studio.engine.let.set()
    studio.blocks.close(verbose=False)
    gallery.close()


def test_a_visitor_with_one_request_is_not_behind_anothers_forty(studio: Studio):
    ann, ben = studio.visitor(), studio.visitor()
    many = []
    for number in range(43):  # one by one, so that they wait in this order
        many.append(studio.ask(ann, f"a{number}"))
        studio.until(Load(number, 1, SIZE))
    one = studio.ask(ben, "b")
    studio.until(Load(43, 1, SIZE))
    assert ann.get("/config").status_code == 200, "threads are left for everything else"
    studio.engine.let.set()
    assert studio.answer(ben, one)[0] == "complete"
    assert all(studio.answer(ann, id)[0] == "complete" for id in many)
    assert [prompt for prompt, _ in studio.engine.served][:3] == ["a0", "a1", "b"]
    assert len({visitor for _, visitor in studio.engine.served} - {""}) == 2


def test_a_full_queue_refuses_in_a_sentence(studio: Studio):
    ann = studio.visitor()
    for number in range(SIZE + 1):
        studio.ask(ann, str(number))
    studio.until(Load(SIZE, 1, SIZE))
    kind, told = studio.answer(ann, studio.ask(ann, "late"))
    assert kind == "error" and f"{SIZE} requests are waiting, which is the limit" in json.dumps(told)


def test_cancelling_while_waiting_leaves_the_queue_at_once(studio: Studio):
    ann = studio.visitor()
    ids = []
    for number in range(3):
        ids.append(studio.ask(ann, f"a{number}"))
        studio.until(Load(number, 1, SIZE))
    body = {"session_hash": ids[1], "fn_index": 0, "event_id": ids[1]}
    ann.post("/gradio_api/cancel", json={**body, "session_hash": "somebody else's"}).raise_for_status()
    ann.post("/gradio_api/cancel", json=body).raise_for_status()
    studio.until(Load(1, 1, SIZE))
    studio.engine.let.set()
    assert studio.answer(ann, ids[2])[0] == "complete"
    assert [prompt for prompt, _ in studio.engine.served] == ["a0", "a2"]


def test_nobody_listens_and_all_the_others_are_served(studio: Studio):
    deaf, ann = studio.visitor(), studio.visitor()
    for number in range(5):
        studio.ask(deaf, f"deaf {number}")
    id = studio.ask(ann, "a")
    studio.engine.let.set()
    assert studio.answer(ann, id)[0] == "complete"
    studio.until(Load(0, 0, SIZE))
    assert len(studio.engine.served) == 6
