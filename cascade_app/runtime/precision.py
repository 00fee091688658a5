"""Which dtype the networks are quickest in on this device: bfloat16 or float32, by a short measurement.

Owns the probe and its reason, in words for the System panel. Knows nothing of checkpoints. That a CPU lists bfloat16
instructions says little: on one it is 3.5 times as fast as float32, on another half as fast.

A busy machine does not change the answer: one thread's own computing time is read, both dtypes take turns at a short product,
and the quickest of many turns counts. What is left of the noise is far smaller than the gap: hardware either has the
instructions, which makes it twice as fast at least, or imitates them, which makes it slower.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.nn import functional

from cascade_app.diffusion.stopwatch import computing_seconds

_PROBE = (256, 512, 512)  # rows, inputs, outputs: about a thousandth of a second
_ROUNDS = 12
# bfloat16 rounds more, so it has to be worth it; no hardware lies near this.
_WORTH_IT = 1.4


@dataclass(frozen=True)
class Precision:
    """dtype: what to run the networks in. reason: why, in a sentence without a full stop."""

    dtype: torch.dtype
    reason: str


def matmul_seconds(dtype: torch.dtype) -> float:
    """How long one thread computes at a small matrix product now."""
    rows, inputs, outputs = _PROBE
    x, weight = torch.ones(rows, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)
    return computing_seconds(lambda: functional.linear(x, weight))


def choose_precision(asked: str, device_type: str) -> Precision:
    """What was asked for ("float32", "bfloat16", "float16"), or for "auto" what is fastest, never float16 by itself."""
    if asked != "auto":
        return Precision(getattr(torch, asked), "asked for with CASCADE_DTYPE")
    return fastest(device_type)


@lru_cache(maxsize=8)
def fastest(device_type: str) -> Precision:
    """The dtype for a device ("cpu", "cuda", "mps"); measured once a process, some hundredths of a second on a CPU."""
    if device_type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision(torch.bfloat16, "this GPU computes bfloat16 in hardware")
        return Precision(torch.float32, "this GPU has no bfloat16 in hardware, and float16 overflows in Stage C")
    if device_type != "cpu":
        return Precision(torch.float32, f"bfloat16 is not measured on {device_type}")
    return measure(matmul_seconds)


@torch.no_grad()
def measure(seconds_of: Callable[[torch.dtype], float]) -> Precision:
    """Decide by a clock: `seconds_of` runs a product in a dtype and says how long that took."""
    times: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(_ROUNDS):
        for dtype, seconds in times.items():
            seconds.append(seconds_of(dtype))
    ratio = min(times[torch.float32]) / min(times[torch.bfloat16])
    measured = f"measured at start: a matrix product in bfloat16 takes {1 / ratio:.2f} of its time in float32"
    return Precision(torch.bfloat16 if ratio >= _WORTH_IT else torch.float32, measured)
