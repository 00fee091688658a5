"""How time and memory grow with resolution, steps and images, against the operations counted: no more than those say.

    python -m cascade_app.bench.scaling --rounds 3

Operations are counted by torch in a real run (products, convolutions, attention). For each axis `growth` holds a row a value:
`flop`, `seconds`, `activation_bytes` (the most held while it runs, over what is held after loading, in a process of its own) and
`pixels`. `worst_time` is the largest (time / time of the first row) / (flop / flop of the first row) on each axis, and
`worst_memory` the same for memory against pixels of the images that go through a network at once: about 1 is growth as it must
be, below 1 that a fixed part weighs less and less. Prints one line of JSON last.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from cascade_app.bench import measure


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark; returns what it prints."""
    arguments = _arguments(argv)
    measure.begin(arguments.threads)
    if arguments.alone:
        return _alone(arguments)
    from cascade_app.bench.weights import checkpoint_folder

    with checkpoint_folder(arguments.checkpoint) as folder:
        name, arguments.checkpoint = arguments.checkpoint, folder
        axes = {axis: grow(arguments, changes) for axis, changes in points(arguments).items()}
    result = {
        "growth": axes,
        "worst_time": {axis: worst(rows, "seconds", "flop") for axis, rows in axes.items()},
        "worst_memory": {axis: worst(rows, "activation_bytes", "pixels") for axis, rows in axes.items()},
    }
    return measure.report("scaling", {**measure.asked(arguments, name), **result}, save=arguments.save)


def points(arguments: argparse.Namespace) -> dict[str, list[dict[str, int]]]:
    """What is asked for along each axis, smallest first; all else stays as it is."""
    prior, decoder = arguments.steps
    return {
        "resolution": [{"width": side, "height": side} for side in arguments.sides],
        "steps": [{"prior_steps": prior * times, "decoder_steps": decoder * times} for times in arguments.times],
        "images": [{"images": count} for count in arguments.images],
    }


def grow(arguments: argparse.Namespace, changes: list[dict[str, int]]) -> list[dict[str, Any]]:
    """A row for each of `changes`: counted, timed in turn, and measured in a process of its own."""
    from cascade_app.bench.studio import Studio, ask

    studio = Studio(arguments.checkpoint, threads=arguments.threads)
    asked = [ask(arguments, 0, **change) for change in changes]
    with measure.told(f"Timing {changes}"):
        sides = {str(place): lambda _number, request=request: studio.make(request) for place, request in enumerate(asked)}
        times = measure.interleaved(sides, rounds=arguments.rounds)
    rows = []
    for place, (request, change) in enumerate(zip(asked, changes, strict=True)):
        flop, made = counted(studio, request)
        width, height = made.pictures[0].size
        row = {"flop": flop, "seconds": times[str(place)].median_s, "pixels": width * height * max(made.batches)}
        if not arguments.no_memory:
            with measure.told(f"Memory of {change}"):
                row["activation_bytes"] = activation_bytes(arguments, change)
        rows.append({**change, **row})
    return rows


def counted(studio: Any, request: Any) -> tuple[int, Any]:
    """Floating-point operations of a run, and what it made."""
    with measure.operation_counter() as counter:
        made = studio.make(request)
    return counter.get_total_flops(), made


def activation_bytes(arguments: argparse.Namespace, change: dict[str, int]) -> int:
    """The most memory held while `change` is made, over what is held before."""
    return measure.alone("scaling", arguments, "--alone", json.dumps(change), "--steps", "2+2")["activation_bytes"]


def _alone(arguments: argparse.Namespace) -> dict[str, Any]:
    from cascade_app.bench.studio import Studio, ask

    studio = Studio(arguments.checkpoint, threads=arguments.threads)
    held = measure.rss_bytes()
    studio.make(ask(arguments, 0, **json.loads(arguments.alone)))
    result = {"activation_bytes": measure.peak_rss_bytes() - held}
    print(json.dumps(result))
    return result


def worst(rows: list[dict[str, Any]], grows: str, like: str) -> float | None:
    """The largest growth of one column over that of another; None where it was not measured."""
    first = rows[0]
    if grows not in first:
        return None
    return measure.rounded(max((row[grows] / first[grows]) / (row[like] / first[like]) for row in rows))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(number) for number in text.split(",")]

    parser = measure.parser(__doc__, rounds=3, steps="5+3")
    parser.add_argument("--sides", type=numbers, default=[192, 256, 320, 384], help="pixels a side")
    parser.add_argument("--times", type=numbers, default=[1, 2, 4], help="multiples of --steps")
    parser.add_argument("--images", type=numbers, default=[1, 2, 4], help="images a request")
    parser.add_argument("--no-memory", action="store_true", help="leave memory out: it takes a process a row")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
