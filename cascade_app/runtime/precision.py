"""Which dtype the networks are quickest in on this device: bfloat16 or float32, by a short measurement.

Owns the probe and its reason, in words for the System panel. Knows nothing of checkpoints. That a CPU lists bfloat16
instructions says little: on one it is 4.6 times as fast as float32, on another half as fast.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.nn import functional

# A feed-forward layer of a small Stage C: (rows, inputs, outputs).
_PROBE = (1024, 256, 1024)
_ROUNDS = 7
# bfloat16 rounds more; it has to be worth it.
_WORTH_IT = 1.2


@dataclass(frozen=True)
class Precision:
    """dtype: what to run the networks in. reason: why, in a sentence without a full stop."""

    dtype: torch.dtype
    reason: str


def _seconds(dtype: torch.dtype) -> float:
    rows, inputs, outputs = _PROBE
    x, weight = torch.ones(rows, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)
    begin = time.perf_counter()
    functional.linear(x, weight)
    return time.perf_counter() - begin


@lru_cache(maxsize=8)
@torch.no_grad()
def fastest(device_type: str) -> Precision:
    """The dtype for a device ("cpu", "cuda", "mps"); measured once a process, some hundredths of a second on a CPU."""
    if device_type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision(torch.bfloat16, "this GPU computes bfloat16 in hardware")
        return Precision(torch.float32, "this GPU has no bfloat16 in hardware, and float16 overflows in Stage C")
    if device_type != "cpu":
        return Precision(torch.float32, f"bfloat16 is not measured on {device_type}")
    times: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(_ROUNDS):
        for dtype, seconds in times.items():
            seconds.append(_seconds(dtype))
    ratio = statistics.median(times[torch.float32]) / statistics.median(times[torch.bfloat16])
    measured = f"a matrix product in bfloat16 takes {1 / ratio:.2f} of its time in float32 on this CPU"
    return Precision(torch.bfloat16 if ratio >= _WORTH_IT else torch.float32, measured)
