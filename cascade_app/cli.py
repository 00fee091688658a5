"""The command line: `python -m cascade_app generate "PROMPT" -o picture.png`.

It sits at the top of the house, beside `app.py`: it joins settings, engine and files, and decides exit codes.
Flags come from `request.FIELDS` and values go through `GenerationRequest.from_values` as typed, so page and command
line refuse the same things in the same words. The engine is imported once the request is known to be possible.

Exit codes: 0 done, 1 the run failed, 2 a mistake in what was asked, 3 no placement fits (plan), 130 cancelled with
Ctrl+C. Every failure is one line on standard error; with CASCADE_DEBUG=1 an unexpected one comes with its traceback.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import stat
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TextIO

from cascade_app import __version__, deploy_command, explore_command, plan_command
from cascade_app.catalogue import find_checkpoint
from cascade_app.errors import (
    CascadeError,
    CheckpointError,
    DownloadFailed,
    InvalidRequest,
    NothingFits,
    RenderFailed,
    SettingsError,
)
from cascade_app.events import STAGE_TITLES, Event, Finished, ImageReady, Notice, StageStarted, StepDone, Waiting
from cascade_app.explore import Order
from cascade_app.gallery.png import encode_png
from cascade_app.plan import GenerationPlan, draw_seed, make_plan
from cascade_app.request import FIELD, FIELDS, Field, GenerationRequest
from cascade_app.serving.backend import Backend
from cascade_app.settings import Settings
from cascade_app.wordbook import Wordbook
from cascade_app.words import styled
from cascade_app.work import WHOLE, Work

SECONDS = ("conditioning", "prior", "decoder", "vqgan", "total")
MISTAKES = (InvalidRequest, SettingsError, CheckpointError)
NO_MISTAKE = (DownloadFailed,)  # a checkpoint's trouble, but not of the user's making

MakeBackend = Callable[[Settings], Backend]


def load_local_backend(settings: Settings) -> Backend:
    """The engine in this process, ready to run."""
    from cascade_app.serving.local import LocalBackend

    backend = LocalBackend(settings)
    backend.load()
    return backend


def main(argv: Sequence[str] | None = None, *, make_backend: MakeBackend = load_local_backend) -> int:
    """Run the command in `argv`; returns the exit code (wrong usage and --help raise SystemExit, as argparse does)."""
    arguments = build_parser().parse_args(argv)
    os.environ.update(arguments.environment(arguments))
    settings = Settings()
    try:
        settings = Settings.from_env()
        return arguments.run(arguments, settings, make_backend)
    except KeyboardInterrupt:
        return complain("Cancelled.", 130)
    except CascadeError as error:
        mistake = isinstance(error, MISTAKES) and not isinstance(error, NO_MISTAKE)
        return complain(error.message, 2 if mistake else 1)
    except Exception as error:
        if settings.debug:
            traceback.print_exc()
        return complain(f"{type(error).__name__}: {error} (unexpected; CASCADE_DEBUG=1 shows where)", 1)


def complain(message: str, code: int) -> int:
    """Print `message` as one line on standard error; returns `code`."""
    print(_one_line(message), file=sys.stderr, flush=True)
    return code


def _one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 600 else text[:597] + "..."


# --- what may be typed -----------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are one line, and that takes no abbreviated flags."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        self.exit(complain(f"{self.prog}: {message}; {self.prog} --help lists what there is", 2))


def build_parser() -> Parser:
    parser = Parser(prog="python -m cascade_app", description="Pictures from words with Stable Cascade.")
    parser.add_argument("--version", action="version", version=f"Cascade Studio {__version__}")
    parser.set_defaults(run=lambda *_: parser.print_help() or 0, environment=lambda _: {})
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    for name, help, work in (
        ("generate", "make pictures and write them as PNG files", WHOLE),
        ("sketch", "make negatives only, shown as small pictures, to be developed later", Work(sketch=True)),
    ):
        command = commands.add_parser(name, help=help)
        command.set_defaults(run=partial(run_generate, work=work))
        _add_output(command)
        for field in FIELDS:
            if field.name == "prompt":
                command.add_argument("prompt", metavar="PROMPT", help=_help_of(field))
            else:
                _add_flag(command, field.name)
        command.add_argument("--style", metavar="NAME", help="words put around the prompt; a wrong name lists what there is")

    for name, help, add_arguments, order_of in explore_command.COMMANDS:
        command = commands.add_parser(name, help=help)
        command.set_defaults(run=partial(run_order, order_of=order_of))
        add_arguments(command, partial(_add_flag, command))
        _add_output(command)

    plan = commands.add_parser("plan", help="say what would go where on a card of some size, reading no weights")
    plan.set_defaults(run=run_plan)
    plan_command.add_arguments(plan)

    deploy = commands.add_parser("deploy", help="put the studio on a Space of the hub")
    deploy.set_defaults(run=run_deploy)
    deploy_command.add_arguments(deploy)

    serve = commands.add_parser("serve", help="serve the page")
    serve.set_defaults(run=run_serve, environment=_serve_environment)
    serve.add_argument("--host", metavar="HOST", help="address to listen on (CASCADE_HOST; default 127.0.0.1)")
    serve.add_argument("--port", metavar="PORT", help="port to listen on (CASCADE_PORT; default 7860)")
    return parser


_METAVAR = {"text": "TEXT", "int": "N", "float": "X", "choice": "NAME"}


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-o", "--output", required=True, metavar="FILE.png",
        help="where to write the picture; several become FILE-1.png, FILE-2.png, ...",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="print one line of JSON about the result last")


def _add_flag(command: argparse.ArgumentParser, name: str) -> None:
    field = FIELD[name]
    command.add_argument(flag_of(field), dest=name, metavar=_METAVAR[field.kind], help=_help_of(field))


def flag_of(field: Field) -> str:
    return field.flag or "--" + field.name.replace("_", "-")


def _help_of(field: Field) -> str:
    notes = []
    if field.kind in ("int", "float"):
        notes.append(f"{field.minimum:.10g} to {field.maximum:.10g}")
    if field.choices:
        notes.append(" or ".join(field.choices))
    if field.default not in (None, ""):
        notes.append(f"default {field.default}")
    text = f"{field.help} ({'; '.join(notes)})" if notes else field.help
    return text.replace("%", "%%")  # argparse formats help with %


def _serve_environment(arguments: argparse.Namespace) -> dict[str, str]:
    given = {"CASCADE_HOST": arguments.host, "CASCADE_PORT": arguments.port}
    return {name: value for name, value in given.items() if value is not None}


# --- generate --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rendered:
    """What a run left behind: one path an image, and the seconds of `Finished`."""

    plan: GenerationPlan
    paths: tuple[Path, ...]
    seconds: Mapping[str, float]


def run_generate(arguments: argparse.Namespace, settings: Settings, make_backend: MakeBackend, *, work: Work) -> int:
    plan = plan_of(arguments, settings, work)
    for text in dict.fromkeys(words.prompt for words in plan.words):
        if text != arguments.prompt.strip():
            print(f"Sends: {' '.join(text.split())}", file=sys.stderr, flush=True)
    return _run(plan, work, arguments, settings, make_backend)


def run_order(
    arguments: argparse.Namespace, settings: Settings, make_backend: MakeBackend, *,
    order_of: Callable[[argparse.Namespace], Order],
) -> int:  # fmt: skip
    """What is made from a saved picture."""
    request, work = order_of(arguments)
    plan = make_plan(request, find_checkpoint(request.checkpoint), work, book=Wordbook.of(settings.data_dir))
    return _run(plan, work, arguments, settings, make_backend)


def _run(
    plan: GenerationPlan, work: Work, arguments: argparse.Namespace, settings: Settings, make_backend: MakeBackend
) -> int:
    request = plan.request
    paths = output_paths(arguments.output, len(plan.seeds))
    with closing(Bar(sys.stderr)) as bar:
        bar.show(Waiting("Loading PyTorch and the checkpoint"))
        backend = make_backend(replace(settings, checkpoint=request.checkpoint))
        with closing(backend.generate(request, work)) as events:
            rendered = render(events, plan, paths, bar=bar)
    report(rendered, as_json=arguments.json)
    return 0


def plan_of(arguments: argparse.Namespace, settings: Settings, work: Work) -> GenerationPlan:
    """What was typed, as a plan. As on the page, CASCADE_CHECKPOINT names the checkpoint and that one the defaults."""
    typed = {field.name: getattr(arguments, field.name) for field in FIELDS}
    values = {"checkpoint": settings.checkpoint, **{name: value for name, value in typed.items() if value is not None}}
    spec = find_checkpoint(GenerationRequest.from_values(values).checkpoint)
    request = draw_seed(GenerationRequest.from_values({**spec.defaults, **values}))
    book = Wordbook.of(settings.data_dir)
    return make_plan(styled(request, book, style=arguments.style or ""), spec, work, book=book)


def output_paths(output: str, count: int) -> tuple[Path, ...]:
    """Where `count` pictures go, each known to be writable.

    Raises:
        InvalidRequest: not a PNG's name, a folder, or in a folder that is missing or cannot be written.
    """
    path = Path(output)
    if path.suffix.lower() != ".png":
        raise InvalidRequest(f'The output "{output}" must end in .png, the format of the pictures.', field="output")
    paths = (path,) if count == 1 else tuple(path.with_name(f"{path.stem}-{n + 1}{path.suffix}") for n in range(count))
    try:
        for candidate in paths:
            with suppress(FileNotFoundError):
                if stat.S_ISDIR(candidate.stat().st_mode):
                    raise InvalidRequest(f'The output "{candidate}" is a folder; name a file in it.', field="output")
        probe = _temporary_beside(path)
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise InvalidRequest(
            f'The output "{output}" cannot be written: {error.strerror or error}. Choose another folder or name.',
            field="output",
        ) from error
    return paths


def render(events: Iterable[Event], plan: GenerationPlan, paths: tuple[Path, ...], *, bar: Bar) -> Rendered:
    """Write each picture as soon as it is finished."""
    seconds: Mapping[str, float] = {}
    for event in events:
        bar.show(event)
        if isinstance(event, Notice):
            bar.close()
            print(_one_line(event.message), file=sys.stderr, flush=True)
        elif isinstance(event, ImageReady):
            _write_whole(paths[event.index], encode_png(event.image, event.record.reproducible()))
        elif isinstance(event, Finished):
            seconds = event.seconds
    return Rendered(plan, paths, seconds)


def _write_whole(path: Path, data: bytes) -> None:
    """Write the file under a temporary name, then rename: `path` is the old file or the whole new one, never half."""
    temporary = _temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise RenderFailed(f"{path} could not be written: {error.strerror or error}.") from error
        raise


def _temporary_beside(path: Path) -> Path:
    return path.with_name(f".saving-{secrets.token_hex(6)}.tmp")


def report(rendered: Rendered, *, as_json: bool) -> None:
    """Say what was made, on standard output."""
    plan = rendered.plan
    if not as_json:
        for path, seed in zip(rendered.paths, plan.seeds, strict=True):
            print(f"{path}: {'a sketch for ' if plan.sketch else ''}{plan.width} x {plan.height} px, seed {seed}")
        print(f"{rendered.seconds.get('total', 0.0):.1f} s", flush=True)
        return
    made = [
        {"path": str(path), "seed": seed, "prompt": words.prompt}
        for path, seed, words in zip(rendered.paths, plan.seeds, plan.words, strict=True)
    ]
    line = {
        **made[0],
        "width": plan.width,
        "height": plan.height,
        "checkpoint": plan.checkpoint_name,
        "seconds": {name: round(rendered.seconds.get(name, 0.0), 3) for name in SECONDS},
    }
    print(json.dumps(line if len(made) == 1 else {**line, "images": made}), flush=True)


class Bar:
    """One line that shows where a run stands, on a terminal; silent anywhere else."""

    WIDTH = 28

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream if stream.isatty() else None

    def show(self, event: Event) -> None:
        if isinstance(event, Waiting):
            self._draw(event.reason)
        elif isinstance(event, StageStarted):
            self._draw(STAGE_TITLES.get(event.stage, event.stage))
        elif isinstance(event, StepDone):
            done = round(self.WIDTH * event.fraction)
            self._draw(
                f"[{'#' * done}{'-' * (self.WIDTH - done)}] {event.fraction:4.0%}  "
                f"{STAGE_TITLES.get(event.stage, event.stage)}, step {event.step} of {event.steps}  "
                f"{event.elapsed_s:.0f} s, {event.remaining_s:.0f} s left"
            )

    def close(self) -> None:
        self._draw("")

    def _draw(self, text: str) -> None:
        if self._stream:
            columns = shutil.get_terminal_size().columns
            self._stream.write("\r\x1b[K" + text[: columns - 1])
            self._stream.flush()


# --- plan ------------------------------------------------------------------------------------------------------------


def run_plan(arguments: argparse.Namespace, settings: Settings, _make_backend: MakeBackend) -> int:
    try:
        plan_command.report(arguments, settings)
    except NothingFits as error:
        return complain(error.message, plan_command.NOTHING_FITS)
    return 0


# --- deploy ----------------------------------------------------------------------------------------------------------


def run_deploy(arguments: argparse.Namespace, settings: Settings, _make_backend: MakeBackend) -> int:
    deploy_command.run(arguments, settings)
    return 0


# --- serve -----------------------------------------------------------------------------------------------------------


def run_serve(_arguments: argparse.Namespace, _settings: Settings, _make_backend: MakeBackend) -> int:
    import app  # reads the same settings: the flags were put into the environment

    return app.main()
