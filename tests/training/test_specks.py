"""The measure of stars: a render's stars are found where they are, and a sky without any has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cascade_app.training.scenes import STARS, render
from cascade_app.training.specks import standing_out
from cascade_app.training.world import Landscape

HIGH = [(x, y) for x, y in STARS if y < 0.3]
NIGHT = Landscape(1, "night", "hills", None, None, None, None, "left", None, None, "left", ("stars",))


@pytest.mark.parametrize(("width", "height"), [(256, 256), (384, 256)])
def test_every_star_of_a_render_is_found_and_none_where_there_is_none(width, height):
    assert len(HIGH) > 12
    assert standing_out(render(NIGHT, width, height), HIGH) == 1
    assert standing_out(render(replace(NIGHT, weather=()), width, height), HIGH) == 0


def test_half_a_sky_is_half():
    picture, without = render(NIGHT).copy(), render(replace(NIGHT, weather=()))
    picture[:, :128] = without[:, :128]
    assert standing_out(picture, HIGH) == pytest.approx(np.mean([x > 0.5 for x, _ in HIGH]), abs=0.06)


def test_fog_is_no_star():
    without = render(replace(NIGHT, weather=())).astype(int)
    y, x = np.mgrid[:256, :256]
    for at in HIGH:
        without += (90 * np.exp(-((x - at[0] * 256) ** 2 + (y - at[1] * 256) ** 2) / 600))[..., None].astype(int)
    assert standing_out(without.clip(0, 255).astype(np.uint8), HIGH) < 0.2
