"""Aspect presets: picture sizes a checkpoint can make, near its own area, in a few familiar shapes. Pure."""

from __future__ import annotations

import math

from cascade_app.catalogue import CheckpointSpec

SHAPES = ((1, 1), (5, 4), (4, 3), (3, 2), (16, 9), (2, 1))


def presets(spec: CheckpointSpec) -> dict[str, tuple[int, int]]:
    """Label to (width, height) in pixels; landscape only, as swapping gives the portrait.

    Sizes keep to the checkpoint's step and limits and to about the area it was trained on. Of two shapes that come out
    the same, the first stays.
    """
    found: dict[str, tuple[int, int]] = {}
    for across, down in SHAPES:
        size = _nearest(spec, across / down)
        if size not in found.values():
            found[f"{across}:{down}"] = size
    return found


def nearest_size(spec: CheckpointSpec, width: int, height: int) -> tuple[int, int]:
    """This size where the checkpoint makes it, else one of the same shape that it does."""
    sides = _on_grid(spec, width), _on_grid(spec, height)
    return sides if sides == (width, height) else _nearest(spec, width / height)


def label_of(spec: CheckpointSpec, width: object, height: object) -> str | None:
    """The preset that has this size, in either orientation; None where there is none."""
    for label, (across, down) in presets(spec).items():
        if (width, height) in ((across, down), (down, across)):
            return label
    return None


def _nearest(spec: CheckpointSpec, ratio: float) -> tuple[int, int]:
    side = spec.default_size_px
    return _on_grid(spec, side * math.sqrt(ratio)), _on_grid(spec, side / math.sqrt(ratio))


def _on_grid(spec: CheckpointSpec, side: float) -> int:
    step = spec.size_step_px
    lowest = math.ceil(spec.min_size_px / step) * step
    highest = spec.max_size_px // step * step
    return min(max(round(side / step) * step, lowest), highest)
