"""Guidance in only some of Stage C's steps, which is approximate and off by default: time saved, and what it does to a picture.

    python -m cascade_app.bench.interval --rounds 3

For each interval: `ratio`, the time with guidance throughout over the time with the interval (above 1: quicker), and how far
its pictures are from those with guidance throughout, as the mean over the seeds: `mean_difference` of 255, and `psnr_db`.
`another_seed` gives the same two figures for pictures of the same prompt from another seed, to judge them by. Prints one line
of JSON last.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from cascade_app.bench import measure

THROUGHOUT = "0-1"


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark; returns what it prints."""
    parser = measure.parser(__doc__, rounds=6)
    parser.add_argument("--intervals", default="0-0.5,0-0.75,0.1-0.6,0.25-0.75,0.5-1", help="fractions of Stage C's steps")
    arguments = parser.parse_args(argv)
    intervals = [THROUGHOUT, *arguments.intervals.split(",")]
    measure.begin(arguments.threads)
    from cascade_app.bench.studio import Studio, ask
    from cascade_app.bench.weights import checkpoint_folder

    with checkpoint_folder(arguments.checkpoint) as folder:
        name, arguments.checkpoint = arguments.checkpoint, folder
        studio = Studio(folder, threads=arguments.threads)
        pictures: dict[str, dict[int, Any]] = {interval: {} for interval in intervals}

        def runner(interval: str) -> Any:
            start, stop = map(float, interval.split("-"))

            def run(number: int) -> None:
                request = ask(arguments, number, guidance_start=start, guidance_stop=stop)
                pictures[interval][number] = studio.make(request).pictures[0]

            return run

        with measure.told(f"{arguments.rounds} rounds of {len(intervals)} intervals"):
            times = measure.interleaved({interval: runner(interval) for interval in intervals}, rounds=arguments.rounds)
        other = {}
        for number in range(arguments.rounds):
            request = ask(arguments, number)
            other[number] = studio.make(request.with_seed(request.seed + 1000)).pictures[0]
    whole, numbers = pictures[THROUGHOUT], range(arguments.rounds)
    result = {
        "intervals": {
            interval: {
                **measure.compared(times[THROUGHOUT], times[interval]),
                **distance([(pictures[interval][number], whole[number]) for number in numbers]),
            }
            for interval in intervals[1:]
        },
        "another_seed": distance([(other[number], whole[number]) for number in numbers]),
        "seconds_throughout": measure.rounded(times[THROUGHOUT].median_s),
        "dtype": studio.dtype,
    }
    return measure.report("interval", {**measure.asked(arguments, name), **result}, save=arguments.save)


def distance(pairs: list[tuple[Any, Any]]) -> dict[str, float]:
    """Mean absolute difference of 255 and peak signal-to-noise ratio in dB (99 for equal), averaged over pairs of pictures."""
    import numpy

    differences = [numpy.asarray(one, dtype=float) - numpy.asarray(other, dtype=float) for one, other in pairs]
    squares = [float((each**2).mean()) for each in differences]
    decibels = [min(99.0, 10 * math.log10(255**2 / square)) if square else 99.0 for square in squares]
    return {
        "mean_difference": measure.rounded(statistics.mean(float(abs(each).mean()) for each in differences)),
        "psnr_db": measure.rounded(statistics.mean(decibels)),
    }


if __name__ == "__main__":
    main()
