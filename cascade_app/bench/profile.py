"""Where the time of a picture goes on the CPU, operation by operation, and how near each of the largest is to its floor.

    python -m cascade_app.bench.profile --threads 1 --save

An operation's floor is the longer of two: its multiplications at the rate of a large matrix product on this machine, and its
bytes at the rate at which a large array is read and written; both are measured in the same run. What lies in the cache can
be read faster than that, so an operation on little data may beat its floor. Writes a table for people (with --save
results/profile-cpu.txt) and prints one line of JSON last.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from cascade_app.bench import measure

# Why an operation costs more than its floor, where that is known: from experiments, each named.
REMARKS = {
    "aten::linear": (
        "Products of few rows: with guidance Stage C has 72 at 6x6, Stage B 64 at its lowest level, where the peak is "
        "measured with 1024; the blocks' edges weigh, and within the product are the GELU or the sum that follow. Larger "
        "pictures come nearer to it (bench.scaling)."
    ),
    "aten::convolution": (
        "Depthwise 3x3 and 5x5 kernels: 9 to 25 multiplications a value, each channel for itself, so there is no matrix "
        "product to be near the peak of; what a call costs by itself is most of it at 6x6."
    ),
    "aten::layer_norm": "Rows of 96 to 224 values, float32 inside: at this size a call costs more than its arithmetic.",
    "aten::mul": "The response norm's squares and guidance: little is read and written, the call is what costs.",
    "aten::gelu": "The error function of every hidden value, four times the block's width: arithmetic, not memory.",
    "aten::scaled_dot_product_attention": "At most 160 tokens of 32 values a head: setting the kernel up outweighs its products.",
    "aten::copy_": "Layouts between convolutions (channels first) and linear layers (channels last), and dtypes at the ends.",
}


@dataclass
class Row:
    """An operation's calls together: seconds of itself and what it calls, multiplications and additions, bytes in and out."""

    name: str
    calls: float = 0.0
    seconds: float = 0.0
    flops: float = 0.0
    bytes: float = 0.0

    def floor_s(self, peak_flops: float, bandwidth: float) -> float:
        return max(self.flops / peak_flops, self.bytes / bandwidth)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the profile; returns what it prints."""
    parser = measure.parser(__doc__, rounds=3)
    parser.add_argument("--dtype", default="auto", help="of the networks, as CASCADE_DTYPE (auto)")
    parser.add_argument("--rows", type=int, default=14, help="of the table (14)")
    arguments = parser.parse_args(argv)
    measure.begin(arguments.threads)
    from cascade_app.bench.studio import Studio, ask

    studio = Studio(arguments.checkpoint, dtype=arguments.dtype, threads=arguments.threads)
    studio.make(ask(arguments, -1))
    rows, seconds = operations(lambda number: studio.make(ask(arguments, number)), arguments.rounds)
    peak, bandwidth = peak_flops(studio.manager.dtype), copy_bandwidth()
    table = list(lines(rows, seconds, peak=peak, bandwidth=bandwidth, most=arguments.rows))
    about, machine = measure.asked(arguments, arguments.checkpoint), measure.machine()
    head = f"{about['checkpoint']}, {about['steps']} steps, {studio.dtype}, {machine['threads']} thread(s), {machine['device']}"
    text = "\n".join([head, *table]) + "\n"
    print(text, file=sys.stderr)
    if arguments.save:
        measure.RESULTS.mkdir(exist_ok=True)
        (measure.RESULTS / "profile-cpu.txt").write_text(text)
    largest = [
        {
            "operation": row.name,
            "share": measure.rounded(row.seconds / seconds),
            "of_floor": _of_floor(row, peak, bandwidth),
        }
        for row in rows[:3]
    ]
    result = {
        "dtype": studio.dtype,
        "peak_gflops": measure.rounded(peak / 1e9),
        "copy_gb_s": measure.rounded(bandwidth / 1e9),
    }
    return measure.report("profile", {**about, **result, "largest": largest}, save=arguments.save)


def operations(make: Callable[[int], Any], rounds: int) -> tuple[list[Row], float]:
    """(operations, costliest first; seconds), both of one picture, the mean of `rounds`.

    An operation's seconds are those in it and in what it calls; only the outermost are counted, so that they add up.
    """
    from torch.profiler import ProfilerActivity, profile

    # Without the profiler, which costs as much as the operations themselves where they are as small as these.
    seconds = statistics.median(_taken(lambda number=number: make(rounds + number)) for number in range(rounds))
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorded:
        for number in range(rounds):
            make(number)
    rows: dict[str, Row] = defaultdict(lambda: Row(""))
    for event in recorded.events():
        if "::" not in event.name or (event.cpu_parent and "::" in event.cpu_parent.name):
            continue
        row = rows[_kind(event.name)]
        row.name = _kind(event.name)
        row.calls += 1 / rounds
        row.seconds += event.cpu_time_total / 1e6 / rounds
        row.flops += _flops(event) / rounds
        row.bytes += _bytes(event) / rounds
    return sorted(rows.values(), key=lambda row: -row.seconds), seconds


def lines(rows: Sequence[Row], seconds: float, *, peak: float, bandwidth: float, most: int) -> list[str]:
    """The table as text: the largest operations, what is left, and a paragraph on each of the three largest."""
    result = [
        f"matrix product at its best {peak / 1e9:.0f} GFLOP/s; memory {bandwidth / 1e9:.1f} GB/s; "
        f"{sum(row.flops for row in rows) / 1e9:.1f} GFLOP a picture",
        "",
        f"{'operation':38}{'calls':>7}{'share':>8}{'GFLOP':>8}{'MB':>8}{'x floor':>9}",
    ]
    for row in rows[:most]:
        result.append(
            f"{row.name:38}{row.calls:>7.0f}{row.seconds / seconds:>8.1%}{row.flops / 1e9:>8.2f}{row.bytes / 1e6:>8.0f}"
            f"{_of_floor(row, peak, bandwidth) or '-':>9}"
        )
    rest = seconds - sum(row.seconds for row in rows[:most])
    result += [f"{'everything else, Python included':38}{'':>7}{rest / seconds:>8.1%}", ""]
    for row in rows[:3]:
        floor = row.floor_s(peak, bandwidth)
        bound = "multiplications" if row.flops / peak > row.bytes / bandwidth else "bytes"
        result.append(
            f"{row.name}: {row.seconds / seconds:.0%} of the picture, {_of_floor(row, peak, bandwidth)} times its floor, which "
            f"its {bound} set ({floor / seconds:.1%} of the picture). {REMARKS.get(row.name, 'Not looked into.')}"
        )
    return result


def peak_flops(dtype: Any) -> float:
    """Operations a second of a matrix product of 1024 in `dtype`, the best of many."""
    import torch

    side = 1024
    x, y = (torch.randn(side, side).to(dtype) for _ in range(2))
    return 2 * side**3 / _quickest(lambda: x @ y, 20)


def copy_bandwidth() -> float:
    """Bytes read and written a second while 256 MB are copied, the best of many."""
    import torch

    source = torch.zeros(64 * 2**20)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _quickest(lambda: target.copy_(source), 10)


def _quickest(run: Callable[[], Any], times: int) -> float:
    return min(_taken(run) for _ in range(times))


def _taken(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def _of_floor(row: Row, peak: float, bandwidth: float) -> float | None:
    floor = row.floor_s(peak, bandwidth)
    return measure.rounded(float(f"{row.seconds / floor:.2g}")) if floor else None


def _kind(name: str) -> str:
    """One name for the ways in which torch and this program say linear layer and convolution."""
    plain = name.removesuffix("_")
    if any(word in plain for word in ("linear", "addmm", "aten::mm", "matmul", "bmm")):
        return "aten::linear"
    return "aten::convolution" if "conv" in plain else plain if plain != "aten::copy" else "aten::copy_"


def _shapes(event: Any) -> list[list[int]]:
    return [shape for shape in event.input_shapes or [] if shape and all(isinstance(side, int) for side in shape)]


def _bytes(event: Any) -> float:
    """What goes in, and once the first input's size comes out; four bytes a value, as the largest dtype in use has."""
    shapes = _shapes(event)
    return 4.0 * (sum(prod(shape) for shape in shapes) + prod(shapes[0])) if shapes else 0.0


def _flops(event: Any) -> float:
    """Of products and convolutions, from their shapes: torch counts only some of them."""
    shapes = _shapes(event)
    if "addmm" in event.name or (event.name.endswith("_linear_pointwise") and len(event.input_shapes) == 5):
        del shapes[0 if "addmm" in event.name else 1]  # the bias, or what is added to a packed product
    if len(shapes) < 2 or _kind(event.name) not in ("aten::linear", "aten::convolution"):
        return 0.0
    first, weight = shapes[0], shapes[1]
    if _kind(event.name) == "aten::convolution":  # weight (out, in / groups, kernel...), stride 1
        return 2.0 * first[0] * prod(first[2:]) * prod(weight)
    # The weight holds every input feature once for every output: rows times its values.
    return 2.0 * prod(first[:-1]) * prod(weight)


if __name__ == "__main__":
    main()
