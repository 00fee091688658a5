"""A linear layer is the same whichever library computes it, and the quicker library by far is taken."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional

from cascade_app.diffusion import linear as module
from cascade_app.diffusion.linear import linear, onednn_is_quicker

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN to compare with")


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("shape", [(3, 40), (2, 5, 7, 40), (2, 1, 40)])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_both_libraries_agree(gelu, shape, bias, monkeypatch):
    torch.manual_seed(0)
    layer, x = torch.nn.Linear(40, 24, bias=bias), torch.randn(*shape)
    expected = functional.linear(x.double(), layer.weight.double(), layer.bias.double() if bias else None)
    expected = (functional.gelu(expected) if gelu else expected).float()
    for onednn in (True, False):
        monkeypatch.setattr(module, "_by_onednn", lambda onednn=onednn: onednn)
        torch.testing.assert_close(linear(layer, x, gelu=gelu), expected, rtol=1e-5, atol=1e-6)
        strided = x.transpose(0, -2).contiguous().transpose(0, -2)
        torch.testing.assert_close(linear(layer, strided, gelu=gelu), expected, rtol=1e-5, atol=1e-6)


def test_16_bits_never_ask(monkeypatch):
    monkeypatch.setattr(module, "_by_onednn", lambda: pytest.fail("asked"))
    layer = torch.nn.Linear(8, 8).bfloat16()
    assert linear(layer, torch.ones(2, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize(("own_s", "onednn_s", "quicker"), [(2.0, 1.0, True), (1.1, 1.0, False), (1.0, 2.0, False)])
def test_the_quicker_by_far_is_taken_however_busy_the_machine(own_s, onednn_s, quicker):
    seconds = itertools.cycle([own_s, onednn_s])
    stalls = itertools.cycle([5.0, 9.0, 0.0, 0.0, 7.0])
    assert onednn_is_quicker(lambda product: product().numel() and next(seconds) + next(stalls)) is quicker
