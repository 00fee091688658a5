"""`python -m cascade_app develop PICTURE.png` and `vary PICTURE.png`: from a saved picture to what to run.

Owns their flags. What the flags mean is `explore.py`, how the result is written `cli.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cascade_app import explore
from cascade_app.gallery.png import read_record
from cascade_app.record import Record
from cascade_app.request import FIELD


def add_develop(parser: argparse.ArgumentParser, flag: Callable[[str], None]) -> None:
    """The flags of `develop`. `flag` adds that of a request's field."""
    _add_picture(parser, "a picture or sketch saved by Cascade Studio; its negative is developed")
    for name in (*explore.DECODER_FIELDS, "checkpoint"):
        flag(name)


def developed(arguments: argparse.Namespace) -> explore.Order:
    """What `develop` asks for. Raises InvalidRequest."""
    typed = {name: getattr(arguments, name) for name in (*explore.DECODER_FIELDS, "checkpoint")}
    return explore.develop(_record(arguments), **{name: value for name, value in typed.items() if value is not None})


def add_vary(parser: argparse.ArgumentParser, flag: Callable[[str], None]) -> None:
    """The flags of `vary`."""
    _add_picture(parser, "a picture or sketch saved by Cascade Studio; new ones are made near it")
    parser.add_argument(
        "--amount", metavar="HOW_FAR", default="medium",
        help=f"{', '.join(explore.AMOUNTS)}, or a number from 0 to 1 (default medium)",
    )  # fmt: skip
    parser.add_argument(
        "--how", metavar="WAY", default="slerp",
        help="slerp turns the noise it began with, renoise adds noise to the negative itself (default slerp)",
    )  # fmt: skip
    parser.add_argument("--prompt", metavar="TEXT", help="other words for the new ones; the picture's own if left alone")
    parser.add_argument("--sketch", action="store_true", help="make negatives only, to be developed later")
    for name in ("images", "seed", "checkpoint"):
        flag(name)


def varied(arguments: argparse.Namespace) -> explore.Order:
    """What `vary` asks for. Raises InvalidRequest."""
    record = _record(arguments)
    if arguments.checkpoint is not None:
        record = replace(record, request=replace(record.request, checkpoint=FIELD["checkpoint"].parse(arguments.checkpoint)))
    return explore.vary(
        record, amount_of(arguments.amount), 1 if arguments.images is None else arguments.images,
        how=arguments.how, prompt=arguments.prompt, sketch=arguments.sketch, seed=arguments.seed,
    )  # fmt: skip


def amount_of(text: str) -> float | str:
    """A number as one; a name, or what is neither, as it is."""
    try:
        return float(text)
    except ValueError:
        return text


def _add_picture(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("picture", metavar="PICTURE.png", help=help)


def _record(arguments: argparse.Namespace) -> Record:
    return read_record(Path(arguments.picture))


COMMANDS = (
    ("develop", "make the picture of a saved negative, without the prior", add_develop, developed),
    ("vary", "make pictures near a saved one", add_vary, varied),
)
