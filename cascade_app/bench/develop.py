"""Developing again from a kept negative against making the whole picture: what is saved by keeping negatives.

    python -m cascade_app.bench.develop --rounds 9

`ratio` is developing over the whole. The negative comes out of the picture's record as it would out of a saved file; both
sides find the prompt's embeddings kept from an earlier run, so neither reads the prompt. Prints one line of JSON last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cascade_app.bench import measure
from cascade_app.record import Record
from cascade_app.work import Origin, Work


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark; returns what it prints."""
    arguments = measure.parser(__doc__, rounds=9).parse_args(argv)
    measure.begin(arguments.threads)
    from cascade_app.bench.studio import Studio, ask
    from cascade_app.bench.weights import checkpoint_folder

    with checkpoint_folder(arguments.checkpoint) as folder:
        name, arguments.checkpoint = arguments.checkpoint, folder
        studio = Studio(folder, threads=arguments.threads)
        request = ask(arguments, 0)
        first = studio.make(request)
        kept = first.records[0]
        again: list[Any] = []
        sides = {
            "whole": lambda _number: studio.make(request),
            "develop": lambda _number: again.append(studio.make(request, developing(kept))),
        }
        calls = studio.manager.text_encoder_calls
        with measure.told(f"{arguments.rounds} rounds"):
            times = measure.interleaved(sides, rounds=arguments.rounds)
    result = {
        **measure.compared(times["develop"], times["whole"]),
        "seconds_whole": measure.rounded(times["whole"].median_s),
        "seconds_develop": measure.rounded(times["develop"].median_s),
        "negative_bytes": len(kept.negative.data),
        "same_picture": all(one.pictures == first.pictures for one in again),
        "text_encoder_calls": studio.manager.text_encoder_calls - calls,
        "dtype": studio.dtype,
    }
    return measure.report("develop", {**measure.asked(arguments, name), **result}, save=arguments.save)


def developing(record: Record) -> Work:
    """The work of developing a record's negative again, as `Record.from_json` of a saved file gives it."""
    kept = Record.from_json(record.to_json())
    return Work(origins=(Origin(kept.request.seed, "develop", (kept.id,), negative=kept.negative),))


if __name__ == "__main__":
    main()
