"""Two visitors of the real page, by raw HTTP: every event it has, called with another's ids, shows and changes nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from cascade_app.gallery.gallery import Album, Gallery
from cascade_app.gallery.item import Query
from cascade_app.serving.pictures import app_options
from cascade_app.serving.visitors import visitor_of
from cascade_app.ui.actions import ACTION
from cascade_app.ui.blocks import build_ui, launch_options
from tests.fakes import SPEC, FakeBackend, draw
from tests.gallery.test_gallery import record_of
from tests.serving.test_visitors import asking

SECRET = "zebrafinch"  # in every prompt of the first visitor's
# Events that the page's script sends, with ids in them, and the actions that each knows.
PAGES_OWN = {
    "act": (
        "favourite", "compare", "contact", "reuse_settings", "reuse_seed", "older", "newer", "rebuild",
        "delete", "undo", "delete",
    ),
    "make": ("develop", "vary", "again", "blend", "words"),
    "show": ("",), "picks": ("",), "opened": ("",), "look": ("",),
}  # fmt: skip


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path_factory.mktemp("gallery") / "pictures")
    gallery.open()
    yield gallery
    gallery.close()


@pytest.fixture(scope="module")
def address(gallery: Gallery) -> Iterator[str]:
    spec = replace(SPEC, defaults={"prior_steps": 1, "decoder_steps": 1, "width": 128, "height": 128})
    blocks = build_ui(FakeBackend(spec=spec), gallery, checkpoint="pocket")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    blocks.launch(
        server_port=port, prevent_thread_lock=True, quiet=True, app_kwargs=app_options(gallery), **launch_options()
    )
    yield f"http://127.0.0.1:{port}"
    blocks.close(verbose=False)


def visitor(address: str) -> httpx.Client:
    client = httpx.Client(base_url=address, timeout=60)
    client.get("/").raise_for_status()
    return client


def album_of(gallery: Gallery, client: httpx.Client) -> Album:
    return gallery.of(visitor_of(asking("; ".join(f"{name}={value}" for name, value in client.cookies.items()))))


def everything(album: Album) -> list:
    shelves = [album.page(Query(trash=trash)).items for trash in (False, True)]
    return [*shelves, album.usage(), sorted(path.name for path in album.home.rglob("*.png"))]


class Caller:
    """Calls the page's events as its script would, with whatever ids one likes."""

    def __init__(self, client: httpx.Client, session: str) -> None:
        self.client, self.session = client, session
        self.config = client.get("/config").json()
        self.components = {one["id"]: one for one in self.config["components"]}

    def value(self, id: int) -> object:
        one = self.components[id]
        return None if one["type"] == "state" else one["props"].get("value")

    def call(self, dependency: dict, told: dict) -> str:
        """One event; everything that was answered, as text."""
        body = {
            "fn_index": dependency["id"], "session_hash": self.session, "event_data": told,
            "data": [self.value(id) for id in dependency["inputs"]],
        }  # fmt: skip
        if not dependency["queue"]:
            return self.client.post("/gradio_api/run/predict", json=body).text
        joined = self.client.post("/gradio_api/queue/join", json=body)
        if joined.status_code != 200:
            return joined.text
        parts = []
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                parts.append(line)
                if "process_completed" in line or "close_stream" in line:
                    break
        return "\n".join(parts)

    def everything(self, ids: list[str]) -> str:
        """Every event of the page, those that take ids with each action there is."""
        answers = []
        for dependency in self.config["dependencies"]:
            event = next((event for _id, event in dependency["targets"]), "")
            for act in PAGES_OWN.get(event, ("",)):
                told = {"act": act, "ids": ids[:2] if act in ("compare", "blend") else ids[:1], "id": ids[0], "view": "gallery"}
                answers.append(self.call(dependency, told))
                run = next((one for one in self.config["dependencies"] if one["trigger_after"] == dependency["id"]), None)
                if run is not None and event == "make":
                    answers.append(self.call(run, told))
        return "\n".join(answers)


def keep(album: Album) -> list[str]:
    """Three pictures: one with a star, one in the trash, one the child of another."""
    records = [record_of(f"{SECRET} {n}", width=64, height=64) for n in range(2)]
    records.append(record_of(f"{SECRET} child", parents=(records[0].id,), width=64, height=64))
    for number, record in enumerate(records):
        album.add(draw(64, 64, number), record)
    album.favourite(records[0].id, True)
    album.delete([records[1].id])
    return [record.id for record in records]


def test_every_event_of_the_page_with_anothers_ids(address, gallery):
    assert {one.name for one in ACTION.values()} <= {*PAGES_OWN["act"], *PAGES_OWN["make"]}, "an action is left out"
    owner, other = visitor(address), visitor(address)
    mine = album_of(gallery, owner)
    ids = keep(mine)
    before = everything(mine)
    for rotated in (ids, ids[1:] + ids[:1]):
        answers = Caller(other, "the other visitor's session").everything(rotated)
        assert SECRET not in answers and mine.visitor not in answers
    assert everything(mine) == before, "nothing of the owner's was changed"
    assert SECRET not in json.dumps([item.request.prompt for item in album_of(gallery, other).page().items])
    # the same calls by the owner do show and change them: the test reaches what it is about
    answers = Caller(owner, "the owner's session").everything(ids)
    assert answers.count(SECRET) > 10 and everything(mine) != before


def test_anothers_session_does_not_help(address, gallery):
    """What a tab holds is looked at for whoever asks, not for whoever opened it."""
    owner, other = visitor(address), visitor(address)
    ids = keep(album_of(gallery, owner))
    assert SECRET in Caller(owner, "a session that is known").everything(ids)
    assert SECRET not in Caller(other, "a session that is known").everything(ids)


def test_every_url_with_anothers_ids(address, gallery):
    owner, other = visitor(address), visitor(address)
    mine = album_of(gallery, owner)
    ids = keep(mine)
    paths = [str(path) for path in (*mine.home.rglob("*"), gallery.index.path, mine.home)]
    for id in ids:
        for url in (f"/pictures/{id}.png", f"/pictures/{id}.jpg", f"/pictures/{id}.webp", f"/pictures/{id}/plain.png",
                    f"/pictures/{id}/thumbnail.jpg", f"/pictures/selection.zip?ids={id}"):  # fmt: skip
            assert owner.get(url).status_code == 200
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
                assert other.request(method, url).status_code in (404, 405), (method, url)
    for path in paths:
        for prefix in ("/gradio_api/file=", "/gradio_api/file/", "/gradio_api/proxy=", "/gradio_api/stream/", "/file="):
            for client in (owner, other):
                assert client.get(f"{prefix}{path}").status_code in (400, 401, 403, 404, 405)


@pytest.mark.parametrize("name", ["develop", "vary"])
@pytest.mark.parametrize("meta", [True, False])
def test_the_api_reads_no_file_by_its_path(address, gallery, name: str, meta: bool):
    owner, other = visitor(address), visitor(address)
    mine = album_of(gallery, owner)
    ids = keep(mine)
    for target in (str(mine.path(ids[0])), "/etc/passwd", str(Path(__file__).parents[2] / "README.md")):
        picture = {"path": target, "orig_name": "a.png", **({"meta": {"_type": "gradio.FileData"}} if meta else {})}
        joined = other.post(f"/gradio_api/call/v2/{name}", json={"picture": picture})
        answer = joined.text
        if joined.status_code == 200:
            answer += other.get(f"/gradio_api/call/{name}/{joined.json()['event_id']}").text
        assert "event: complete" not in answer and SECRET not in answer and "root:" not in answer
    assert album_of(gallery, other).page().items == ()
