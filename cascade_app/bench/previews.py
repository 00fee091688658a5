"""What previews cost: whole runs with them against the same runs without.

    python -m cascade_app.bench.previews --rounds 15

`ratio` is with over without, 1.03 being three percent of a run. Without, the networks that make previews are taken away and
everything else stays. The last stretch to a browser (JPEG) is not in it. Prints one line of JSON last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cascade_app.bench import measure


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark; returns what it prints."""
    arguments = measure.parser(__doc__, rounds=15).parse_args(argv)
    measure.begin(arguments.threads)
    from cascade_app.bench.studio import Studio, ask
    from cascade_app.bench.weights import checkpoint_folder

    with checkpoint_folder(arguments.checkpoint) as folder:
        name, arguments.checkpoint = arguments.checkpoint, folder
        on, off = (Studio(folder, threads=arguments.threads, previews=previews) for previews in (True, False))
        made: dict[str, Any] = {}

        def run(side: str, studio: Studio, number: int) -> None:
            made[side] = studio.make(ask(arguments, number))

        sides = {"on": lambda number: run("on", on, number), "off": lambda number: run("off", off, number)}
        with measure.told(f"{arguments.rounds} rounds with and without previews"):
            times = measure.interleaved(sides, rounds=arguments.rounds)
    result = {
        **measure.compared(times["on"], times["off"]),
        "seconds_on": measure.rounded(times["on"].median_s),
        "seconds_off": measure.rounded(times["off"].median_s),
        "previews_on": made["on"].previews,
        "previews_off": made["off"].previews,
        "same_picture": made["on"].pictures == made["off"].pictures,
        "dtype": on.dtype,
    }
    return measure.report("previews", {**measure.asked(arguments, name), **result}, save=arguments.save)


if __name__ == "__main__":
    main()
