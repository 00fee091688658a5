"""A packed layer computes what the plain one does, whatever it is given, and takes its place."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from cascade_app.diffusion import packed as module
from cascade_app.diffusion.packed import PackedDepthwise, PackedLinear, can_pack, linear, pack
from tests.small import small_decoder, small_prior, small_vqgan

pytestmark = pytest.mark.skipif(not can_pack(torch.float32), reason="this torch has no oneDNN to pack for")
NEAR = {torch.float32: 1e-5, torch.bfloat16: 0.01, torch.float16: 0.002}


def dtypes():
    return pytest.mark.parametrize("dtype", [dtype for dtype in NEAR if can_pack(dtype)])


def assert_near(packed, plain) -> None:
    assert packed.shape == plain.shape and packed.dtype == plain.dtype
    assert (packed.float() - plain.float()).norm() <= NEAR[plain.dtype] * plain.float().norm()


@dtypes()
@pytest.mark.parametrize("then", ["nothing", "gelu", "add"])
@pytest.mark.parametrize("shape", [(3, 40), (2, 5, 7, 40), (2, 1, 40)])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_a_linear_layer(dtype, then, shape, bias):
    torch.manual_seed(0)
    layer, x = nn.Linear(40, 24, bias=bias).to(dtype), torch.randn(*shape).to(dtype)
    other = torch.randn(*shape[:-1], 24).to(dtype)
    expected = functional.linear(x, layer.weight, layer.bias)
    expected = {"nothing": expected, "gelu": functional.gelu(expected), "add": expected + other}[then]
    packed = PackedLinear(layer.weight, layer.bias)
    for laid_out in (lambda y: y, lambda y: y.transpose(0, -2).contiguous().transpose(0, -2)):
        given, added = laid_out(x), laid_out(other) if then == "add" else None
        for one in (layer, packed):
            assert_near(linear(one, given, gelu=then == "gelu", add=added), expected)
            assert torch.equal(given, x) and (added is None or torch.equal(added, other))


CONVOLUTIONS = {
    "depthwise": (lambda: nn.Conv2d(12, 12, 5, padding=2, groups=12), PackedDepthwise),
    "depthwise, borders given": (lambda: nn.Conv2d(12, 12, 3, groups=12, bias=False), PackedDepthwise),
    "halving": (lambda: nn.Conv2d(12, 12, 2, stride=2, groups=12), nn.Conv2d),
    "overlapping": (lambda: nn.Conv2d(12, 8, 3, padding=1), nn.Conv2d),
}


@dtypes()
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
@torch.no_grad()
def test_a_convolution_at_even_and_odd_sizes(kind, channels_last, dtype):
    torch.manual_seed(0)
    layer = CONVOLUTIONS[kind][0]().to(dtype)
    network = nn.Sequential(layer)
    pack(network)
    assert type(network[0]) is CONVOLUTIONS[kind][1]
    for rows, height, width in ((2, 8, 6), (1, 7, 9), (3, 7, 4)):
        x = torch.randn(rows, 12, height, width).to(dtype)
        x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
        assert_near(network(x), layer(x))


@pytest.mark.parametrize("build", [small_prior, small_decoder, small_vqgan])
def test_a_packed_network_counts_as_many_parameters_and_is_packed_once(build):
    network = build()
    before = sum(parameter.numel() for parameter in network.parameters())
    pack(network)
    assert sum(parameter.numel() for parameter in network.parameters()) == before
    packed = [one for one in network.modules() if isinstance(one, PackedLinear | PackedDepthwise)]
    assert len(packed) > 10 and not any(parameter.requires_grad for one in packed for parameter in one.parameters())
    pack(network)
    assert packed == [one for one in network.modules() if isinstance(one, PackedLinear | PackedDepthwise)]


def test_nothing_is_packed_where_torch_has_no_onednn(monkeypatch):
    monkeypatch.setattr(module.torch.backends.mkldnn, "is_available", lambda: False)
    assert not can_pack(torch.float32)


def test_what_is_no_float_is_never_packed():
    assert not can_pack(torch.float64)
