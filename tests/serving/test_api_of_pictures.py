"""The endpoints that go on from a saved picture, and sketches: as functions, and at a real server as a client calls them."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import gradio as gr
import httpx
import pytest
from PIL import Image

from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.png import encode_png, read_record
from cascade_app.serving.api import add_api, function_of
from cascade_app.serving.endpoints import endpoints
from cascade_app.serving.pictures import app_options
from cascade_app.serving.visitors import handed_name
from tests.fakes import SPEC, FakeBackend

QUICK = {"seed": 7, "prior_steps": 3, "decoder_steps": 2}


@pytest.fixture(autouse=True)
def uploads(tmp_path, monkeypatch) -> Path:
    """Gradio's folder of files, which it asks for at each call."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def gallery(tmp_path):
    gallery = Gallery(tmp_path / "pictures")
    gallery.open()
    yield gallery
    gallery.close()


@pytest.fixture
def call(backend, gallery):
    """The endpoints by name, called by nobody in particular."""
    nobody = gr.Request(headers={})
    functions = {one.name: function_of(one, backend, gallery) for one in endpoints(backend, SPEC)}
    return lambda name, *sent, **named: functions[name](nobody, *sent, **named)


@pytest.fixture
def uploaded(uploads):
    """A file as Gradio has it after an upload."""

    def upload(data: bytes | str, name: str = "one.png") -> dict:
        folder = uploads / "0123"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data if isinstance(data, bytes) else Path(data).read_bytes())
        return {"path": str(folder / name), "meta": {"_type": "gradio.FileData"}}

    return upload


def test_a_sketch_is_developed_and_varied_from_its_file(call, backend, uploaded):
    [sketch], made = call("sketch", "a boat", **QUICK)
    assert backend.steps_done == 3 and made["seed"] == 7
    [whole], _ = call("generate", "a boat", **QUICK)
    before = backend.prior_steps_done
    [developed], made = call("develop", uploaded(sketch["path"]))
    assert backend.prior_steps_done == before and made["seeds"] == [7]
    assert Image.open(developed["path"]).tobytes() == Image.open(whole["path"]).tobytes()
    record = read_record(Path(developed["path"]))
    assert (record.action, record.parents) == ("develop", (read_record(Path(sketch["path"])).id,))
    [other], _ = call("develop", uploaded(sketch["path"]), decoder_steps=4, decoder_guidance=1.5)
    assert read_record(Path(other["path"])).request.decoder_guidance == 1.5
    files, made = call("vary", uploaded(sketch["path"]), amount=0, images=2, seed=50, sketch=True)
    varied = [read_record(Path(file["path"])) for file in files]
    assert [one.start.noise.mix[1].seed for one in varied] == [50, 51] and {one.kind for one in varied} == {"sketch"}


def test_a_checkpoint_that_is_not_served_here_gives_way_to_the_servers(call, uploaded):
    [file], _ = call("sketch", "a boat", **QUICK)
    record = read_record(Path(file["path"]))
    elsewhere = replace(record, request=replace(record.request, checkpoint="/home/me/cascade"))
    data = encode_png(Image.new("RGB", (64, 64)), elsewhere)
    [developed], made = call("develop", uploaded(data))
    assert made["checkpoint"] == read_record(Path(developed["path"])).request.checkpoint == "pocket"
    with pytest.raises(gr.Error, match="not served here"):
        call("develop", uploaded(data), checkpoint="/home/me/cascade")


