"""The border: ASGI middleware before Gradio, which closes the doors this app has no use for and looks at every call's body.

Gradio brings routes for what is not part of this app (editing its code, recordings, deep links, proxies, functions of
components), and answers many malformed calls with an exception. Here such a request ends with a sentence: 404 for an address
that leads nowhere, 400 for a body that is no call, 413 for one too large. What gets through is passed on as it came, but for
text that is no Unicode (see `calls.py`). Knows no values and no visitors.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cascade_app.errors import InvalidRequest
from cascade_app.gallery.limits import size
from cascade_app.serving.calls import Function, check_call, check_cancel, check_named_call, read_json

CALL_BYTES = 4_000_000  # a call holds a form's values; pictures are uploaded
SEGMENT_BYTES = 255  # no file's name is longer
PATH_BYTES = 4096
API = "/gradio_api"
# Behind /gradio_api, all that this app serves. What is not named leads nowhere.
OPEN = re.compile(
    r"/(info|openapi\.json|app_id|login_check|token|user|startup-events|theme\.css|reset|cancel|upload|upload_progress"
    r"|queue/(join|data|status)|(run|api)/[^/]+|call/(v2/)?[^/]+(/[^/]+)?|heartbeat/[^/]+|file[=/].*|mcp(/.*)?)/?"
)
# Elsewhere, what Gradio and FastAPI serve and this app does not use.
CLOSED = re.compile(r"/(svelte/.*|monitoring(/.*)?|pwa_icon/.*|docs(/.*)?|redoc|openapi\.json)")
_CALL = re.compile(r"/(?P<how>run|api|call|call/v2)/(?P<name>[^/]+)/?")
_ANSWER = re.compile(r"/call/(v2/)?(?P<name>[^/]+)/(?P<event>[^/]+)/?")
_log = logging.getLogger(__name__)


class Border:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._functions: dict[int, Function] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path") or "")
        inner = path.removeprefix(API) if path.startswith(f"{API}/") else None
        if not _leads_somewhere(path, inner):
            await _refused("There is nothing at this address.", 404)(scope, receive, send)
        elif scope["method"] == "POST" and inner is not None and _takes_json(inner):
            await self._call(inner, scope, receive, send)
        elif scope["method"] == "GET" and inner is not None and (gone := self._gone(inner, scope)):
            await gone(scope, receive, send)
        else:
            await self.app(scope, receive, self._forgetting(inner, scope, send))

    async def _call(self, inner: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, look at it, and pass it on."""
        try:
            body = await _body(scope, receive)
            if body is None:
                return  # the client has gone
            value = read_json(body)
            found = self._check(inner, value, scope)
        except _TooLarge:
            sentence = f"This call is larger than {size(CALL_BYTES)}, the limit. Upload pictures instead of sending them in it."
            await _refused(sentence, 413)(scope, receive, send)
        except InvalidRequest as error:
            await _refused(error.message, 400)(scope, receive, send)
        else:
            if not found:
                await _refused(f"There is no such function here; {API}/info lists those there are.", 404)(scope, receive, send)
                return
            if b"\\ud" in body or b"\\uD" in body:
                body = json.dumps(value).encode()
            await self.app(_of_length(scope, len(body)), _again(body, receive), send)

    def _check(self, inner: str, value: Any, scope: Scope) -> bool:
        """Whether there is such a function. Raises InvalidRequest where the call does not fit it."""
        if inner.strip("/") == "cancel":
            check_cancel(value)
            _cancel(value, scope)
            return True
        if inner.strip("/") == "reset":
            if not isinstance(value, dict) or not isinstance(value.get("event_id"), str):
                raise InvalidRequest("This call lacks event_id.")
            return True
        functions = self._known(scope)
        match = _CALL.fullmatch(inner)
        if match is None:  # queue/join
            check_call(value, functions)
            if not value.get("session_hash"):
                raise InvalidRequest("This call lacks session_hash.")
            return True
        public = next((one for one in functions.values() if one.public and one.name == match["name"]), None)
        if match["how"].startswith("call"):
            if public is not None and match["how"] == "call/v2":
                check_named_call(value, public)
            elif public is not None:
                check_call(value, functions, name=public.name)
            return public is not None
        check_call(value, functions, name=match["name"])
        index = value.get("fn_index")
        return index is None or not functions[index].queued

    def _known(self, scope: Scope) -> Mapping[int, Function]:
        """The functions of the page, which do not change once it is served."""
        if not self._functions:
            blocks = scope["app"].get_blocks()
            named = blocks.get_api_info()["named_endpoints"]
            # Those without a function run in the browser alone.
            self._functions = {index: _function(one, named) for index, one in blocks.fns.items() if one.fn is not None}
        return self._functions

    def _forgetting(self, inner: str | None, scope: Scope, send: Send) -> Send:
        """`send`, and after the answer of a call, its session is forgotten. Gradio opens one for each call, a quarter of a
        megabyte for this page, and would keep it until it is the oldest of too many."""
        match = _ANSWER.fullmatch(inner or "")
        if match is None or scope["method"] != "GET":
            return send

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                blocks = scope["app"].get_blocks()
                queue, holder = blocks._queue, blocks.state_holder
                for held in (queue.pending_messages_per_session, queue.pending_event_ids_session,
                             holder.session_data, holder.time_last_used):  # fmt: skip
                    held.pop(match["event"], None)
            await send(message)

        return sending

    def _gone(self, inner: str, scope: Scope) -> Response | None:
        """An answer to who asks for the events of a run that nobody knows (any more)."""
        queue = getattr(scope["app"].get_blocks(), "_queue", None)
        waiting = getattr(queue, "pending_messages_per_session", None)
        if waiting is None:
            return None
        if inner.strip("/") == "queue/data":
            session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
            if session in waiting:
                return None
            told = {"msg": "unexpected_error", "message": "This session is not known any more.", "session_not_found": True}
            return PlainTextResponse(f"data: {json.dumps({**told, 'success': False})}\n\n", media_type="text/event-stream")
        match = _ANSWER.fullmatch(inner)
        if match is None:
            return None
        event = match["event"]
        pending = list(queue.pending_event_ids_session.values())  # until its answer was fetched
        known = event in queue.event_ids_to_events or any(event in ids for ids in pending)
        return None if known else _refused("There is no such run, or its answer was fetched already.", 404)


