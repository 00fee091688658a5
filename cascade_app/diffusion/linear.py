"""Linear layers in oneDNN's own product where a CPU is quicker in it than in torch's, GELU included in the same pass.

torch hands float32 products to MKL, which on some processors reaches half of what oneDNN does, measured once a process; those in
bfloat16 go to oneDNN anyhow. Knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from cascade_app.diffusion.stopwatch import computing_seconds

_PROBE = (256, 512, 512)  # rows, inputs, outputs: about a thousandth of a second
_ROUNDS = 8
_WORTH_IT = 1.3  # where both libraries are equally quick, torch's own is taken


def linear(layer: nn.Linear, x: Tensor, *, gelu: bool = False) -> Tensor:
    """`layer` of (..., inputs), then the exact GELU if wanted; the same up to rounding whichever way it is computed."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and _by_onednn():
        activation, algorithm = ("gelu", "none") if gelu else ("none", "")
        return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, activation, [], algorithm)
    y = functional.linear(x, layer.weight, layer.bias)
    return functional.gelu(y) if gelu else y


@lru_cache(maxsize=1)
def _by_onednn() -> bool:
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return there and onednn_is_quicker(computing_seconds)


@torch.no_grad()
def onednn_is_quicker(clock: Callable[[Callable[[], Tensor]], float]) -> bool:
    """Whether float32 products are, by `clock`, which runs one and says how long that took."""
    rows, inputs, outputs = _PROBE
    x, weight, bias = torch.ones(rows, inputs), torch.ones(outputs, inputs), torch.ones(outputs)
    own, onednn = [], []
    for _ in range(_ROUNDS):  # in turns, and the quickest counts, so that a busy machine decides nothing
        own.append(clock(lambda: functional.linear(x, weight, bias)))
        onednn.append(clock(lambda: torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")))
    return min(own) >= _WORTH_IT * min(onednn)
