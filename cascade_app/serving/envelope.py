"""What the body of an MCP call may be, before the protocol's library reads it: one JSON-RPC message. Pure but for `read_body`.

The library answers a body nested too deep with 500, and others with pages of its validator's words.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.types import Receive

from cascade_app.errors import InvalidRequest
from cascade_app.serving.calls import read_json

_KINDS: dict[str, tuple[type, ...]] = {"id": (str, int), "method": (str,), "params": (dict,), "result": (dict,), "error": (dict,)}
_NAMES = {str: "text", int: "a whole number", dict: "an object"}


async def read_body(receive: Receive, limit_bytes: int) -> bytes | None:
    """The whole body; None where the caller went away. Stops reading with one that is larger than the limit."""
    data = bytearray()
    while len(data) <= limit_bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        data += message.get("body", b"")
        if not message.get("more_body"):
            break
    return bytes(data)


def again(body: bytes, receive: Receive) -> Receive:
    """`receive` of a request whose body was read already."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receiving() -> Any:
        return waiting.pop() if waiting else await receive()

    return receiving


def opened(body: bytes) -> bytes:
    """The message as plain JSON.

    Raises:
        InvalidRequest: it is none.
    """
    value = read_json(body)
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0" or not {"method", "result", "error"} & value.keys():
        raise InvalidRequest('This is no message of JSON-RPC; send an object with "jsonrpc": "2.0" and a "method".')
    for name, kinds in _KINDS.items():
        if name in value and (not isinstance(value[name], kinds) or isinstance(value[name], bool)):
            taken = " or ".join(_NAMES[kind] for kind in kinds)
            raise InvalidRequest(f'"{name}" of this message is of the wrong type; send {taken}.')
    return json.dumps(value).encode()
