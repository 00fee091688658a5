"""The tools as an MCP client finds and calls them, at a real server with the stand-in engine."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import gradio as gr
import httpx
import pytest
from gradio.utils import get_upload_folder
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult
from PIL import Image

from cascade_app.errors import RenderFailed
from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.png import read_record
from cascade_app.request import FIELD
from cascade_app.serving import mcp_server
from cascade_app.serving.api import gradio_request
from cascade_app.serving.endpoints import endpoints
from cascade_app.serving.mcp_server import PATH, Tools
from cascade_app.serving.pictures import app_options
from tests.fakes import SPEC, FakeBackend

QUICK = {"prompt": "a boat", "seed": 7, "prior_steps": 3, "decoder_steps": 2}
NAMES = ["generate", "sketch", "develop", "vary", "checkpoints", "plan"]


@pytest.fixture(scope="module")
def backend() -> FakeBackend:
    return FakeBackend(spec=replace(SPEC, defaults={"prior_steps": 4}))


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path_factory.mktemp("gallery") / "pictures")
    gallery.open()
    yield gallery
    gallery.close()


@pytest.fixture(scope="module")
def address(backend, gallery, tmp_path_factory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("cache")))
        tools = Tools(
            endpoints(backend, backend.spec), backend, gallery, asking=gradio_request,
            cache=lambda: Path(get_upload_folder()), picture_bytes=1_000_000,
        )  # fmt: skip
        options = app_options(gallery)
        options["routes"] += tools.routes
        with gr.Blocks(analytics_enabled=False) as blocks:
            gr.HTML("")
        _app, address, _ = blocks.launch(
            prevent_thread_lock=True, quiet=True, ssr_mode=False, server_name="127.0.0.1", mcp_server=False,
            app_kwargs={**options, "lifespan": tools.lifespan},
        )  # fmt: skip
        yield address.rstrip("/")
        blocks.close(verbose=False)


@asynccontextmanager
async def session_at(address: str, **headers: str):
    async with (
        httpx.AsyncClient(headers=headers, timeout=30, verify=False) as http,
        streamable_http_client(f"{address}{PATH}/", http_client=http) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        yield session


def ask(address: str, what: Callable[[ClientSession], Awaitable[Any]], **headers: str) -> Any:
    """What `what` makes of a session with the server."""

    async def asking() -> Any:
        async with session_at(address, **headers) as session:
            return await what(session)

    return anyio.run(asking)


def call(address: str, name: str, headers: dict[str, str] | None = None, **arguments: Any) -> CallToolResult:
    return ask(address, lambda session: session.call_tool(name, arguments), **(headers or {}))


def pictures(result: CallToolResult) -> list[bytes]:
    assert not result.isError, result.content
    return [base64.b64decode(one.data) for one in result.content if one.type == "image"]


def sentence(result: CallToolResult) -> str:
    assert result.isError
    [told] = result.content
    return told.text


def test_these_six_are_the_tools_and_they_say_what_they_take(address):
    tools = ask(address, lambda session: session.list_tools()).tools
    assert [tool.name for tool in tools] == NAMES
    assert all(tool.description.count(".") >= 2 for tool in tools)
    generate, plan = tools[0].inputSchema, tools[5].inputSchema
    assert generate["required"] == ["prompt"]
    assert generate["properties"]["prior_steps"] == {
        "description": f"{FIELD['prior_steps'].help} From 1 to 200.", "type": "integer", "default": 4,
        "minimum": 1, "maximum": 200,
    }  # fmt: skip
    assert generate["properties"]["sampler"]["enum"] == ["ddpm", "ddim"]
    assert generate["properties"]["seed"]["type"] == ["integer", "null"]
    assert set(plan["properties"]) == {*generate["properties"], "sketch"}
    assert tools[2].inputSchema["properties"]["picture"]["type"] == "string"
    assert [tool.annotations.readOnlyHint for tool in tools] == [False, False, False, False, True, True]


def test_a_picture_is_an_image_with_its_settings_and_an_address(address, tmp_path):
    result = call(address, "generate", **QUICK, images=2)
    first, second = pictures(result)
    facts = result.structuredContent
    assert json.loads(result.content[-1].text) == facts
    assert facts["seeds"] == [7, 8] and "/tmp" not in result.model_dump_json() and str(Path.cwd()) not in str(facts)
    (tmp_path / "one.png").write_bytes(first)
    assert read_record(tmp_path / "one.png").request.prompt == "a boat" and first != second
    fetched = httpx.get(facts["pictures"][1])
    assert fetched.content == second and fetched.headers["content-type"] == "image/png"


def test_a_sketch_is_developed_from_its_address_and_from_its_bytes(address, backend):
    sketch = call(address, "sketch", **QUICK)
    [data] = pictures(sketch)
    before = backend.prior_steps_done
    sent = (sketch.structuredContent["pictures"][0], f"data:image/png;base64,{base64.b64encode(data).decode()}")
    one, other = (pictures(call(address, "develop", picture=picture))[0] for picture in sent)
    assert backend.prior_steps_done == before
    whole = pictures(call(address, "generate", **QUICK))[0]
    assert len({Image.open(io.BytesIO(picture)).tobytes() for picture in (one, other, whole)}) == 1
    assert len(pictures(call(address, "vary", picture=sent[0], images=2, sketch=True))) == 2


def test_facts_are_told_as_they_are(address, backend):
    before = backend.steps_done
    plan = call(address, "plan", **QUICK, width=320).structuredContent
    assert (plan["width"], plan["seeds"], plan["prior_steps"]) == (320, [7], 3)
    assert call(address, "checkpoints").structuredContent["checkpoints"][0]["name"] == "pocket"
    assert backend.steps_done == before


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("generate", {"prompt": ""}, "Prompt is empty"),
        ("generate", {"prompt": "hills", "width": 250}, "Choose 224 or 256"),
        ("generate", {"prompt": "hills", "steps": 3}, '"steps" is no argument of generate; it takes prompt, '),
        ("generate", {}, "Prompt is empty"),
        ("develop", {}, "There is no such picture here"),
        ("develop", {"picture": "http://127.0.0.1:1/a.png"}, "There is no such picture here"),
        ("develop", {"picture": "/etc/passwd"}, "There is no such picture here"),
        ("develop", {"picture": f"/made/cascade-handed-{'0' * 32}-{'0' * 32}/..%2F..%2Fa.png"}, "There is no such picture here"),
        ("develop", {"picture": f"/made/cascade-handed-{'0' * 32}-{'0' * 32}/{'a' * 5000}"}, "There is no such picture here"),
        ("develop", {"picture": f"/made/cascade-handed-{'0' * 32}-{'0' * 32}/%00"}, "There is no such picture here"),
        ("develop", {"picture": 7}, "There is no such picture here"),
        ("develop", {"picture": "data:image/png;base64,!!!"}, "is not base64"),
        ("develop", {"picture": f"data:image/png;base64,{'A' * 1_400_000}"}, "larger than 1 MB, the limit"),
        ("vary", {"picture": f"data:image/png;base64,{base64.b64encode(b'text').decode()}"}, "not a readable PNG"),
        ("plan", {"prompt": "hills", "seed": -1}, "Seed is -1"),
        ("run", {}, 'There is no tool "run" here; there are generate, sketch,'),
    ],
)
def test_a_mistake_is_a_sentence(address, name, arguments, told):
    assert told in sentence(call(address, name, **arguments))


def test_a_failure_is_a_sentence_and_a_bug_is_not_shown(address, backend):
    try:
        backend.failure = RenderFailed("The device ran out of memory; choose a smaller size.")
        assert "ran out of memory" in sentence(call(address, "generate", **QUICK))
        backend.failure = KeyError("secret detail")
        assert "secret" not in sentence(call(address, "generate", **QUICK))
    finally:
        backend.failure = None


def test_a_visitor_finds_the_pictures_in_the_gallery_and_nobody_else_gets_them(address, gallery):
    cookie = {"cookie": f"cascade_visitor={'B' * 43}"}
    made = call(address, "generate", cookie, **QUICK).structuredContent
    [url] = made["pictures"]
    assert httpx.get(url).status_code == 404 and httpx.get(url, headers=cookie).status_code == 200
    assert list(gallery.folder.rglob(made["files"][0]))
    assert "There is no such picture" in sentence(call(address, "develop", picture=url))
    assert pictures(call(address, "develop", cookie, picture=url))


def test_what_is_too_much_for_one_answer_is_told_by_its_address(address, monkeypatch):
    monkeypatch.setattr(mcp_server, "PICTURES_BYTES", 0)
    result = call(address, "generate", **QUICK)
    assert pictures(result) == [] and len(result.structuredContent["pictures"]) == 1


def test_progress_is_told_to_who_asks(address):
    seen: list[tuple[float, str]] = []

    async def note(fraction: float, total: float | None, message: str | None) -> None:
        seen.append((fraction, message))

    result = ask(address, lambda session: session.call_tool("generate", QUICK, progress_callback=note))
    assert pictures(result) and seen
    assert [fraction for fraction, _ in seen] == sorted(fraction for fraction, _ in seen)
    assert all(" step " in message for _, message in seen)


def test_a_run_ends_when_its_caller_goes(address, backend):
    before = backend.closed_early
    backend.step_s = 0.05

    async def leave() -> None:
        async with httpx.AsyncClient(timeout=30, verify=False) as http:
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                    "params": {"name": "generate", "arguments": {**QUICK, "prior_steps": 200}}}  # fmt: skip
            headers = {"accept": "application/json, text/event-stream"}
            with anyio.move_on_after(5):
                async with http.stream("POST", f"{address}{PATH}", json=call, headers=headers) as answer:
                    assert answer.status_code == 200
                    while not backend.lock.locked():
                        await anyio.sleep(0.01)
        with anyio.fail_after(10):
            while backend.closed_early == before:
                await anyio.sleep(0.01)

    try:
        anyio.run(leave)
    finally:
        backend.step_s = 0.0
    assert not backend.lock.locked()


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 400, "is not JSON"),
        (b"\xff", 400, "is not JSON"),
        (b"[" * 100_000, 400, "is not JSON"),
        (b'{"a":' * 30 + b"1" + b"}" * 30, 400, "nested more than"),
        (b"[]", 400, "no message of JSON-RPC"),
        (b'{"jsonrpc": "2.0"}', 400, "no message of JSON-RPC"),
        (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', 400, '"id" of this message is of the wrong type'),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": []}', 400, "send an object"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": NaN}}', 400, "is not JSON"),
        (b" " * 1_500_000, 413, "larger than 1.43 MB, the limit"),
    ],
)
def test_what_is_no_message_is_told_so_in_a_sentence(address, body, status, sentence):
    headers = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    with httpx.Client(verify=False, timeout=30) as client:
        answer = client.post(f"{address}{PATH}/", content=body, headers=headers)
    assert answer.status_code == status and sentence in answer.json()["error"]["message"]


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_a_browser_is_told_what_this_is(address, method):
    for path in (PATH, f"{PATH}/"):
        answer = httpx.request(method, f"{address}{path}", headers={"accept": "text/event-stream"})
        assert answer.status_code == 405 and "MCP" in answer.text
