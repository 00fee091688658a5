"""The six functions as tools of the Model Context Protocol, at /gradio_api/mcp, for programs that talk with a language model.

Gradio can do this too, but it passes a list of pictures on as one text with this machine's paths in it, has no way to give a
tool a saved picture, and calls the server's own address without the caller's login. Here a picture is an image, its file as it
was saved, settings and negative inside; beside it stand its address and the facts. `develop` and `vary` take that address
again, or the file as a data: URL, and fetch nothing from elsewhere. A run tells its progress, and ends when its caller goes.

Streamable HTTP without sessions: each request stands for itself, so nothing is kept for a caller who does not come back.
Knows nothing of Gradio: how a request looks to the page's code, and where files are handed over, it is told.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import anyio
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from cascade_app import __version__
from cascade_app.errors import InvalidRequest
from cascade_app.events import STAGE_TITLES, Event, StepDone, Waiting
from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.limits import size
from cascade_app.logs import explained
from cascade_app.request import shown
from cascade_app.serving.backend import Backend
from cascade_app.serving.caller import asked_by
from cascade_app.serving.endpoints import REQUIRED, Argument, Endpoint, Made, Picture, run
from cascade_app.serving.envelope import again, opened, read_body
from cascade_app.serving.handover import address_of, file_at, hand_over, made_route
from cascade_app.serving.visitors import caller_of

PATH = "/gradio_api/mcp"  # where clients look for it on a Gradio app
CALLS_AT_ONCE = 40  # each holds a thread while it waits for its turn; further ones wait for that
PICTURES_BYTES = 12_000_000  # of an answer; what is more is told by its address alone
INSTRUCTIONS = (
    "Makes pictures with Stable Cascade. generate makes whole pictures; sketch makes many small ones quickly, and develop makes "
    "the whole picture of a sketch you like. vary makes others near one. plan and checkpoints tell sizes and limits."
)
UNEXPECTED = "Something went wrong that should not have. It was written to the log; please try again."
_PICTURE = "A picture made here: its address as another tool told it, or its PNG file as a data:image/png;base64 URL."
_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_log = logging.getLogger(__name__)


class Tools:
    """The tools of `endpoints`, and what the web application needs to serve them: `routes` and `lifespan`.

    asking: a Starlette request as the page's handlers know one; called where the tool runs.
    cache: Gradio's folder of files. `picture_bytes`: of a picture that is sent, at most.
    """

    def __init__(
        self, endpoints: tuple[Endpoint, ...], backend: Backend, gallery: Gallery, *, asking: Callable[[Request], Any],
        cache: Callable[[], Path], picture_bytes: int = 32 * 10**6,
    ) -> None:  # fmt: skip
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self._backend, self._gallery, self._asking, self._cache = backend, gallery, asking, cache
        self._picture_bytes, self._body_bytes = picture_bytes, picture_bytes * 4 // 3 + 100_000
        self._threads = anyio.CapacityLimiter(CALLS_AT_ONCE)
        self._manager: StreamableHTTPSessionManager | None = None
        self._server = Server("Cascade Studio", version=__version__, instructions=INSTRUCTIONS)
        self._server.list_tools()(self._list)
        self._server.call_tool(validate_input=False)(self._call)  # our own sentences are better than a schema's

    @property
    def routes(self) -> list[Route]:
        return [Route(PATH, _Asgi(self._answer)), Route(f"{PATH}/", _Asgi(self._answer)), made_route(self._cache)]

    @asynccontextmanager
    async def lifespan(self, _app: Any) -> AsyncIterator[None]:
        # Checked before; what is written anew is at most six times as long, where each character is escaped.
        manager = StreamableHTTPSessionManager(self._server, stateless=True, max_request_body_size=6 * self._body_bytes)
        async with manager.run():
            self._manager = manager
            yield
        self._manager = None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST" or self._manager is None:
            sentence = "This address is for programs that speak MCP over streamable HTTP; they POST to it."
            await PlainTextResponse(sentence, 405, headers={"Allow": "POST"})(scope, receive, send)
            return
        body = await read_body(receive, self._body_bytes)
        if body is None:
            return
        try:
            if len(body) > self._body_bytes:
                raise InvalidRequest(f"This call is larger than {size(self._body_bytes)}, the limit.")
            body = opened(body)
        except InvalidRequest as error:
            status = 413 if len(body) > self._body_bytes else 400
            told = {"jsonrpc": "2.0", "id": None, "error": {"code": types.INVALID_REQUEST, "message": error.message}}
            await JSONResponse(told, status)(scope, receive, send)
            return
        headers = MutableHeaders(scope=scope)
        headers["content-length"] = str(len(body))
        await self._manager.handle_request(scope, again(body, receive), send)

    async def _list(self) -> list[types.Tool]:
        return [tool_of(endpoint) for endpoint in self._endpoints.values()]

    async def _call(self, name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            return _refusal(f"There is no tool {shown(name)} here; there are {', '.join(self._endpoints)}.")
        context = self._server.request_context
        progress = _Progress(context)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(progress.send)
            work = partial(self._work, endpoint, arguments, context.request, progress)
            result = await anyio.to_thread.run_sync(work, limiter=self._threads)
            tasks.cancel_scope.cancel()
        return result

    def _work(
        self, endpoint: Endpoint, arguments: dict[str, Any], request: Request, progress: _Progress
    ) -> types.CallToolResult:
        """In a thread: a tool from its arguments to its answer."""
        http = self._asking(request)
        caller = replace(caller_of(http), gone=progress.over.is_set)
        try:
            with self._values(endpoint, arguments, caller.visitor) as values:
                if endpoint.tell:
                    return _told(endpoint.tell(values))
                order = endpoint.order(values)
            store = hand_over(self._gallery, http, self._cache())
            made: Any = None
            with closing(run(asked_by(caller, self._backend), store, *order, reference=caller.request_id)) as events:
                for made in events:
                    anyio.from_thread.check_cancelled()  # the caller has gone: closing the events stops the run
                    progress.see(made)
            return _made(made, base_of(request))
        except Exception as error:
            return _refusal(explained(error, _log, otherwise=UNEXPECTED, reference=caller.request_id))

    @contextmanager
    def _values(self, endpoint: Endpoint, arguments: dict[str, Any], visitor: str) -> Iterator[dict[str, Any]]:
        """The arguments, with a picture as a file. Raises InvalidRequest."""
        names = [argument.name for argument in endpoint.arguments]
        unknown = next((name for name in arguments if name not in names), None)
        if unknown is not None:
            takes = ", ".join(names) or "none"
            raise InvalidRequest(f"{shown(unknown)} is no argument of {endpoint.name}; it takes {takes}.")
        if "picture" not in names:
            yield arguments
            return
        cache = self._cache()
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="cascade-sent-", dir=cache) as folder:
            yield {**arguments, "picture": self._picture(arguments.get("picture"), visitor, Path(folder))}

    def _picture(self, sent: Any, visitor: str, folder: Path) -> Path:
        if isinstance(sent, str) and sent.startswith("data:"):
            if len(sent) * 3 // 4 > self._picture_bytes + 100:
                raise InvalidRequest(f"The picture is larger than {size(self._picture_bytes)}, the limit.")
            try:
                data = base64.b64decode(sent.partition(",")[2], validate=True)
            except (binascii.Error, ValueError):
                raise InvalidRequest("The picture is not base64; send data:image/png;base64, and the file's bytes.") from None
            path = folder / "sent.png"
            path.write_bytes(data)
            return path
        found = file_at(sent, visitor or None, self._cache()) if isinstance(sent, str) else None
        if found is None:
            raise InvalidRequest(
                "There is no such picture here; send the address that generate or sketch told within the last hour, or the PNG "
                "file as a data:image/png;base64 URL."
            )
        return found


class _Asgi:
    """A bound method as an ASGI application: Starlette takes functions and methods for something else."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Any]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class _Progress:
    """How far a run is, told to whoever asked to be. Only the newest matters: a caller who reads slowly holds up nobody."""

    def __init__(self, context: Any) -> None:
        self._session, self._request_id = context.session, context.request_id
        self._token = context.meta.progressToken if context.meta else None
        self._newest: tuple[float, str] = (0.0, "")
        self._told = anyio.Event()
        self.over = threading.Event()  # nobody listens any more

    def see(self, event: Event | Made) -> None:
        """From the run's thread."""
        newest = _progress_of(event, self._newest[0])
        if self._token is not None and newest is not None and newest != self._newest:
            anyio.from_thread.run_sync(self._set, newest)

    def _set(self, newest: tuple[float, str]) -> None:
        self._newest = newest
        self._told.set()

    async def send(self) -> None:
        """Until it is cancelled, with the call or at its end."""
        try:
            while True:
                await self._told.wait()
                self._told = anyio.Event()
                fraction, message = self._newest
                await self._session.send_progress_notification(
                    self._token, fraction, total=1.0, message=message, related_request_id=str(self._request_id)
                )
        finally:
            self.over.set()


