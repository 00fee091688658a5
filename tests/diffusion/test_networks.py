"""The module trees against diffusers' classes: the same weights under the same names, and Stage A computes the same."""

from __future__ import annotations

import pytest
import torch
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel

from cascade_app.diffusion.configs import UNetConfig, VQGANConfig, config_from
from cascade_app.diffusion.networks import VQGAN, CascadeUNet
from cascade_app.diffusion.unet import Conditioning, predict, prepare
from tests.small import LEVEL_C, LEVEL_CTA, revive, small_decoder, small_prior

UNETS = {
    "Stage C": lambda: small_prior(),
    "Stage C that resizes": lambda: small_prior(switch_level=(True,)),
    "Stage C, self-attention at one level": lambda: small_prior(self_attn=(True, False), kernel_size=5),
    "Stage C, repeated on both ways": lambda: small_prior(down_blocks_repeat_mappers=(2, 3), up_blocks_repeat_mappers=(1, 2)),
    "Stage C, one level": lambda: small_prior(
        block_out_channels=(32,), num_attention_heads=(4,), down_num_layers_per_block=(2,), up_num_layers_per_block=(1,),
        down_blocks_repeat_mappers=(1,), up_blocks_repeat_mappers=(1,), block_types_per_layer=(LEVEL_CTA,), switch_level=None,
    ),
    "Stage B": lambda: small_decoder(),
    "Stage B, attention in the middle": lambda: small_decoder(
        block_types_per_layer=(LEVEL_C, LEVEL_CTA, LEVEL_CTA), num_attention_heads=(-1, 2, 4), timestep_conditioning_type=()
    ),
    "Stage B without pixels": lambda: small_decoder(pixel_mapper_in_channels=None),
}  # fmt: skip


def ours(network, kind, config, state):
    """Our tree for a library's config, built on the meta device and filled with its weights: every name must be known."""
    with torch.device("meta"):
        built = network(config_from(kind, dict(config)))
    built.load_state_dict(state, assign=True)
    return built.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", UNETS)
def test_a_unet_has_the_weights_of_diffusers_and_the_walk_goes_over_both_alike(kind):
    theirs = UNETS[kind]()
    unet = ours(CascadeUNet, UNetConfig, theirs.config, theirs.state_dict())
    assert {name: tensor.shape for name, tensor in unet.state_dict().items()} == {
        name: tensor.shape for name, tensor in theirs.state_dict().items()
    }
    torch.manual_seed(0)
    if kind.startswith("Stage C"):
        conditioning, latents = Conditioning(torch.randn(2, 1, 20), torch.randn(2, 12, 24), torch.randn(2, 1, 12)), (16, 6, 8)
    else:
        conditioning, latents = Conditioning(torch.randn(2, 1, 20), effnet=torch.randn(2, 16, 4, 4)), (4, 16, 24)
    latents = torch.randn(2, *latents)
    walked = [
        predict(each, latents, 0, prepare(each, conditioning, ratios=torch.tensor([0.5]), size=latents.shape[-2:]))
        for each in (theirs, unet)
    ]
    assert walked[0].std() > 0.05 and torch.equal(*walked)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "config",
    [
        {"levels": 2, "bottleneck_blocks": 2, "embed_dim": 16, "num_vq_embeddings": 8},
        {"levels": 1, "bottleneck_blocks": 3, "embed_dim": 8, "latent_channels": 6, "up_down_scale_factor": 4},
        {"levels": 3, "bottleneck_blocks": 1, "embed_dim": 32, "in_channels": 1, "out_channels": 1},
    ],
)
@torch.no_grad()
def test_stage_a_equals_diffusers(config, dtype):
    theirs = revive(PaellaVQModel(**config), 3)
    for name, buffer in theirs.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    theirs = theirs.to(dtype)
    vqgan = ours(VQGAN, VQGANConfig, theirs.config, theirs.state_dict())
    torch.manual_seed(0)
    pictures = torch.rand(2, theirs.config.in_channels, 96, 64).to(dtype)  # more cells than are computed at once
    expected = theirs.encode(pictures).latents
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.02, "atol": 0.02}
    torch.testing.assert_close(vqgan.encode(pictures).latents, expected, **tolerance)
    decoded = theirs.decode(expected).sample
    assert decoded.float().std() > 0.01
    torch.testing.assert_close(vqgan.decode(expected).sample, decoded, **tolerance)


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        (UNetConfig, {"block_out_channels": "wide"}, "block_out_channels is wide"),
        (UNetConfig, {"in_channels": True}, "in_channels is True"),
        (UNetConfig, {"up_num_layers_per_block": [1]}, "up_num_layers_per_block has 1 entries for 2 levels"),
        (UNetConfig, {"num_attention_heads": [0, 32]}, "num_attention_heads is 0"),
        (UNetConfig, {"num_attention_heads": [32, 7]}, "num_attention_heads is 7"),
        (UNetConfig, {"block_types_per_layer": [["A"], ["B"]]}, "block_types_per_layer names A"),
        (UNetConfig, {"kernel_size": 4}, "must be odd"),
        (UNetConfig, {"switch_level": []}, "switch_level has 0 entries"),
        (VQGANConfig, {"embed_dim": 1}, "embed_dim 1"),
        (VQGANConfig, {"levels": 2.5}, "levels is 2.5"),
    ],
)
def test_a_config_that_describes_nothing(kind, changes, said):
    with pytest.raises(ValueError, match=said):
        config_from(kind, changes)


def test_a_whole_number_is_a_number_and_keys_of_no_weight_are_passed_over():
    assert config_from(VQGANConfig, {"scale_factor": 1, "_class_name": "PaellaVQModel"}) == VQGANConfig(scale_factor=1.0)
