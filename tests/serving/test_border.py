"""What reaches Gradio at all: addresses that lead somewhere, and bodies that are calls. By raw HTTP to a live server."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace

import gradio as gr
import httpx
import pytest
from gradio.routes import App

from cascade_app.errors import InvalidRequest
from cascade_app.serving.border import API, CALL_BYTES, CLOSED, OPEN
from cascade_app.serving.calls import Function, check_call, check_cancel, check_named_call, read_json
from cascade_app.serving.pictures import app_options

RUN, JOIN = "/gradio_api/run/keep", "/gradio_api/queue/join"
KEEP = Function("keep", 1, public=True, required=("prompt",), optional=("style",))


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b'{"a": Infinity}', b"[" * 5000, b"\xff", b"1" * 5000, b"1e999", b"9" * 30])
def test_what_is_no_json_of_anybodys(body):
    with pytest.raises(InvalidRequest):
        read_json(body)


def test_json_comes_through_as_it_is():
    value = {"data": ["é", 1, -(2**63), 1.5, True, None, {"a": []}], "\U0001f600": "\U0001f600"}
    assert read_json(json.dumps(value).encode()) == value
    assert read_json(b'"cut \\ud83d here"') == "cut \ufffd here"


@pytest.mark.parametrize("side", [
    {"fn_index": True}, {"fn_index": "0"}, {"fn_index": 7}, {"session_hash": 1}, {"session_hash": "x" * 101}, {"batched": True},
    {"trigger_id": []}, {"data": {}}, {"data": []}, {"data": [1, 2]},
])  # fmt: skip
def test_what_is_no_call(side):
    check_call({"data": ["x"], "fn_index": 0, "session_hash": "s"}, {0: KEEP})
    with pytest.raises(InvalidRequest):
        check_call({"data": ["x"], "fn_index": 0, "session_hash": "s", **side}, {0: KEEP})


@pytest.mark.parametrize("body", [[], {}, {"style": "x"}, {"prompt": "x", "nosuch": 1}])
def test_what_is_no_call_by_name(body):
    check_named_call({"prompt": "x", "style": "y"}, KEEP)
    with pytest.raises(InvalidRequest):
        check_named_call(body, KEEP)


def test_files_in_a_call():
    file = {"path": "/tmp/x.png", "meta": {"_type": "gradio.FileData"}}
    check_call({"data": [file], "fn_index": 0}, {0: KEEP})
    check_named_call({"prompt": {**file, "size": None, "is_stream": False}}, KEEP)
    check_call({"data": [{"path": "no file"}], "fn_index": 0}, {0: replace(KEEP, public=False)})
    refused = [(file, replace(KEEP, public=False)), ([{"a": {**file, "url": 1}}], KEEP)]
    refused += [({**file, name: 1}, KEEP) for name in ("path", "meta", "is_stream")]
    for value, function in refused:
        with pytest.raises(InvalidRequest):
            check_call({"data": [value], "fn_index": 0}, {0: function})


def test_what_is_no_cancelling():
    check_cancel({"session_hash": "s", "fn_index": 1, "event_id": "e"})
    for body in ([], {"session_hash": "s"}, {"session_hash": "s", "fn_index": "x", "event_id": "e"}):
        with pytest.raises(InvalidRequest):
            check_cancel(body)


def test_calls_over_http(browser):
    client = browser()
    assert client.post(RUN, json={"data": ["kept"]}).status_code == 200
    assert client.post(RUN, content=b'{"data": ["cut \\ud83d"]}', headers={"content-type": "application/json"}).status_code == 200
    refused = [
        client.post(RUN, content=b'{"data": ["x"]}'), client.post(RUN, json={"data": []}),
        client.post(RUN, json={"data": [1, 2]}),
        client.post(JOIN, json={"data": [], "fn_index": 99, "session_hash": "s"}),
        client.post("/gradio_api/cancel", json={}), client.post("/gradio_api/reset", json={"event_id": 1}),
    ]  # fmt: skip
    assert [(answer.status_code, list(answer.json())) for answer in refused] == [(400, ["detail"])] * len(refused)
    assert client.post(RUN, json={"data": ["x" * CALL_BYTES]}).status_code == 413
    assert client.post("/gradio_api/call/nosuch", json={"data": []}).status_code == 404


def test_events_that_nobody_knows_end_at_once(browser):
    answer = browser().get("/gradio_api/queue/data", params={"session_hash": "never seen"})
    assert answer.status_code == 200 and json.loads(answer.text.removeprefix("data: "))["session_not_found"] is True
    assert browser().get("/gradio_api/call/keep/never-seen").status_code == 404


def seven() -> int:
    return 7


def test_a_call_leaves_no_session_behind(gallery):
    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.api(seven, api_name="seven")
    app, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, app_kwargs=app_options(gallery))
    try:
        for _ in range(3):
            event = httpx.post(f"{address}gradio_api/call/seven", json={"data": []}).json()["event_id"]
            assert httpx.get(f"{address}gradio_api/call/seven/{event}").text == "event: complete\ndata: [7]\n\n"
            assert httpx.get(f"{address}gradio_api/call/seven/{event}").status_code == 404
        queue = blocks._queue
        named = {"data": [], "session_hash": "mine"}
        event = httpx.post(f"{address}gradio_api/call/seven", json=named).json()["event_id"]
        assert httpx.get(f"{address}gradio_api/call/seven/mine").status_code == 404, "a session is no run: it would never end"
        assert "data: [7]" in httpx.get(f"{address}gradio_api/call/seven/{event}").text
        for session in (app.state_holder.session_data, queue.pending_messages_per_session, queue.pending_event_ids_session):
            session.pop("mine", None)
        held = (app.state_holder.session_data, queue.pending_messages_per_session, queue.pending_event_ids_session)
        assert [len(one) for one in held] == [0, 0, 0]
    finally:
        blocks.close(verbose=False)


@pytest.mark.parametrize("path", [
    "/gradio_api/component_server", "/gradio_api/deep_link", "/gradio_api/process_recording", "/gradio_api/vibe-edit",
    "/gradio_api/proxy=http://127.0.0.1/", "/gradio_api/dev/reload", "/monitoring", "/openapi.json", "/pwa_icon/9999",
    "/assets/" + "a" * 300, "/assets/%00", "/" + "a/" * 3000,
])  # fmt: skip
def test_closed_doors(browser, path: str):
    for method in ("GET", "POST"):
        assert browser().request(method, path).status_code == 404


def test_every_route_of_gradio_was_thought_about():
    """A new version that brings another route fails here, until it is opened or closed on purpose."""
    with gr.Blocks() as blocks:
        gr.api(lambda: 1, api_name="one")
    paths = set(paths_of(App.create_app(blocks)))
    behind = {path.removeprefix(API) for path in paths if path.startswith(f"{API}/")}
    elsewhere = {path.rstrip("/") or "/" for path in paths if not path.startswith(f"{API}/") and not CLOSED.fullmatch(path)}
    assert elsewhere == {
        "/", "/login", "/logout", "/config", "/static/{path:path}", "/assets/{path:path}", "/favicon.ico", "/theme.css",
        "/robots.txt", "/pwa_icon", "/manifest.json",
    }  # fmt: skip
    assert {path.split("/")[1].partition("=")[0] for path in behind if not OPEN.fullmatch(path)} == {
        "component_server", "custom_component", "deep_link", "dev", "process_recording", "proxy", "run-history", "runs", "stream",
        "undo-vibe-edit", "vibe-code", "vibe-edit", "vibe-starter-queries",
    }  # fmt: skip


def paths_of(router) -> Iterator[str]:
    for route in router.routes:
        inner = getattr(route, "original_router", None)
        yield from paths_of(inner) if inner else [route.path]


def test_a_client_that_goes_away_midway(address):
    host = httpx.URL(address)
    with socket.create_connection((host.host, host.port)) as one:
        one.sendall(f"POST {RUN} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{{".encode())
    assert httpx.get(f"{address}/theme.css").status_code == 200
