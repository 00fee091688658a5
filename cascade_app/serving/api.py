"""The named endpoints `/generate`, `/sketch`, `/develop`, `/vary`, `/checkpoints` and `/plan`, as Gradio offers functions.

What they take and do is in `endpoints.py`; here they get a signature and a docstring that Gradio reads, and a caller. A
user's mistake comes back as an error whose message is the sentence; a fault as one that ends with its reference in the log.
Knows nothing of the page's elements.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from gradio.data_classes import FileDataDict
from gradio.utils import get_upload_folder
from starlette.requests import Request

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import CascadeError, InvalidRequest
from cascade_app.gallery.gallery import Gallery
from cascade_app.logs import explained
from cascade_app.serving.backend import Backend
from cascade_app.serving.caller import Caller, asked_by
from cascade_app.serving.endpoints import REQUIRED, Argument, Endpoint, Picture, endpoints, run
from cascade_app.serving.handover import hand_over
from cascade_app.serving.visitors import HANDED_PREFIX, caller_of
from cascade_app.wordbook import Wordbook

FACTS_AT_ONCE = 4
UNEXPECTED = "Something went wrong that should not have. It was written to the log; please try again."
Returned = tuple[list[FileDataDict], dict]
_log = logging.getLogger(__name__)


def add_api(
    backend: Backend, gallery: Gallery, spec: CheckpointSpec, *, runs_at_once: int = 4, book: Wordbook | None = None
) -> None:
    """Register the endpoints in the Blocks being built. `spec` is the checkpoint a call without one uses."""
    for endpoint in endpoints(backend, spec, book=book):
        if endpoint.order:
            # One limit for all of them and the page's: they wait for the same engine.
            waits = {"concurrency_limit": runs_at_once, "concurrency_id": "engine"}
        else:
            waits = {"concurrency_limit": FACTS_AT_ONCE, "concurrency_id": "facts"}
        gr.api(function_of(endpoint, backend, gallery), api_name=endpoint.name, **waits)


def function_of(endpoint: Endpoint, backend: Backend, gallery: Gallery) -> Callable[..., Any]:
    """The function Gradio calls: the request first, then a parameter an argument."""
    names = [argument.name for argument in endpoint.arguments]

    def call(http: gr.Request, *sent: Any, **named: Any) -> Any:
        values = {**dict(zip(names, sent, strict=False)), **named}
        caller = replace(caller_of(http), gone=hung_up())
        try:
            if endpoint.tell:
                return endpoint.tell(values)
            if "picture" in names:
                values["picture"] = _uploaded(values.get("picture"))
            store = hand_over(gallery, http, Path(get_upload_folder()))
            with closing(run(asked_by(caller, backend), store, *endpoint.order(values), reference=caller.request_id)) as events:
                [made] = deque(_while_wanted(events, caller), maxlen=1)
            return [_file(path) for path in made.paths], made.facts
        except Exception as error:
            sentence = explained(error, _log, otherwise=UNEXPECTED, reference=caller.request_id)
            raise gr.Error(sentence, print_exception=False) from error

    caller = inspect.Parameter("http", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request)  # given by Gradio
    parameters = [caller, *map(_parameter, endpoint.arguments)]
    returned = Returned if endpoint.order else list[dict] if endpoint.name == "checkpoints" else dict
    call.__name__ = endpoint.name
    call.__signature__ = inspect.Signature(parameters, return_annotation=returned)
    call.__annotations__ = {**{one.name: one.annotation for one in parameters}, "return": returned}
    call.__doc__ = _document(endpoint)
    return call


def hung_up() -> Callable[[], bool]:
    """Whether whoever made the call under way here has gone or cancelled it, which Gradio only notes; it has no public way to
    ask."""
    blocks, id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    event = blocks._queue.event_ids_to_events.get(id) if blocks is not None and id else None
    return lambda: event is not None and not event.alive


def _while_wanted(events: Iterator[Any], caller: Caller) -> Iterator[Any]:
    """`events`, until nobody wants them any more: Gradio runs a function to its end, whoever has gone."""
    for event in events:
        if caller.gone():
            raise CascadeError("The call was cancelled.")
        yield event


def gradio_request(http: Request) -> gr.Request:
    """A request that came to a route of our own, as Gradio's; for the code under way here it is the one being answered, as
    ZeroGPU wants to know."""
    request = gr.Request(http)
    LocalContext.request.set(request)
    return request


def _uploaded(picture: Any) -> Path:
    """The path of an upload. A caller may name any: only the folder of uploads is read, and not what was handed out there."""
    try:
        path = Path(picture["path"]).resolve(strict=True)
        parts = path.relative_to(Path(get_upload_folder()).resolve()).parts
    except (KeyError, TypeError, ValueError, OSError, RuntimeError):
        parts = ()
    if not parts or any(part.lower().startswith(HANDED_PREFIX) for part in parts):
        raise InvalidRequest("The picture was not uploaded; send its PNG file with the call.")
    return path


def _file(path: Path) -> dict[str, Any]:
    return {"path": str(path), "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}


def _parameter(argument: Argument) -> inspect.Parameter:
    return inspect.Parameter(
        argument.name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=inspect.Parameter.empty if argument.default is REQUIRED else argument.default,
        annotation=FileDataDict if argument.type is Picture else argument.type,
    )


def _document(endpoint: Endpoint) -> str:
    lines = [endpoint.about, ""]
    if endpoint.arguments:
        lines += ["Args:", *(f"    {argument.name}: {argument.help}" for argument in endpoint.arguments), ""]
    return "\n".join([*lines, "Returns:", *(f"    {line}" for line in endpoint.returns)])