def _progress_of(event: Event | Made, fraction: float) -> tuple[float, str] | None:
    match event:
        case Waiting():
            return fraction, event.reason
        case StepDone():
            return event.fraction, f"{STAGE_TITLES[event.stage]}, step {event.step} of {event.steps}"
    return None


# --- answers ---------------------------------------------------------------------------------------------------------


def _told(facts: Any) -> types.CallToolResult:
    facts = facts if isinstance(facts, dict) else {"checkpoints": facts}
    return types.CallToolResult(content=[_text(facts)], structuredContent=facts)


def _made(made: Made, base: str) -> types.CallToolResult:
    images: list[types.ImageContent] = []
    left = PICTURES_BYTES
    for path in made.paths:
        data = path.read_bytes()
        left -= len(data)
        if left >= 0:
            images.append(types.ImageContent(type="image", data=base64.b64encode(data).decode(), mimeType="image/png"))
    facts = {**made.facts, "pictures": [f"{base}{address_of(path)}" for path in made.paths]}
    return types.CallToolResult(content=[*images, _text(facts)], structuredContent=facts)


def _refusal(sentence: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=sentence)], isError=True)


def _text(facts: Mapping[str, Any]) -> types.TextContent:
    return types.TextContent(type="text", text=json.dumps(facts, ensure_ascii=False))


