"""Full-size cascades of random weights on a CUDA card: this program, diffusers eager and compiled, and SDXL at 50 steps.

    python -m cascade_app.bench.gpu --folder /fast/disk --checkpoint stable-cascade --rounds 5

Weights are written once to --folder, in bfloat16. All sides take turns in one process, at batch 1 and 4, and need some 50 GB
together; --sides runs only some. Each side's operations are counted by torch in one of its runs; `of_peak` is the share of what
a large bfloat16 product reaches on the same card in the same run (`peak_tflops`). Ratios above 1: this program is quicker. Needs
CUDA; --dry-run walks the same code with tiny networks on a CPU, whose figures mean nothing. Prints one line of JSON last.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cascade_app.bench import measure

SIDES = ("studio", "diffusers-eager", "diffusers-compiled", "sdxl")
NEEDS_CUDA = "bench.gpu needs a CUDA device and there is none here; --dry-run only checks that its code runs."
SDXL_STEPS = 50
_PEAK_SIDE, _DRY_PEAK_SIDE = 8192, 256


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark; returns what it prints."""
    arguments = _arguments(argv)
    measure.begin(arguments.threads)
    import torch

    if not arguments.dry_run and not torch.cuda.is_available():
        sys.exit(NEEDS_CUDA)
    if arguments.dry_run and arguments.save:
        sys.exit("A dry run's figures mean nothing, so they are not kept; leave --save away.")
    with tempfile.TemporaryDirectory() as temporary:
        name = arguments.checkpoint
        if not arguments.dry_run:
            from cascade_app.bench.weights import write_random_checkpoint
            from cascade_app.catalogue import find_checkpoint

            with measure.told("Writing random weights"):
                folder = write_random_checkpoint(find_checkpoint(name), arguments.folder or Path(temporary))
            arguments.checkpoint = str(folder)
        result = run(arguments)
    device = "cpu" if arguments.dry_run else "cuda"
    told = {**measure.asked(arguments, name), "dry_run": arguments.dry_run}
    return measure.report("gpu", {**told, **result}, save=arguments.save, device=device)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Load the sides, and measure each batch size."""
    sides = {}
    for name in arguments.sides:
        with measure.told(f"Loading {name}"):
            sides[name] = load(name, arguments)
    peak = peak_flops(_DRY_PEAK_SIDE if arguments.dry_run else _PEAK_SIDE, "cpu" if arguments.dry_run else "cuda")
    batches = {str(count): at_batch(sides, count, arguments, peak) for count in arguments.batches}
    return {"peak_tflops": measure.rounded(peak / 1e12), "batches": batches}


def at_batch(
    sides: dict[str, Callable[[int, int], Any]], count: int, arguments: argparse.Namespace, peak: float
) -> dict[str, Any]:
    """Seconds, operations and share of the peak of each side at one batch size, and ratios to ours."""
    import torch

    wait = None if arguments.dry_run else torch.cuda.synchronize
    flops = {}
    for name, make in sides.items():
        if name != "diffusers-compiled":  # the counter sees neither compiled code nor a CUDA graph: theirs is the eager side's
            with measure.operation_counter() as counter:  # work, and ours makes no graph in a shape's first run
                make(0, count)
            flops[name] = counter.get_total_flops()
    flops["diffusers-compiled"] = flops.get("diffusers-eager", 0)
    with measure.told(f"Batch {count}: {arguments.rounds} rounds"):
        runs = {name: lambda number, make=make: make(number, count) for name, make in sides.items()}
        times = measure.interleaved(runs, rounds=arguments.rounds, warmups=arguments.warmups, waited=wait)
    result: dict[str, Any] = {
        name: {
            "seconds": measure.rounded(one.median_s),
            "seconds_an_image": measure.rounded(one.median_s / count),
            "tflop": measure.rounded(flops[name] / 1e12),
            "of_peak": measure.rounded(flops[name] / one.median_s / peak),
        }
        for name, one in times.items()
    }
    if "studio" in times:
        others = [name for name in times if name != "studio"]
        result |= {f"ratio_{name}": measure.rounded(measure.ratio(times[name].wall_s, times["studio"].wall_s)) for name in others}
    return result


def load(name: str, arguments: argparse.Namespace) -> Callable[[int, int], Any]:
    """A side: (round, images) to pictures."""
    import torch

    from cascade_app.bench.studio import Studio, ask

    device = "cpu" if arguments.dry_run else "cuda"
    if name == "sdxl":
        return _sdxl(arguments, device)
    if name == "studio":
        studio = Studio(arguments.checkpoint, device=device, threads=arguments.threads)
        return lambda number, count: studio.make(ask(arguments, number, images=count))
    from cascade_app.bench.model_card import ModelCard
    from cascade_app.catalogue import find_checkpoint

    decoder_dtype = torch.bfloat16 if arguments.dry_run else torch.float16  # a CPU may take minutes in float16
    card = ModelCard(find_checkpoint(arguments.checkpoint), device=device, decoder_dtype=decoder_dtype)
    if name == "diffusers-compiled":
        how = {"backend": "eager"} if arguments.dry_run else {"mode": arguments.compile_mode}
        for network in (card.prior.prior, card.decoder.decoder):
            network.compile(**how)
    return lambda number, count: card.make(ask(arguments, number, images=count))


def _sdxl(arguments: argparse.Namespace, device: str) -> Callable[[int, int], Any]:
    import torch

    from cascade_app.bench import sdxl
    from cascade_app.bench.studio import SCENES

    dtype = torch.float32 if arguments.dry_run else torch.float16
    pipeline = sdxl.build(sdxl.TINY if arguments.dry_run else sdxl.PUBLISHED, device=device, dtype=dtype)
    width, height = arguments.size or ((64, 64) if arguments.dry_run else (1024, 1024))
    steps = 2 if arguments.dry_run else SDXL_STEPS

    def make(number: int, count: int) -> Any:
        return pipeline(
            SCENES[number % len(SCENES)], num_images_per_prompt=count, width=width, height=height, num_inference_steps=steps,
            guidance_scale=sdxl.GUIDANCE, generator=torch.Generator().manual_seed(number % 1000),
        ).images  # fmt: skip

    return make


def peak_flops(side: int, device: str) -> float:
    """Operations a second of a square bfloat16 product, the quickest of many."""
    import torch

    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    wait = torch.cuda.synchronize if device == "cuda" else None
    times = measure.interleaved({"product": lambda _number: one @ other}, rounds=20, warmups=5, waited=wait)
    return 2 * side**3 / min(times["product"].wall_s)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = measure.parser(__doc__, rounds=5)
    parser.set_defaults(checkpoint="stable-cascade")
    parser.add_argument("--folder", type=Path, help="where random weights are written and found again")
    parser.add_argument("--batches", type=lambda text: [int(count) for count in text.split(",")], default=[1, 4])
    parser.add_argument("--sides", type=lambda text: text.split(","), default=list(SIDES), help=",".join(SIDES))
    parser.add_argument("--warmups", type=int, default=2, help="rounds before those that count; the first one compiles")
    parser.add_argument("--compile-mode", default="default", help="of torch.compile")
    parser.add_argument("--dry-run", action="store_true", help="tiny networks on the CPU, to see that the code runs")
    arguments = parser.parse_args(argv)
    if arguments.dry_run and arguments.checkpoint == "stable-cascade":
        arguments.checkpoint = "pocket"
    return arguments


if __name__ == "__main__":
    main()
