"""The named endpoint `/generate`: typed, documented, and built from the table of fields like the page.

Only `prompt` is required. A user's mistake comes back as an error whose message is the sentence; anything unexpected
as a general one, with the traceback in the log only. Knows nothing of the page's elements.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from gradio.data_classes import FileDataDict
from gradio.utils import get_upload_folder

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import CascadeError
from cascade_app.events import Finished, ImageSaved, RunStarted
from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.store import record
from cascade_app.plan import GenerationPlan
from cascade_app.request import FIELDS, Field, GenerationRequest
from cascade_app.serving.backend import Backend
from cascade_app.serving.handover import HandOver, hand_over
from cascade_app.serving.offer import check_offered

API_RUNS_AT_ONCE = 4  # calls that may wait for the engine inside it; the rest wait in the queue
DESCRIPTION = "Make pictures from a prompt with Stable Cascade; each is a PNG file that carries its settings."
RETURNS = (
    "The pictures as PNG files.",
    "What was made: files, seed, seeds, width, height, checkpoint, and seconds for each stage.",
)
_TYPES: dict[str, Any] = {"text": str, "int": int, "float": float, "choice": str}
_log = logging.getLogger(__name__)


def add_api(backend: Backend, gallery: Gallery, spec: CheckpointSpec) -> None:
    """Register the endpoint in the Blocks being built. `spec` is the checkpoint a call without one uses."""
    gr.api(endpoint(backend, gallery, spec), api_name="generate", concurrency_limit=API_RUNS_AT_ONCE)


def endpoint(backend: Backend, gallery: Gallery, spec: CheckpointSpec) -> Callable[..., tuple[list, dict]]:
    """The function behind `/generate`, with a parameter a field, its type, default and help."""
    names = [field.name for field in FIELDS]

    def generate(http: gr.Request, *sent: Any, **named: Any) -> Any:
        values = {**dict(zip(names, sent, strict=False)), **named}
        try:
            store = hand_over(gallery, http, Path(get_upload_folder()))
            return run_to_end(backend, store, _request(values, spec))
        except CascadeError as error:
            raise gr.Error(error.message, print_exception=False) from error
        except Exception as error:
            _log.exception("An API call failed unexpectedly")
            raise gr.Error(
                "Something went wrong that should not have. It was written to the log; please try again.",
                print_exception=False,
            ) from error

    parameters = [_parameter(field, spec) for field in FIELDS]
    returns = tuple[list[FileDataDict], dict]
    caller = inspect.Parameter("http", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request)  # given by Gradio
    generate.__signature__ = inspect.Signature([caller, *parameters], return_annotation=returns)
    generate.__annotations__ = {**{one.name: one.annotation for one in (caller, *parameters)}, "return": returns}
    generate.__doc__ = _docstring()
    return generate


def run_to_end(backend: Backend, store: HandOver, request: GenerationRequest) -> tuple[list[dict], dict[str, Any]]:
    """Run `request`; returns its saved pictures as Gradio file values, and what was made."""
    paths: list[Path] = []
    seeds: list[int] = []
    seconds: dict[str, float] = {}
    plan: GenerationPlan | None = None
    with closing(record(backend.generate(request), store)) as events:
        for event in events:
            match event:
                case RunStarted():
                    plan = event.plan
                case ImageSaved():
                    paths.append(event.path)
                    seeds.append(event.seed)
                case Finished():
                    seconds = dict(event.seconds)
    files = [{"path": str(path), "orig_name": path.name, "meta": {"_type": "gradio.FileData"}} for path in paths]
    made = {
        "files": [path.name for path in paths],  # not "path": clients take an object with that key for a file
        "seed": seeds[0] if seeds else None,
        "seeds": seeds,
        "width": plan.width if plan else None,
        "height": plan.height if plan else None,
        "checkpoint": plan.checkpoint_name if plan else request.checkpoint,
        "seconds": seconds,
    }
    return files, made


def _request(values: dict[str, Any], spec: CheckpointSpec) -> GenerationRequest:
    given = {name: value for name, value in values.items() if value is not None}
    request = GenerationRequest.from_values({**spec.defaults, "checkpoint": spec.name, **given})
    check_offered(request.checkpoint, spec.name)
    return request


def _parameter(field: Field, spec: CheckpointSpec) -> inspect.Parameter:
    kind = Literal[field.choices] if field.choices else _TYPES[field.kind]
    if field.name == "prompt":
        return inspect.Parameter(field.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
    default = spec.name if field.name == "checkpoint" else spec.defaults.get(field.name, field.default)
    annotation = kind if default is not None else kind | None
    return inspect.Parameter(
        field.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation
    )


def _docstring() -> str:
    lines = [DESCRIPTION, "", "Args:"]
    lines += [f"    {field.name}: {field.help}{_limits(field)}" for field in FIELDS]
    lines += ["", "Returns:", *(f"    {line}" for line in RETURNS)]
    return "\n".join(lines)


def _limits(field: Field) -> str:
    if field.choices:
        return f" One of {', '.join(field.choices)}."
    if field.kind == "text":
        return f" At most {field.maximum:,.0f} characters."
    return f" From {field.minimum:.10g} to {field.maximum:.10g}."
