"""The six functions that other programs may call: what each takes, what it says of itself, and what it does.

    generate, sketch, develop, vary    pictures: an order, which `run` carries out
    plan, checkpoints                  facts, at once and without the engine

`api.py` offers them as Gradio's endpoints, `mcp_server.py` as tools; both are made from this table. Of a prompt nothing but the
prompt is required, of a saved picture nothing but the picture. A mistake is an InvalidRequest with its sentence. Knows no
protocol: a saved picture comes as the path of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cascade_app import explore
from cascade_app.catalogue import CheckpointSpec
from cascade_app.events import Event, Finished, ImageSaved, Notice, RunStarted
from cascade_app.gallery.png import read_record
from cascade_app.gallery.store import record
from cascade_app.plan import GenerationPlan
from cascade_app.record import Record
from cascade_app.request import FIELD, FIELDS, Field, GenerationRequest
from cascade_app.serving.backend import Backend
from cascade_app.serving.facts import checkpoint_facts, plan_facts
from cascade_app.serving.handover import HandOver
from cascade_app.serving.offer import check_offered, offered
from cascade_app.wordbook import Wordbook
from cascade_app.words import styled
from cascade_app.work import WHOLE, Work

REQUIRED: Any = object()
MADE = (
    "What was made: files, seed, seeds, width, height, checkpoint, prompts as they were sent, notes in sentences, seconds "
    "for each stage, and the reference of the run in the server's log."
)
_TYPES: dict[str, Any] = {"text": str, "int": int, "float": float, "choice": str}
Values = Mapping[str, Any]


class Picture:
    """The type of an argument that is a saved picture; each protocol has its own way to send one."""


@dataclass(frozen=True)
class Argument:
    """One argument: its type as an annotation, what it means, and its default. `limits` are inclusive."""

    name: str
    type: Any
    help: str
    default: Any = REQUIRED
    limits: tuple[float, float] | None = None


@dataclass(frozen=True)
class Endpoint:
    """One function. Either `order` says what to run, or `tell` answers at once; both raise CascadeError."""

    name: str
    about: str
    arguments: tuple[Argument, ...]
    returns: tuple[str, ...]
    order: Callable[[Values], explore.Order] | None = None
    tell: Callable[[Values], Any] | None = None


@dataclass(frozen=True)
class Made:
    """What a run has come to: the files handed over, and what they are."""

    paths: tuple[Path, ...]
    facts: dict[str, Any]


def endpoints(backend: Backend, spec: CheckpointSpec, *, book: Wordbook | None = None) -> tuple[Endpoint, ...]:
    """All of them. `spec` is the checkpoint a call without one uses."""
    book = book or Wordbook.of()
    form = _form(spec, book)

    def request(values: Values) -> GenerationRequest:
        return _request(values, spec, book)

    def plan(values: Values) -> dict[str, Any]:
        work = Work(sketch=values.get("sketch") is True)
        asked = request({name: value for name, value in values.items() if name != "sketch"})
        return plan_facts(backend, asked, work)

    return (
        Endpoint(
            "generate", "Make pictures from a prompt with Stable Cascade; each is a PNG file that carries its settings.", form,
            ("The pictures as PNG files.", MADE), order=lambda values: (request(values), WHOLE),
        ),
        Endpoint(
            "sketch", "Make negatives from a prompt with Stable Cascade's prior alone; each is a small PNG file that can be "
            "developed later.", form, ("The sketches as PNG files.", MADE),
            order=lambda values: (request(values), Work(sketch=True)),
        ),
        _develop(spec), _vary(spec),
        Endpoint(
            "checkpoints", "The checkpoints served here: sizes of their networks, licence, picture sizes, defaults and presets.",
            (), ("A list with an object for each checkpoint.",), tell=lambda _: checkpoint_facts(backend, spec.name),
        ),
        Endpoint(
            "plan", "What generate or sketch would make with the same arguments, without making it.",
            (*form, Argument("sketch", bool, "Plan sketches instead of whole pictures.", False)),
            ("Size, seeds, prompts as they would be sent, steps, shapes of the latents, where the weights are, and notes in "
             "sentences, such as which words would be cut.",), tell=plan,
        ),
    )  # fmt: skip


def _develop(spec: CheckpointSpec) -> Endpoint:
    def order(values: Values) -> explore.Order:
        given = {name: values[name] for name in explore.DECODER_FIELDS if values.get(name) is not None}
        return explore.develop(_record(values, spec), **given)

    about = "Make the picture of the negative in a saved picture or sketch, without running the prior."
    fields = (_argument(FIELD[name], None) for name in explore.DECODER_FIELDS)
    arguments = (_PICTURE, *(replace(one, type=one.type | None) for one in fields), _CHECKPOINT)
    return Endpoint("develop", about, arguments, ("The picture as a PNG file.", MADE), order=order)


def _vary(spec: CheckpointSpec) -> Endpoint:
    def order(values: Values) -> explore.Order:
        return explore.vary(
            _record(values, spec), values.get("amount", 0.5), values.get("images", 1), how=values.get("how", "slerp"),
            prompt=values.get("prompt") or None, sketch=values.get("sketch") is True, seed=values.get("seed"),
        )  # fmt: skip

    how = "slerp turns the noise that it began with, renoise adds noise to its negative and finishes it again."
    images, seed = (_argument(FIELD[name], None) for name in ("images", "seed"))
    arguments = (
        _PICTURE,
        Argument("amount", float, "How far from it, from 0, subtle, to 1, strong.", 0.5, (0, 1)),
        Argument("how", Literal["slerp", "renoise"], how, "slerp"),
        Argument("prompt", str | None, "Other words for the new ones; its own if left alone.", None),
        replace(images, help=f"{FIELD['images'].label}, each with fresh noise.{_within(FIELD['images'])}", default=1),
        replace(seed, type=int | None,
                help=f"Of the first one's fresh noise; random if left alone.{_within(FIELD['seed'])}"),
        Argument("sketch", bool, "Make negatives only, shown as small pictures.", False),
        _CHECKPOINT,
    )  # fmt: skip
    returns = ("The pictures as PNG files.", MADE)
    return Endpoint("vary", "Make pictures near a saved picture or sketch.", arguments, returns, order=order)


def run(
    backend: Backend, store: HandOver, request: GenerationRequest, work: Work = WHOLE, *, reference: str
) -> Iterator[Event | Made]:
    """The events of a run that hands its pictures over, and after them what was made. Closing it stops the run.

    `reference` is what the log calls the run; the answer says it too.
    """
    saved: list[ImageSaved] = []
    notes: list[str] = []
    seconds: dict[str, float] = {}
    plan: GenerationPlan | None = None
    with closing(record(backend.generate(request, work), store)) as events:
        for event in events:
            match event:
                case RunStarted():
                    plan = event.plan
                case ImageSaved():
                    saved.append(event)
                case Notice():
                    notes.append(event.message)
                case Finished():
                    seconds = dict(event.seconds)
            yield event
    seeds = [event.seed for event in saved]
    yield Made(
        tuple(event.path for event in saved),
        {
            "files": [event.path.name for event in saved],  # not "path": clients take an object with that key for a file
            "seed": seeds[0] if seeds else None,
            "seeds": seeds,
            "width": plan.width if plan else None,
            "height": plan.height if plan else None,
            "checkpoint": plan.checkpoint_name if plan else request.checkpoint,
            "prompts": [words.prompt for words in plan.words] if plan else [],
            "notes": notes,
            "seconds": seconds,
            "reference": reference,
        },
    )


def _request(values: Values, spec: CheckpointSpec, book: Wordbook) -> GenerationRequest:
    given = {name: value for name, value in values.items() if value is not None}
    style = given.pop("style", "")
    request = GenerationRequest.from_values({**spec.defaults, "checkpoint": spec.name, **given})
    check_offered(request.checkpoint, spec.name)
    return styled(request, book, style=style)


def _record(values: Values, spec: CheckpointSpec) -> Record:
    """What a saved picture holds, with a checkpoint that is served here. Raises InvalidRequest: not a picture of ours."""
    record = read_record(values["picture"])
    own, asked = record.request.checkpoint, values.get("checkpoint")
    name = check_offered(asked, spec.name) if asked else own if own in offered(spec.name) else spec.name
    return replace(record, request=replace(record.request, checkpoint=name))


# --- arguments -------------------------------------------------------------------------------------------------------


_PICTURE = Argument("picture", Picture, "The PNG file as it was saved; it carries its settings and its negative.")
_CHECKPOINT = Argument("checkpoint", str | None, "The picture's own if left alone and served here, else the server's.", None)


def _form(spec: CheckpointSpec, book: Wordbook) -> tuple[Argument, ...]:
    """An argument a field, and last the style."""
    styles = " ".join(f"{style.name}: {style.about}" for style in book.styles.values())
    style = Argument("style", str, f"Words put around the prompt, one of these. {styles}", "")
    return (*(_field_argument(field, spec) for field in FIELDS), style)


def _field_argument(field: Field, spec: CheckpointSpec) -> Argument:
    if field.name == "prompt":
        return _argument(field, REQUIRED)
    default = spec.name if field.name == "checkpoint" else spec.defaults.get(field.name, field.default)
    argument = _argument(field, default)
    return argument if default is not None else replace(argument, type=argument.type | None)


def _argument(field: Field, default: Any) -> Argument:
    kind = Literal[field.choices] if field.choices else _TYPES[field.kind]
    limits = None if field.kind in ("text", "choice") else (field.minimum, field.maximum)
    return Argument(field.name, kind, f"{field.help}{_within(field)}", default, limits)


def _within(field: Field) -> str:
    if field.choices:
        return f" One of {', '.join(field.choices)}."
    if field.kind == "text":
        return f" At most {field.maximum:,.0f} characters."
    return f" From {field.minimum:.10g} to {field.maximum:.10g}."
