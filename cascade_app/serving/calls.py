"""What the body of a call to the page or the API may be, before anything looks at its values. Pure.

JSON is taken as the standard has it: no NaN or Infinity, whole numbers of 64 bits, at most so deep. Half a surrogate pair, which
a browser sends where a text field cut an emoji in two, becomes the replacement character. Which functions there are is told by
whoever asks; what their values mean is none of this module's business.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade_app.errors import InvalidRequest

DEPTH = 24
SESSION_CHARS = 100
_WHOLE = 2**63
_HALF_PAIR = re.compile("[\ud800-\udfff]")
# What the client may say beside `data`, and of which type; null is as good as nothing.
_SIDE: Mapping[str, tuple[type, ...]] = {
    "session_hash": (str,), "event_id": (str,), "fn_index": (int,), "trigger_id": (int,), "simple_format": (bool,),
}  # fmt: skip
_NONE = type(None)
_FILE: Mapping[str, tuple[type, ...]] = {
    "path": (str,), "url": (str, _NONE), "size": (int, _NONE), "orig_name": (str, _NONE), "mime_type": (str, _NONE),
    "is_stream": (bool, _NONE),
}  # fmt: skip


@dataclass(frozen=True)
class Function:
    """A function of the page: how many values it takes, and its place in the API."""

    name: str
    n_inputs: int
    queued: bool = False
    public: bool = False
    required: tuple[str, ...] = ()  # of a public one's parameters, those without a default
    optional: tuple[str, ...] = ()


def read_json(body: bytes) -> Any:
    """The value, fit to be written as JSON again.

    Raises:
        InvalidRequest: it is no JSON, or none that anybody needs.
    """
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and too many digits are ValueErrors
        raise InvalidRequest("The body of this call is not JSON; send an object as application/json.") from error
    return _plain(value, DEPTH)


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _plain(value: Any, depth: int) -> Any:
    if not depth:
        raise InvalidRequest(f"The body of this call is nested more than {DEPTH} deep, the limit.")
    if isinstance(value, str):
        return _HALF_PAIR.sub("\ufffd", value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int) and not -_WHOLE <= value < _WHOLE:
        raise InvalidRequest("A whole number in this call is too large; the limit is 64 bits.")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest("A number in this call is too large for a float; send a smaller one.")
    if isinstance(value, list):
        return [_plain(one, depth - 1) for one in value]
    if isinstance(value, dict):
        return {_plain(key, depth - 1): _plain(one, depth - 1) for key, one in value.items()}
    return value


def check_call(body: Any, functions: Mapping[int, Function], *, name: str = "") -> None:
    """A call by position, {"data": [...], "fn_index": ...}; without an index, of the function `name`.

    Raises:
        InvalidRequest: it is not one.
    """
    if not isinstance(body, dict) or not isinstance(body.get("data"), list):
        raise InvalidRequest('This call lacks its values; send an object with a list as "data".')
    _check_side(body)
    index = body.get("fn_index")
    function = functions.get(index) if index is not None else next((one for one in functions.values() if one.name == name), None)
    if function is None:
        raise InvalidRequest("There is no such function. The page has been changed since, or never had it; reload it.")
    if len(body["data"]) != function.n_inputs:
        named = f", or any of them by name at /gradio_api/call/v2/{function.name}" if function.public else ""
        raise InvalidRequest(f"This function takes {function.n_inputs} values in order{named}; {len(body['data'])} came.")
    _check_files(body["data"], function)


def check_named_call(body: Any, function: Function) -> None:
    """A call by name: an object of the function's parameters.

    Raises:
        InvalidRequest: it is not one.
    """
    if not isinstance(body, dict):
        raise InvalidRequest("This call lacks its values; send an object of them by name.")
    taken = (*function.required, *function.optional)
    extra = [name for name in body if name not in taken]
    if extra:
        raise InvalidRequest(f'There is no parameter "{extra[0][:60]}"; /{function.name} takes {", ".join(taken) or "none"}.')
    missing = [name for name in function.required if name not in body]
    if missing:
        raise InvalidRequest(f"/{function.name} needs {missing[0]}; send it by that name.")
    _check_files(body, function)


def check_cancel(body: Any) -> None:
    """What a client sends to cancel a run.

    Raises:
        InvalidRequest: it is not that.
    """
    if not isinstance(body, dict):
        raise InvalidRequest("This call lacks its values; send an object of them by name.")
    _check_side(body)
    missing = [name for name in ("session_hash", "fn_index", "event_id") if body.get(name) is None]
    if missing:
        raise InvalidRequest(f"This call lacks {missing[0]}.")


def _check_files(value: Any, function: Function) -> None:
    """Gradio takes an object for a file, wherever it stands, if it says that it is one. The page sends none."""
    if isinstance(value, list):
        for one in value:
            _check_files(one, function)
    elif isinstance(value, dict):
        meta = value.get("meta", {})
        if "path" in value and (not isinstance(meta, dict) or meta.get("_type") == "gradio.FileData"):
            if not function.public:
                raise InvalidRequest("The page takes no files in a call; drop them on it.")
            if not isinstance(meta, dict) or any(not isinstance(value.get(name), types) for name, types in _FILE.items()):
                raise InvalidRequest("A file in this call is not as /gradio_api/upload returns it; upload it and send its path.")
        for one in value.values():
            _check_files(one, function)


def _check_side(body: Mapping[str, Any]) -> None:
    for name, types in _SIDE.items():
        value = body.get(name)
        if value is not None and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            raise InvalidRequest(f"{name} is of the wrong type; send a {types[0].__name__}, or leave it out.")
    if len(body.get("session_hash") or "") > SESSION_CHARS:
        raise InvalidRequest(f"session_hash is longer than {SESSION_CHARS} characters, the limit.")
    if body.get("batched"):
        raise InvalidRequest("No function of this page takes batches; leave batched out.")
