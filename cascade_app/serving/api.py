"""The named endpoints `/generate`, `/sketch`, `/develop` and `/vary`: typed, documented, and built from the table of fields.

Of a prompt nothing but the prompt is required, of a saved picture nothing but its file. A user's mistake comes back as an
error whose message is the sentence; a fault as one that ends with its reference in the log. Knows nothing of the page's
elements.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

import gradio as gr
from gradio.data_classes import FileDataDict
from gradio.utils import get_upload_folder

from cascade_app import explore
from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import InvalidRequest
from cascade_app.events import Finished, ImageSaved, RunStarted
from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.png import read_record
from cascade_app.gallery.store import record
from cascade_app.logs import explained
from cascade_app.plan import GenerationPlan
from cascade_app.record import Record
from cascade_app.request import FIELD, FIELDS, Field, GenerationRequest
from cascade_app.serving.backend import Backend
from cascade_app.serving.handover import HandOver, hand_over
from cascade_app.serving.offer import check_offered, offered
from cascade_app.serving.visitors import HANDED_PREFIX
from cascade_app.wordbook import Wordbook
from cascade_app.words import styled
from cascade_app.work import WHOLE, Work

API_RUNS_AT_ONCE = 4  # calls that may wait for the engine inside it; the rest wait in the queue
UNEXPECTED = "Something went wrong that should not have. It was written to the log; please try again."
DESCRIPTION = "Make pictures from a prompt with Stable Cascade; each is a PNG file that carries its settings."
SKETCH_DESCRIPTION = (
    "Make negatives from a prompt with Stable Cascade's prior alone; each is a small PNG file that can be developed later."
)
RETURNS = (
    "The pictures as PNG files.",
    "What was made: files, seed, seeds, width, height, checkpoint, prompts as they were sent, and seconds for each stage.",
)
Returned = tuple[list[FileDataDict], dict]
_TYPES: dict[str, Any] = {"text": str, "int": int, "float": float, "choice": str}
_log = logging.getLogger(__name__)


def add_api(backend: Backend, gallery: Gallery, spec: CheckpointSpec, *, book: Wordbook | None = None) -> None:
    """Register the endpoints in the Blocks being built. `spec` is the checkpoint a call without one uses."""
    endpoints = {
        "generate": endpoint(backend, gallery, spec, book=book),
        "sketch": endpoint(backend, gallery, spec, book=book, work=Work(sketch=True)),
        "develop": develop_endpoint(backend, gallery, spec),
        "vary": vary_endpoint(backend, gallery, spec),
    }
    for name, function in endpoints.items():
        # One limit for all of them: they wait for the same engine.
        gr.api(function, api_name=name, concurrency_limit=API_RUNS_AT_ONCE, concurrency_id="engine")


def endpoint(
    backend: Backend, gallery: Gallery, spec: CheckpointSpec, *, book: Wordbook | None = None, work: Work = WHOLE
) -> Callable[..., tuple[list, dict]]:
    """The function behind `/generate` and `/sketch`: a parameter a field, its type, default and help, and last the style."""
    book = book or Wordbook.of()
    names = [*(field.name for field in FIELDS), "style"]

    def generate(http: gr.Request, *sent: Any, **named: Any) -> Any:
        values = {**dict(zip(names, sent, strict=False)), **named}
        return _answer(backend, gallery, http, lambda: (_request(values, spec, book), work))

    style = inspect.Parameter("style", inspect.Parameter.POSITIONAL_OR_KEYWORD, default="", annotation=str)
    parameters = [*(_parameter(field, spec) for field in FIELDS), style]
    caller = inspect.Parameter("http", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request)  # given by Gradio
    generate.__signature__ = inspect.Signature([caller, *parameters], return_annotation=Returned)
    generate.__annotations__ = {**{one.name: one.annotation for one in (caller, *parameters)}, "return": Returned}
    generate.__doc__ = _docstring(SKETCH_DESCRIPTION if work.sketch else DESCRIPTION, book)
    return generate


def develop_endpoint(backend: Backend, gallery: Gallery, spec: CheckpointSpec) -> Callable[..., tuple[list, dict]]:
    """The function behind `/develop`."""

    def develop(
        http: gr.Request, picture: FileDataDict, decoder_steps: int | None = None, decoder_guidance: float | None = None,
        checkpoint: str | None = None,
    ) -> Returned:  # fmt: skip
        settings = {"decoder_steps": decoder_steps, "decoder_guidance": decoder_guidance}
        given = {name: value for name, value in settings.items() if value is not None}
        return _answer(backend, gallery, http, lambda: explore.develop(_record(picture, checkpoint, spec), **given))

    return _told(develop, "Make the picture of the negative in a saved picture or sketch, without running the prior.", {
        "decoder_steps": f"{FIELD['decoder_steps'].help}{_limits(FIELD['decoder_steps'])}",
        "decoder_guidance": f"{FIELD['decoder_guidance'].help}{_limits(FIELD['decoder_guidance'])}",
    })  # fmt: skip


def vary_endpoint(backend: Backend, gallery: Gallery, spec: CheckpointSpec) -> Callable[..., tuple[list, dict]]:
    """The function behind `/vary`."""

    def vary(
        http: gr.Request, picture: FileDataDict, amount: float = 0.5, how: Literal["slerp", "renoise"] = "slerp",
        prompt: str | None = None, images: int = 1, seed: int | None = None, sketch: bool = False, checkpoint: str | None = None,
    ) -> Returned:  # fmt: skip
        return _answer(backend, gallery, http, lambda: explore.vary(
            _record(picture, checkpoint, spec), amount, images, how=how, prompt=prompt or None, sketch=sketch is True, seed=seed
        ))  # fmt: skip

    return _told(vary, "Make pictures near a saved picture or sketch.", {
        "amount": "How far from it, from 0, subtle, to 1, strong.",
        "how": "slerp turns the noise that it began with, renoise adds noise to its negative and finishes it again.",
        "prompt": "Other words for the new ones; its own if left alone.",
        "images": f"{FIELD['images'].label}, each with fresh noise.{_limits(FIELD['images'])}",
        "seed": f"Of the first one's fresh noise; random if left alone.{_limits(FIELD['seed'])}",
        "sketch": "Make negatives only, shown as small pictures.",
    })  # fmt: skip


def _answer(backend: Backend, gallery: Gallery, http: gr.Request, order: Callable[[], explore.Order]) -> tuple[list, dict]:
    """Run what `order` says for the caller; whatever goes wrong becomes one sentence."""
    try:
        store = hand_over(gallery, http, Path(get_upload_folder()))
        return run_to_end(backend, store, *order())
    except Exception as error:
        raise gr.Error(explained(error, _log, otherwise=UNEXPECTED), print_exception=False) from error


def _told(function: Callable[..., Any], what: str, arguments: dict[str, str]) -> Callable[..., Any]:
    """The function of a saved picture with its documentation, and its annotations as what they are."""
    arguments = {
        "picture": "The PNG file as it was saved; it carries its settings and its negative.", **arguments,
        "checkpoint": "The picture's own if left alone and served here, else the server's.",
    }  # fmt: skip
    function.__doc__ = _document(what, arguments)
    function.__annotations__ = get_type_hints(function)
    return function


def _record(picture: Any, checkpoint: str | None, spec: CheckpointSpec) -> Record:
    """What an uploaded file holds, with a checkpoint that is served here.

    Raises:
        InvalidRequest: it was not uploaded, or is not a picture of ours.
    """
    record = read_record(_uploaded(picture))
    own = record.request.checkpoint
    name = check_offered(checkpoint, spec.name) if checkpoint else own if own in offered(spec.name) else spec.name
    return replace(record, request=replace(record.request, checkpoint=name))


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


def run_to_end(
    backend: Backend, store: HandOver, request: GenerationRequest, work: Work = WHOLE
) -> tuple[list[dict], dict[str, Any]]:
    """Run `request`, or what `work` says of it; returns its saved pictures as Gradio file values, and what was made."""
    paths: list[Path] = []
    seeds: list[int] = []
    seconds: dict[str, float] = {}
    plan: GenerationPlan | None = None
    with closing(record(backend.generate(request, work), store)) as events:
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
        "prompts": [words.prompt for words in plan.words] if plan else [],
        "seconds": seconds,
    }
    return files, made


def _request(values: dict[str, Any], spec: CheckpointSpec, book: Wordbook) -> GenerationRequest:
    given = {name: value for name, value in values.items() if value is not None}
    style = given.pop("style", "")
    request = GenerationRequest.from_values({**spec.defaults, "checkpoint": spec.name, **given})
    check_offered(request.checkpoint, spec.name)
    return styled(request, book, style=style)


def _parameter(field: Field, spec: CheckpointSpec) -> inspect.Parameter:
    kind = Literal[field.choices] if field.choices else _TYPES[field.kind]
    if field.name == "prompt":
        return inspect.Parameter(field.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
    default = spec.name if field.name == "checkpoint" else spec.defaults.get(field.name, field.default)
    annotation = kind if default is not None else kind | None
    return inspect.Parameter(
        field.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation
    )


def _docstring(what: str, book: Wordbook) -> str:
    styles = " ".join(f"{style.name}: {style.about}" for style in book.styles.values())
    arguments = {field.name: f"{field.help}{_limits(field)}" for field in FIELDS}
    return _document(what, {**arguments, "style": f"Words put around the prompt, one of these. {styles}"})


def _document(what: str, arguments: Mapping[str, str]) -> str:
    lines = [what, "", "Args:", *(f"    {name}: {help}" for name, help in arguments.items())]
    return "\n".join([*lines, "", "Returns:", *(f"    {line}" for line in RETURNS)])


def _limits(field: Field) -> str:
    if field.choices:
        return f" One of {', '.join(field.choices)}."
    if field.kind == "text":
        return f" At most {field.maximum:,.0f} characters."
    return f" From {field.minimum:.10g} to {field.maximum:.10g}."
