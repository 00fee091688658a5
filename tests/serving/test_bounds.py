"""A request's body, an upload's room and connections that stay open have limits, told in a sentence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from cascade_app.errors import GalleryFull
from cascade_app.serving.addresses import Addresses
from cascade_app.serving.bounds import Bodies, Streams
from cascade_app.serving.front import front
from cascade_app.settings import Settings

LIMIT = 1000


async def length(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def forgiving(request: Request) -> PlainTextResponse:
    """Answers whatever happens while it reads, as frameworks do."""
    try:
        return await length(request)
    except Exception:
        return PlainTextResponse("could not be read", 400)


def bodies(**options) -> Starlette:
    routes = [Route(path, handler, methods=["POST", "GET"]) for path, handler in (
        ("/", length), ("/forgiving", forgiving), ("/pictures", length), ("/gradio_api/upload", length),
    )]  # fmt: skip
    return Starlette(routes=routes, middleware=[Middleware(Bodies, n_bytes=LIMIT, **options)])


def asked(app: Starlette, method: str, path: str, **how) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            return await client.request(method, path, **how)

    return asyncio.run(ask())


async def chunks(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * 100


@pytest.mark.parametrize("path", ["/", "/forgiving", "/pictures"])
def test_a_body_up_to_the_limit(path: str):
    app = bodies()
    assert asked(app, "POST", path, content=b"x" * LIMIT).text == str(LIMIT)
    assert asked(app, "POST", path, content=chunks(10)).text == str(LIMIT)
    for content in (b"x" * (LIMIT + 1), chunks(11), chunks(500)):
        answer = asked(app, "POST", path, content=content)
        assert answer.status_code == 413, answer.text
        assert answer.json()["detail"] == "This request is larger than 1 KB, the limit."


@pytest.mark.parametrize("told", ["1001", "9" * 30, "x", "-1", "²"])
def test_a_length_that_is_too_large_or_none(told: str):
    answer = asked(bodies(), "POST", "/", content=b"", headers={"Content-Length": told.encode()})
    assert answer.status_code == 413


def test_an_upload_needs_room():
    def none(n_bytes: int) -> None:
        raise GalleryFull(f"No room for {n_bytes} bytes.")

    app = bodies(room=none)
    for path in ("/gradio_api/upload", "/pictures"):
        answer = asked(app, "POST", path, content=b"x" * 10)
        assert (answer.status_code, answer.json()["error"]) == (507, "No room for 10 bytes.")
    assert asked(app, "POST", "/", content=b"x").status_code == 200
    assert asked(app, "GET", "/pictures").status_code == 200


class Pages:
    """Connections held open, and let go, one by one."""

    def __init__(self, **limits: int) -> None:
        self.let: list[asyncio.Event] = []

        async def stream(request: Request) -> StreamingResponse:
            self.let.append(let := asyncio.Event())

            async def alive() -> AsyncIterator[bytes]:
                yield b"alive"
                await let.wait()

            return StreamingResponse(alive())

        async def other(request: Request) -> PlainTextResponse:
            return PlainTextResponse("other")

        middleware = [Middleware(Addresses, proxies=1), Middleware(Streams, **limits)]
        routes = [
            Route("/gradio_api/heartbeat/{id}", stream),
            Route("/gradio_api/mcp/", stream, methods=["POST"]),
            Route("/{path:path}", other),
        ]
        self.app = Starlette(routes=routes, middleware=middleware)

    async def get(self, path: str, address: str = "192.0.2.1", method: str = "GET") -> int:
        """The status, while the connection goes on if it is a stream."""
        status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        never = asyncio.Event()

        async def receive() -> dict:
            await never.wait()
            return {}

        async def send(message: dict) -> None:
            if message["type"] == "http.response.start":
                status.set_result(message["status"])

        scope = {
            "type": "http", "method": method, "path": path, "headers": [(b"x-forwarded-for", address.encode())],
            "query_string": b"", "root_path": "", "app": self.app,
        }  # fmt: skip
        self.task = asyncio.ensure_future(self.app(scope, receive, send))
        return await status


def test_so_many_connections_stay_open():
    async def ask() -> None:
        pages = Pages(most=2)
        assert [await pages.get("/gradio_api/heartbeat/x") for _ in range(3)] == [200, 200, 503]
        assert await pages.get("/config") == 200
        pages.let[0].set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert [await pages.get("/gradio_api/heartbeat/x") for _ in range(2)] == [200, 503]
        for let in pages.let:
            let.set()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    asyncio.run(ask())


def test_one_address_has_only_a_part_of_them():
    async def ask() -> None:
        pages = Pages(most=10, of_one=2)
        assert [await pages.get("/gradio_api/heartbeat/x") for _ in range(3)] == [200, 200, 503]
        assert await pages.get("/gradio_api/heartbeat/x", "192.0.2.2") == 200
        assert await pages.get("/gradio_api/mcp/", "192.0.2.2", "POST") == 200
        assert await pages.get("/gradio_api/mcp/", "192.0.2.2", "POST") == 503, "a call is answered while it goes on"
        for let in pages.let:
            let.set()
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    asyncio.run(ask())


def test_the_settings_make_the_front(tmp_path: Path):
    named = {one.cls.__name__: one.kwargs for one in front(Settings(data_dir=tmp_path, streams=40, proxies=2)).middleware}
    assert list(named) == ["Addresses", "Streams", "Bodies"]
    assert (named["Addresses"], named["Streams"]) == ({"proxies": 2}, {"most": 40, "of_one": 0})
    hosted = {one.cls.__name__: one.kwargs for one in front(Settings(streams=40, hosted=True, login="ann:b")).middleware}
    assert list(hosted)[-1] == "Gate" and hosted["Streams"]["of_one"] == 10
    named["Bodies"]["room"](1)
    with pytest.raises(GalleryFull):
        front(Settings(data_dir=tmp_path, disk_free_bytes=10**18)).middleware[2].kwargs["room"](1)
