"""Previews: the previewer's structure, and the linear maps that stand in for one."""

from __future__ import annotations

import pytest
import torch

from cascade_app.diffusion.preview import Previewer, fit_to_vqgan, most_visible_directions
from tests.small import small_decoder, small_vqgan


@pytest.mark.parametrize("widths", [(512, 256, 128, 128), (32, 24, 16), (16, 16, 16, 8, 8)])
def test_widths_are_read_off_the_tensors(widths):
    model = Previewer(widths).eval()
    copy = Previewer.from_state_dict(model.state_dict())
    latents = torch.randn(1, 16, 3, 4)
    factor = 2 ** (len(widths) - 1)
    assert copy.widths == widths and copy(latents).shape == (1, 3, 3 * factor, 4 * factor)
    assert torch.equal(copy(latents), model(latents))


@pytest.mark.parametrize("state", [{}, {"blocks.0.weight": torch.zeros(4, 16, 1, 1)}, {"other": torch.zeros(1)}])
def test_other_tensors_are_refused(state):
    with pytest.raises(RuntimeError):
        Previewer.from_state_dict(state)


def test_the_linear_map_follows_stage_a():
    vqgan = small_vqgan()
    latents = torch.nn.functional.interpolate(torch.randn(4, 4, 3, 3), size=(12, 12), mode="bilinear")
    with torch.no_grad():
        truth = vqgan.decode(latents * vqgan.config.scale_factor).sample
    truth = torch.nn.functional.avg_pool2d(truth, 4)
    mapped = fit_to_vqgan(vqgan)(latents)
    assert mapped.shape == truth.shape
    assert (mapped - truth).square().mean() < 0.5 * (truth - truth.mean((0, 2, 3), keepdim=True)).square().mean()


def test_false_colours_show_structure():
    latents = torch.randn(2, 16, 5, 6)
    picture = most_visible_directions(small_decoder())(latents)
    assert picture.shape == (2, 3, 5, 6) and picture.std() > 0.02


def test_a_linear_map_works_where_the_latents_are():
    latents = torch.randn(1, 16, 5, 6, device="meta")
    assert most_visible_directions(small_decoder())(latents).device.type == "meta"
