"""What all benchmarks share: sides timed in turn, medians and ratios, one line of JSON last, and a process of its own.

A ratio is taken within each round, where both sides saw the same machine, and its median over the rounds is given: what
else runs on the machine then weighs on both sides alike. Knows nothing of what is measured; imports torch only when asked.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade_app.runtime import torch_start

RESULTS = Path(__file__).resolve().parent / "results"
ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Times:
    """A side's rounds: seconds on the wall, and seconds of all the process's threads on a CPU."""

    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]

    @property
    def median_s(self) -> float:
        return statistics.median(self.wall_s)


def interleaved(
    sides: Mapping[str, Callable[[int], Any]], *, rounds: int, warmups: int = 1, waited: Callable[[], None] | None = None
) -> dict[str, Times]:
    """Time the sides in turn, `rounds` times, every second round in reverse order; each is told the round's number.

    Args:
        warmups: rounds before that are not counted; numbered below zero.
        waited: returns once the device has done what was asked of it.
    """
    wall: dict[str, list[float]] = {name: [] for name in sides}
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-warmups, rounds):
        gc.collect()
        for name in list(sides)[:: -1 if number % 2 else 1]:
            begin, begin_cpu = time.perf_counter(), time.process_time()
            sides[name](number)
            if waited:
                waited()
            if number >= 0:
                wall[name].append(time.perf_counter() - begin)
                cpu[name].append(time.process_time() - begin_cpu)
    return {name: Times(tuple(wall[name]), tuple(cpu[name])) for name in sides}


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def quartiles(numerator: Sequence[float], denominator: Sequence[float]) -> list[float]:
    """The first and third quartile of the rounds' ratios: how sure the median is."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    if len(ratios) < 2:
        return [rounded(ratios[0])] * 2
    first, _, third = statistics.quantiles(ratios, n=4, method="inclusive")
    return [rounded(first), rounded(third)]


def compared(numerator: Times, denominator: Times, name: str = "ratio") -> dict[str, Any]:
    """A ratio as the result names it, with its quartiles, and the same of CPU seconds, which other programs disturb less."""
    return {
        name: rounded(ratio(numerator.wall_s, denominator.wall_s)),
        f"{name}_quartiles": quartiles(numerator.wall_s, denominator.wall_s),
        f"{name}_cpu_time": rounded(ratio(numerator.cpu_s, denominator.cpu_s)),
    }


def rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def operation_counter() -> Any:
    """torch's counter of floating-point operations, told those it has no formula for: packed layers, and attention on a CPU."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    from cascade_app.diffusion.packed import can_pack

    def linear(x: Sequence[int], *_: Any, out_shape: Sequence[int], **_other: Any) -> int:
        return 2 * math.prod(out_shape) * x[-1]

    def convolution(_x: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int], **_other: Any) -> int:
        return 2 * math.prod(out_shape) * math.prod(weight[1:])

    def attention(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **_other: Any) -> int:
        return sdpa_flop_count(query, key, value)

    unknown: dict[Any, Any] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    if can_pack(torch.float32):
        unknown |= {torch.ops.mkldnn._linear_pointwise: linear, torch.ops.mkldnn._convolution_pointwise: convolution}
    return FlopCounterMode(display=False, custom_mapping=unknown)


# --- the command line ------------------------------------------------------------------------------------------------


def parser(description: str | None, *, rounds: int, steps: str = "20+10") -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help=f"timed rounds ({rounds})")
    made.add_argument("--threads", type=int, default=0, help="CPU threads for torch, 0 for its own choice")
    made.add_argument("--checkpoint", default="pocket", help="a name or a folder in diffusers layout")
    made.add_argument("--steps", type=both_steps, default=both_steps(steps), help=f"of Stage C + of Stage B ({steps})")
    made.add_argument("--size", type=both_sides, default=None, help="WIDTHxHEIGHT in pixels; the checkpoint's own")
    made.add_argument("--save", action="store_true", help=f"keep the result in {RESULTS.relative_to(ROOT)}")
    return made


def both_steps(text: str) -> tuple[int, int]:
    """ "20+10" as (20, 10)."""
    prior, decoder = text.split("+")
    return int(prior), int(decoder)


def both_sides(text: str) -> tuple[int, int]:
    """ "256x192" as (256, 192)."""
    width, height = text.lower().split("x")
    return int(width), int(height)


def asked(arguments: argparse.Namespace, checkpoint: str) -> dict[str, Any]:
    """What was asked for, as a result repeats it."""
    size = "x".join(map(str, arguments.size)) if arguments.size else "the checkpoint's own"
    return {"checkpoint": checkpoint, "size": size, "steps": "+".join(map(str, arguments.steps)), "rounds": arguments.rounds}


def begin(threads: int) -> None:
    """Import torch as the app does; with `threads` of them, 0 for its own choice."""
    torch_start.prepare()
    import torch

    if threads:
        torch.set_num_threads(threads)


def report(name: str, values: Mapping[str, Any], *, save: bool = False, device: str = "cpu") -> dict[str, Any]:
    """Print the result as one line of JSON; with `save` keep it as results/NAME-DEVICE.json too."""
    result = {"benchmark": name, **machine(device), **values}
    if save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}-{device}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result), flush=True)
    return result


def machine(device: str = "cpu") -> dict[str, Any]:
    """Where a result comes from: the device as it calls itself, torch's threads and version, and how busy the machine was."""
    import torch

    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load_average": rounded(os.getloadavg()[0]) if hasattr(os, "getloadavg") else None,
    }


