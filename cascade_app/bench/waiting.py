"""How torch's threads had better wait for each other: asleep at once, after a moment, or hardly ever.

    python -m cascade_app.bench.waiting --rounds 3 --busy 0,1,3

Every picture of a small checkpoint is thousands of waits shorter than falling asleep and waking; where other processes want the
same cores, a thread that spins keeps them from those it waits for. A page on this machine has them fall asleep at once, a hosted
page and the command line after a moment. Each side runs in a process of its own, in turn, beside `busy` processes that do nothing
but count. `ratio_asleep` and `ratio_spinning` hold, for each number of them, that side's time over the one with a moment:
above 1, the moment is quicker. Prints one line of JSON last.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cascade_app.bench import measure
from cascade_app.runtime.torch_start import SPINS

# GNU OpenMP's own choice is the last.
SIDES: Mapping[str, Mapping[str, str]] = {
    "asleep": {"GOMP_SPINCOUNT": "0"}, "moment": {"GOMP_SPINCOUNT": SPINS}, "spinning": {"GOMP_SPINCOUNT": "300000"},
}  # fmt: skip
PICTURES = 3


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark; returns what it prints."""
    arguments = _arguments(argv)
    measure.begin(arguments.threads)
    if arguments.alone:
        return _alone(arguments)
    others = [name for name in SIDES if name != "moment"]
    result: dict[str, Any] = {**{f"ratio_{name}": {} for name in others}, "seconds": {}}
    for busy in arguments.busy:
        with measure.told(f"Beside {busy} busy processes"), busy_processes(busy):
            seconds = interleaved(arguments)
        result["seconds"][busy] = {name: measure.rounded(statistics.median(each)) for name, each in seconds.items()}
        for name in others:
            result[f"ratio_{name}"][busy] = measure.rounded(measure.ratio(seconds[name], seconds["moment"]))
    return measure.report("waiting", {**measure.asked(arguments, arguments.checkpoint), **result}, save=arguments.save)


def interleaved(arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds a picture of each side, a process each round."""
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    for number in range(arguments.rounds):
        for name in list(SIDES)[:: -1 if number % 2 else 1]:
            seconds[name].append(measure.alone("waiting", arguments, "--alone", environment=SIDES[name])["seconds"])
    return seconds


@contextmanager
def busy_processes(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many processes, each of which wants a core for itself."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()


def _alone(arguments: argparse.Namespace) -> dict[str, Any]:
    from cascade_app.bench.studio import Studio, ask

    studio = Studio(arguments.checkpoint, threads=arguments.threads)
    times = measure.interleaved({"one": lambda number: studio.make(ask(arguments, number))}, rounds=PICTURES)
    result = {"seconds": times["one"].median_s}
    print(json.dumps(result))
    return result


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = measure.parser(__doc__, rounds=3)
    parser.add_argument(
        "--busy", type=lambda text: [int(count) for count in text.split(",")], default=[0, 1, 3], help="busy processes beside it"
    )
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