class _TooLarge(Exception):
    """A call's body passed the limit."""


def _cancel(value: Mapping[str, Any], scope: Scope) -> None:
    """Note with a run that it is not wanted any more: Gradio itself only stops those that are generators."""
    queue = getattr(scope["app"].get_blocks(), "_queue", None)
    event = getattr(queue, "event_ids_to_events", {}).get(value.get("event_id"))
    if event is not None and event.session_hash == value.get("session_hash"):
        event.alive = False


def _leads_somewhere(path: str, inner: str | None) -> bool:
    if len(path) > PATH_BYTES or any(len(one.encode("utf-8", "replace")) > SEGMENT_BYTES for one in path.split("/")):
        return False
    if any(ord(one) < 32 for one in path):
        return False
    return CLOSED.fullmatch(path) is None if inner is None else OPEN.fullmatch(inner) is not None


def _takes_json(inner: str) -> bool:
    return inner.strip("/") in ("queue/join", "cancel", "reset") or _CALL.fullmatch(inner) is not None


def _function(one: Any, named: Mapping[str, Any]) -> Function:
    parameters = named.get(f"/{one.api_name}", {}).get("parameters", ()) if one.api_visibility == "public" else ()
    required = tuple(each["parameter_name"] for each in parameters if not each.get("parameter_has_default"))
    optional = tuple(each["parameter_name"] for each in parameters if each.get("parameter_has_default"))
    return Function(str(one.api_name), len(one.inputs), bool(one.queue), one.api_visibility == "public", required, optional)


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body, or None where the client went away. Raises _TooLarge, and InvalidRequest where it is not called JSON."""
    headers = Headers(scope=scope)
    if not headers.get("content-type", "").partition(";")[0].strip().lower().endswith("json"):
        raise InvalidRequest("This call is not sent as application/json.")
    data = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        data += message.get("body", b"")
        if len(data) > CALL_BYTES:
            raise _TooLarge
        if not message.get("more_body"):
            return bytes(data)


def _of_length(scope: Scope, n_bytes: int) -> Scope:
    """The scope of a request whose body was read, and may have another length now."""
    scope = {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() != b"transfer-encoding"]}
    MutableHeaders(scope=scope)["content-length"] = str(n_bytes)
    return scope


def _again(body: bytes, receive: Receive) -> Receive:
    """`receive` from the start, the body in one piece."""
    told = False

    async def receiving() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving


def _refused(sentence: str, status: int) -> Response:
    return JSONResponse({"detail": sentence}, status)
