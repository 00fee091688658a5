"""What would go where on a card of some size, without reading any weights: placement for the page and the command line."""

from __future__ import annotations

from typing import Any

from cascade_app.catalogue import CheckpointSpec
from cascade_app.plan import GenerationPlan
from cascade_app.runtime.memory import CONTEXT_BYTES, KINDS, choose, part_devices, shown

DEVICE_KINDS = KINDS[:-1]

__all__ = ["DEVICE_KINDS", "shown", "size_up"]


def size_up(
    spec: CheckpointSpec, plan: GenerationPlan, *, vram_bytes: int, wanted: str = "auto", fp8: bool = False
) -> dict[str, Any]:
    """The placement on an otherwise empty card of `vram_bytes`, in plain values.

    Raises:
        NothingFits: no placement on the device does.
    """
    budget_bytes = max(0, vram_bytes - CONTEXT_BYTES)
    placement = choose(spec.parts, plan, budget_bytes=budget_bytes, wanted=wanted, fp8=fp8, cpu_allowed=False)
    devices = part_devices(placement)
    return {
        "placement": placement.kind,
        "reason": placement.reason,
        "predicted_peak_bytes": placement.predicted_peak_bytes,
        "budget_bytes": placement.budget_bytes,
        "parts": [{"name": name, "bytes": spec.parts[name].bytes, "device": devices[name]} for name in devices],
    }
