"""The measure of circles: renders are round, and what is not a circle, or dented, is less so."""

from __future__ import annotations

import numpy as np
import pytest

from cascade_app.training.roundness import roundness
from cascade_app.training.scenes import render
from cascade_app.training.world import Icon


def icon(shape: str, *, size: str = "large", colour: str = "red") -> np.ndarray:
    return render(Icon(1, "white", shape, colour, size, "centre", None, None, None))


@pytest.mark.parametrize("size", ["small", "medium", "large"])
@pytest.mark.parametrize("colour", ["red", "black", "yellow"])
def test_a_drawn_circle_is_round(size, colour):
    assert roundness(icon("circle", size=size, colour=colour)) > 0.96


def test_other_shapes_and_dents_are_less_round():
    circle = icon("circle")
    round_one = roundness(circle)
    assert roundness(icon("square")) < 0.92 and roundness(icon("star")) < 0.85
    rows, columns = np.nonzero(np.abs(circle.astype(int) - circle[128, 128]).sum(axis=-1) < 30)
    dented = circle.copy()
    dented[rows.min() : rows.min() + (rows.max() - rows.min()) // 8, columns.min() : columns.max()] = circle[3, 3]
    assert roundness(dented) < round_one - 0.03


def test_an_empty_picture_shows_no_circle():
    assert roundness(np.full((64, 64, 3), 200, dtype=np.uint8)) == 0
