"""A UNet that grows: more blocks and larger kernels, the same function until it trains on."""

from __future__ import annotations

import pytest
import torch

from cascade_app.training import stage_b
from cascade_app.training.unets import DECODER, blended, grown, new_unet

SMALLER = {
    **DECODER,
    "kernel_size": 3,
    "down_num_layers_per_block": (1, 1, 1),
    "up_num_layers_per_block": (1, 1, 2),
}


@pytest.fixture(scope="module")
def smaller():
    """A small UNet whose every weight does something."""
    unet = new_unet(SMALLER).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return unet


def test_a_grown_unet_computes_the_same_and_can_learn(smaller):
    larger = new_unet(DECODER).eval()
    larger.load_state_dict(grown(smaller.state_dict(), larger))
    latents, effnet = torch.randn(2, 4, 32, 32), torch.randn(2, 16, 3, 3)
    ratios, pooled = torch.tensor([0.3, 1.0]), torch.zeros(2, 1, DECODER["clip_text_pooled_in_channels"])
    before = smaller(latents, ratios, pooled, effnet=effnet).sample
    after = larger(latents, ratios, pooled, effnet=effnet).sample
    assert before.std() > 0.01
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    after.square().mean().backward()
    new = [p for name, p in larger.named_parameters() if name not in smaller.state_dict() and "channelwise.4" in name]
    assert new and all(p.grad.abs().max() > 0 for p in new)


def test_what_cannot_grow_is_said(smaller):
    with pytest.raises(ValueError, match="cannot grow"):
        grown(smaller.state_dict(), new_unet({**DECODER, "block_out_channels": (96, 96, 192)}))
    with pytest.raises(ValueError, match="has no"):
        grown(new_unet(DECODER).state_dict(), new_unet({**SMALLER, "kernel_size": 5}))


def test_what_stands_out_weighs_more_and_an_edge_the_same_on_both_sides():
    latents = torch.zeros(1, 4, 32, 32)
    latents[..., 16:] = 1  # an edge
    latents[..., 8, 6] = 2  # a star
    weights = stage_b.detail_weights(latents)[0, 0]
    assert weights.mean() == pytest.approx(1)
    assert weights[8, 6] > 5 * weights[24, 4]
    assert weights[24, 15] > 2 * weights[24, 4] and weights[24, 15] == pytest.approx(float(weights[24, 16]))


def test_what_is_kept_of_a_refining_run_lies_between_its_ends():
    begun = {"weight": torch.zeros(3), "count": torch.tensor(4)}
    refined = {"weight": torch.tensor([1.0, 2.0, -4.0]), "count": torch.tensor(9)}
    assert torch.equal(blended(begun, refined, 0)["weight"], begun["weight"])
    assert torch.equal(blended(begun, refined, 1)["weight"], refined["weight"])
    half = blended(begun, refined, 0.5)
    assert half["weight"].tolist() == [0.5, 1, -2] and half["count"] == 9