def cpu_name() -> str:
    """The processor's name as the operating system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


# --- processes -------------------------------------------------------------------------------------------------------


def in_a_process(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run `python -m module arguments`; returns the JSON of its last line, or {"error": its last word}."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, env={**os.environ, **(environment or {})},
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        return {"error": f"exit code {done.returncode}: {last[0]}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def alone(
    name: str, arguments: argparse.Namespace, *options: str, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """What the benchmark `name` finds in a process of its own, asked for the same as this one; `options` come on top.

    Raises:
        RuntimeError: it failed, with its last word.
    """
    size = ["--size", "x".join(map(str, arguments.size))] if arguments.size else []
    found = in_a_process(
        f"cascade_app.bench.{name}", "--checkpoint", arguments.checkpoint, "--threads", str(arguments.threads),
        "--steps", "+".join(map(str, arguments.steps)), *size, *options, environment=environment,
    )  # fmt: skip
    if "error" in found:
        raise RuntimeError(found["error"])
    return found


def peak_rss_bytes() -> int:
    """The most memory this process has held at once. Not getrusage where it can be helped: that counts the parent's in."""
    for line in _proc_status():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def rss_bytes() -> int:
    """The memory this process holds now."""
    import psutil

    return psutil.Process().memory_info().rss


def _proc_status() -> Iterator[str]:
    try:
        yield from Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return


@contextmanager
def told(what: str) -> Iterator[None]:
    """Say on standard error what is being done, and how long it took: a benchmark takes minutes."""
    begin_s = time.monotonic()
    print(f"{what} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print(f" {time.monotonic() - begin_s:.1f} s", file=sys.stderr, flush=True)


def least_squares(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """The slope of the line through `points`, and its 95 % interval; at least three of them."""
    xs, ys = zip(*points, strict=True)
    slope, offset = statistics.linear_regression(xs, ys)
    spread = sum((x - statistics.fmean(xs)) ** 2 for x in xs)
    rest = sum((y - offset - slope * x) ** 2 for x, y in points)
    error = math.sqrt(rest / (len(points) - 2) / spread)
    wide = t_quantile(len(points) - 2) * error
    return slope, slope - wide, slope + wide


def t_quantile(freedom: int) -> float:
    """Of Student's t at 97.5 %: exact for 1 and 2 degrees of freedom, else Cornish and Fisher's expansion, within 0.01."""
    if freedom < 3:
        return (12.706, 4.303)[freedom - 1]
    z = statistics.NormalDist().inv_cdf(0.975)
    terms = (z, (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return sum(term / freedom**power for power, term in enumerate(terms))
