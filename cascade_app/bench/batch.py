"""Several images in one request against one at a time: seconds an image.

    python -m cascade_app.bench.batch --images 1,2,4,8 --rounds 3

`ratio` holds for each number of images how much less an image costs than alone (above 1: less). How many share
each step is the engine's own choice for the device, shown in `model_batch`; on a CPU a network still takes them one by one, since
every image must equal its single run: `max_pixel_difference`, of 255. Prints one line of JSON last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cascade_app.bench import measure


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark; returns what it prints."""
    parser = measure.parser(__doc__, rounds=3)
    parser.add_argument("--images", default="1,2,4,8", help="numbers of images, the first the one to compare with")
    parser.add_argument("--dtype", default="auto", help="as CASCADE_DTYPE")
    arguments = parser.parse_args(argv)
    counts = [int(count) for count in arguments.images.split(",")]
    measure.begin(arguments.threads)
    from cascade_app.bench.studio import Studio, ask, difference
    from cascade_app.bench.weights import checkpoint_folder

    with checkpoint_folder(arguments.checkpoint) as folder:
        name, arguments.checkpoint = arguments.checkpoint, folder
        studio = Studio(folder, dtype=arguments.dtype, threads=arguments.threads)
        made: dict[int, Any] = {}

        def runner(count: int) -> Any:
            def run(_number: int) -> None:
                made[count] = studio.make(ask(arguments, 0, images=count))

            return run

        with measure.told(f"{arguments.rounds} rounds of {arguments.images} images"):
            times = measure.interleaved({str(count): runner(count) for count in counts}, rounds=arguments.rounds)
        with measure.told("Each image alone"):
            first = ask(arguments, 0)
            singles = [studio.make(first.with_seed(first.seed + index)).pictures[0] for index in range(max(counts))]
    alone = [seconds / counts[0] for seconds in times[str(counts[0])].wall_s]
    each = {count: [seconds / count for seconds in times[str(count)].wall_s] for count in counts}
    result = {
        "ratio": {str(count): measure.rounded(measure.ratio(alone, each[count])) for count in counts},
        "seconds_an_image": {str(count): measure.rounded(times[str(count)].median_s / count) for count in counts},
        "model_batch": {str(count): max(made[count].batches) for count in counts},
        "max_pixel_difference": max(
            difference(picture, singles[index])[0] for one in made.values() for index, picture in enumerate(one.pictures)
        ),
        "dtype": studio.dtype,
    }
    return measure.report("batch", {**measure.asked(arguments, name), **result}, save=arguments.save)


if __name__ == "__main__":
    main()