def test_only_what_was_uploaded_is_read(call, uploads, uploaded, tmp_path):
    [file], _ = call("generate", "a secret", **QUICK)
    elsewhere = tmp_path / "private.png"
    elsewhere.write_bytes(Path(file["path"]).read_bytes())
    link = uploads / "link.png"
    link.symlink_to(elsewhere)
    handed = uploads / handed_name("somebody").upper() / "a.png"
    handed.parent.mkdir()
    handed.write_bytes(elsewhere.read_bytes())
    tricks = [
        file["path"], str(elsewhere), str(link), str(handed), str(uploads), f"{uploads}/../private.png", "", "a\0b", 7, None,
        f"{uploads}/missing.png",
    ]  # fmt: skip
    for path in tricks:
        with pytest.raises(gr.Error, match=r"was not uploaded; send its PNG"):
            call("develop", {"path": path})
    for picture in (None, "a.png", ["a.png"], {}, 3):
        with pytest.raises(gr.Error, match="was not uploaded; send its PNG"):
            call("vary", picture)
    assert call("develop", uploaded(str(elsewhere)))


@pytest.mark.parametrize(
    ("name", "values", "sentence"),
    [
        ("develop", {"decoder_steps": 0}, "Decoder steps is 0"),
        ("develop", {"decoder_guidance": float("nan")}, "Decoder guidance must be a number"),
        ("vary", {"amount": 2}, "must be a number from 0 to 1"),
        ("vary", {"amount": [1]}, "must be a number from 0 to 1"),
        ("vary", {"how": ["magic"]}, "choose slerp or renoise"),
        ("vary", {"images": 17}, "Images is 17"),
        ("vary", {"seed": -1}, "Seed is -1"),
        ("vary", {"prompt": "x" * 20_000}, "20,000 characters"),
        ("vary", {"prompt": ["x"]}, "Prompt must be text"),
    ],
)
def test_a_mistake_is_a_sentence(call, uploaded, name, values, sentence):
    [file], _ = call("sketch", "a boat", **QUICK)
    with pytest.raises(gr.Error, match=sentence):
        call(name, uploaded(file["path"]), **values)
    with pytest.raises(gr.Error, match="not a readable PNG"):
        call(name, uploaded(b"not a png"))


@pytest.mark.parametrize("name", ["develop", "vary"])
def test_every_parameter_is_documented(name, backend, gallery):
    [function] = (function_of(one, backend, gallery) for one in endpoints(backend, SPEC) if one.name == name)
    lines = [line.strip() for line in function.__doc__.splitlines()]
    names = list(inspect.signature(function).parameters)[1:]
    assert names[0] == "picture" and all(any(line.startswith(f"{name}: ") for line in lines) for name in names)
    assert "Returns:" in lines


def test_a_client_uploads_and_develops(backend, gallery):
    with gr.Blocks(analytics_enabled=False) as blocks:
        add_api(backend, gallery, SPEC)
    _app, address, _ = blocks.launch(
        prevent_thread_lock=True, quiet=True, ssr_mode=False, server_name="127.0.0.1", app_kwargs=app_options(gallery)
    )
    try:
        with httpx.Client(base_url=address, timeout=60) as client:
            client.get("/").raise_for_status()
            called = partial(ask, client)
            sketch = called("sketch", prompt="a boat", **QUICK)
            data = client.get(f"/gradio_api/file={sketch['path']}").content
            [path] = client.post("/gradio_api/upload", files={"files": ("one.png", data)}).json()
            picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
            developed = called("develop", picture=picture)
            answer = client.get(f"/gradio_api/file={developed['path']}")
            assert answer.headers["content-type"] == "image/png" and backend.prior_steps_done == 3
            assert called("vary", picture=picture, sketch=True)["path"].endswith(".png")
            described = client.get("/gradio_api/info").json()["named_endpoints"]
            assert list(described) == ["/generate", "/sketch", "/develop", "/vary", "/checkpoints", "/plan"]
    finally:
        blocks.close(verbose=False)


def ask(client: httpx.Client, name: str, **values) -> dict:
    """Call an endpoint as curl would; returns the first file it hands over."""
    event = client.post(f"/gradio_api/call/v2/{name}", json=values).raise_for_status().json()["event_id"]
    answer = client.get(f"/gradio_api/call/{name}/{event}").text
    assert "event: complete" in answer, answer
    return json.loads(answer.rpartition("data: ")[2])[0][0]
