"""This program against diffusers' two pipelines as the model card writes them: same weights, prompts, steps and seeds.

    python -m cascade_app.bench.compare --rounds 7
    python -m cascade_app.bench.compare --checkpoint mid --size 512x512 --steps 6+4 --rounds 3

float32 against float32, and our defaults against the model card's (prior in bfloat16, decoder in float16, 20 steps with
guidance 4, then 10 without). A CPU may be slow in float16, so diffusers in bfloat16 throughout runs beside them, and
`ratio_default_best` is against the quickest of diffusers' three. Each round has another prompt: nothing kept from the last
one helps. Ours makes its previews meanwhile, as it does for the page; both sides' threads wait for each other as the command
line's do (bench.waiting). Peak memory is that of a process which loads one side and makes two pictures. `mid` is a random
cascade of some 100 million parameters. Ratios above 1: ours is quicker; `rss_ratio` below 1: ours is smaller. Prints one line
of JSON last.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

from cascade_app.bench import measure

FLOAT32 = ("studio-float32", "diffusers-float32")
DEFAULT = ("studio-default", "diffusers-model-card")
BFLOAT16 = "diffusers-bfloat16"
THEIRS = (DEFAULT[1], BFLOAT16, FLOAT32[1])
SIDES = (*FLOAT32, *DEFAULT, BFLOAT16)
# bfloat16 and float16 differ from float32 by themselves; a picture that is merely another one differs by far more.
PRECISION = {"float32": ("float32", "float32"), "model-card": ("bfloat16", "float16"), "bfloat16": ("bfloat16", "bfloat16")}


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark; returns what it prints."""
    arguments = _arguments(argv)
    measure.begin(arguments.threads)
    if arguments.alone:
        return _alone(arguments)
    from cascade_app.bench.weights import checkpoint_folder

    with checkpoint_folder(arguments.checkpoint) as folder:
        name, arguments.checkpoint = arguments.checkpoint, folder
        with measure.told("Loading"):
            sides, failed = _sides(arguments)
        result = compare(sides, arguments)
        result |= failed and {"failed": failed}
        if not arguments.no_rss:
            with measure.told("Peak memory, each side in a process of its own"):
                result |= memory(lambda side: peak_bytes(side, arguments))
    return measure.report("compare", {**measure.asked(arguments, name), **result}, save=arguments.save)


def compare(sides: dict[str, Callable[[Any], Any]], arguments: argparse.Namespace) -> dict[str, Any]:
    """Time the sides in turn, and compare times and pictures.

    Args:
        sides: some of SIDES, FLOAT32 among them -> request to `Made`.
    """
    from cascade_app.bench.studio import STAGES, ask, difference

    made: dict[str, list[Any]] = {name: [] for name in sides}

    def runner(name: str) -> Callable[[int], None]:
        def run(number: int) -> None:
            one = sides[name](ask(arguments, number))
            if number >= 0:
                made[name].append(one)

        return run

    with measure.told(f"{arguments.rounds} rounds of {len(sides)} sides"):
        times = measure.interleaved({name: runner(name) for name in sides}, rounds=arguments.rounds)
    result = measure.compared(times[FLOAT32[1]], times[FLOAT32[0]], "ratio_float32")
    if DEFAULT[0] in times and DEFAULT[1] in times:
        result |= measure.compared(times[DEFAULT[1]], times[DEFAULT[0]], "ratio_default")
    if DEFAULT[0] in times:
        best = min((name for name in THEIRS if name in times), key=lambda name: times[name].median_s)
        result |= {**measure.compared(times[best], times[DEFAULT[0]], "ratio_default_best"), "best": best}

    def apart(one: str, other: str) -> list[tuple[int, float]]:
        pairs = zip(made[one], made[other], strict=True)
        return [difference(ours.pictures[0], theirs.pictures[0]) for ours, theirs in pairs]

    result["max_pixel_difference"] = max(largest for largest, _ in apart(*FLOAT32))
    result["mean_difference_to_float32"] = {
        name: measure.rounded(statistics.mean(mean for _, mean in apart(name, FLOAT32[1]))) for name in sides
    }
    stages = (*STAGES, "total")
    result["seconds"] = {
        name: {stage: measure.rounded(statistics.median(one.seconds[stage] for one in made[name])) for stage in stages}
        for name in sides
    }
    result["stage_ratio_float32"] = {
        stage: measure.rounded(measure.ratio(*([one.seconds[stage] for one in made[name]] for name in FLOAT32[::-1])))
        for stage in stages
    }
    return result


def _sides(arguments: argparse.Namespace) -> tuple[dict[str, Callable[[Any], Any]], dict[str, str]]:
    """Every side that can make a picture here, and what stopped those that cannot."""
    from cascade_app.bench.studio import ask

    sides, failed = {}, {}
    for name in SIDES:
        side = load(name, arguments)
        try:
            side(ask(arguments, -2, prior_steps=1, decoder_steps=1))
        except RuntimeError as error:  # what torch raises where a dtype is not implemented
            if name in FLOAT32:
                raise
            failed[name] = str(error).splitlines()[0]
            continue
        sides[name] = side
    return sides, failed


def load(name: str, arguments: argparse.Namespace) -> Callable[[Any], Any]:
    """A side by its name: request to `Made`."""
    whose, _, precision = name.partition("-")
    if whose == "studio":
        from cascade_app.bench.studio import Studio

        dtype = "auto" if precision == "default" else precision
        return Studio(arguments.checkpoint, dtype=dtype, threads=arguments.threads).make
    import torch

    from cascade_app.bench.model_card import ModelCard
    from cascade_app.catalogue import find_checkpoint

    prior, decoder = (getattr(torch, dtype) for dtype in PRECISION[precision])
    return ModelCard(find_checkpoint(arguments.checkpoint), prior_dtype=prior, decoder_dtype=decoder).make


def memory(peak: Callable[[str], int | None]) -> dict[str, Any]:
    """Peak memory of each side, and of a process that only imports torch.

    Args:
        peak: bytes by a side's name, None where it could not run.
    """
    peaks = {name: peak(name) for name in ("torch", *SIDES)}

    def ratio(ours: str, theirs: str) -> float | None:
        return measure.rounded(peaks[ours] / peaks[theirs]) if peaks[ours] and peaks[theirs] else None

    return {"rss_ratio": ratio(*DEFAULT), "rss_ratio_float32": ratio(*FLOAT32), "peak_rss_bytes": peaks}


def peak_bytes(name: str, arguments: argparse.Namespace) -> int | None:
    """Peak memory of a process that loads one side and makes two pictures."""
    try:
        return measure.alone("compare", arguments, "--alone", name)["peak_rss_bytes"]
    except RuntimeError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return None


def _alone(arguments: argparse.Namespace) -> dict[str, Any]:
    """One side alone in this process."""
    if arguments.alone != "torch":
        from cascade_app.bench.studio import ask

        side = load(arguments.alone, arguments)
        for number in range(2):
            side(ask(arguments, number))
    result = {"peak_rss_bytes": measure.peak_rss_bytes()}
    print(json.dumps(result))
    return result


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = measure.parser(__doc__, rounds=7)
    parser.add_argument("--no-rss", action="store_true", help="leave peak memory out")
    parser.add_argument("--alone", choices=("torch", *SIDES), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