def base_of(request: Request) -> str:
    """This server's address as its caller sees it, behind a proxy too; without a slash at the end."""
    headers = request.headers
    scheme = headers.get("x-forwarded-proto", request.url.scheme).split(",")[0].strip()
    host = headers.get("x-forwarded-host", headers.get("host", request.url.netloc)).split(",")[0].strip()
    return f"{scheme}://{host}{request.scope.get('root_path', '').rstrip('/')}"


# --- descriptions ----------------------------------------------------------------------------------------------------


def tool_of(endpoint: Endpoint) -> types.Tool:
    """How a client is told of it."""
    schema = {
        "type": "object",
        "properties": {argument.name: _schema(argument) for argument in endpoint.arguments},
        "required": [argument.name for argument in endpoint.arguments if argument.default is REQUIRED],
        "additionalProperties": False,
    }
    returns = " ".join(endpoint.returns)
    return types.Tool(
        name=endpoint.name,
        description=f"{endpoint.about} Returns: {returns}",
        inputSchema=schema,
        annotations=types.ToolAnnotations(readOnlyHint=endpoint.tell is not None, destructiveHint=False, openWorldHint=False),
    )


def _schema(argument: Argument) -> dict[str, Any]:
    if argument.type is Picture:
        return {"type": "string", "description": _PICTURE}
    about: dict[str, Any] = {"description": argument.help}
    if get_origin(argument.type) is Literal:
        about |= {"type": "string", "enum": list(get_args(argument.type))}
    else:
        kinds = [_JSON_TYPES[one] for one in get_args(argument.type) or (argument.type,)]
        about["type"] = kinds if len(kinds) > 1 else kinds[0]
    if argument.limits:
        about["minimum"], about["maximum"] = argument.limits
    if argument.default is not REQUIRED:
        about["default"] = argument.default
    return about
