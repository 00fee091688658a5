"""Layers whose weights lie as oneDNN reads them: on a CPU a product of few rows is spent on putting them so at every call.

A packed layer takes the place of the plain one, whose weights are let go; it computes the same up to rounding. Packed weights
cannot be moved, saved or trained. Which processor can use them is decided here; which networks are packed, in `runtime/`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_LEFT_ALONE = ("kv_mapper", "mapper", "clip_")  # read once a run, not once a step


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this processor and this torch compute with packed weights of `dtype`."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.ops.mkldnn._is_mkldnn_fp16_supported() if dtype == torch.float16 else dtype == torch.float32


def linear(layer: nn.Module, x: Tensor, *, gelu: bool = False, add: Tensor | None = None) -> Tensor:
    """`layer`, a Linear packed or not, of (..., inputs), then the exact GELU if wanted, or the sum with `add` (..., outputs)."""
    if isinstance(layer, PackedLinear):
        return layer.plus(x, add) if add is not None else layer(x, "gelu" if gelu else "none")
    y = functional.linear(x, layer.weight, layer.bias)
    if add is not None:
        return y.add_(add)
    return functional.gelu(y) if gelu else y


class PackedLinear(nn.Module):
    """A linear layer of `weight` (outputs, inputs) and `bias` (outputs,) or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = _fixed(torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None))
        self.bias = _fixed(bias)

    def forward(self, x: Tensor, activation: str = "none") -> Tensor:
        """(..., inputs) -> (..., outputs); `activation` is "none" or "gelu"."""
        return torch.ops.mkldnn._linear_pointwise.default(x, self.weight, self.bias, activation, [], "none")

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """(..., inputs), (..., outputs) -> (..., outputs): the product and `other`, summed before they are rounded."""
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self.weight, self.bias, "add")


class PackedDepthwise(nn.Module):
    """A convolution of each channel by itself, with stride 1."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.padding, self.channels = list(layer.padding), layer.groups
        weight, ones = layer.weight.detach(), [1, 1]
        self.weight = _fixed(
            torch.ops.mkldnn._reorder_convolution_weight(weight, self.padding, ones, ones, self.channels, None)
        )
        self.bias = _fixed(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """As Conv2d."""
        return torch.ops.mkldnn._convolution_pointwise.default(
            x, self.weight, self.bias, self.padding, [1, 1], [1, 1], self.channels, "none", [], ""
        )


def pack(network: nn.Module) -> None:
    """Put packed layers in the place of those of Stage C, B or A that can be; what is packed already stays as it is.

    Where cells attend to each other, queries, keys and values become one product, `to_qkv`.
    """
    for module in list(network.modules()):
        if hasattr(module, "kv_mapper") and module.self_attn and hasattr(module.attention, "to_q"):
            module.attention.to_qkv = _joined(module.attention.to_q, module.attention.to_k, module.attention.to_v)
            del module.attention.to_q, module.attention.to_k, module.attention.to_v
    _pack_children(network)


def _fixed(tensor: Tensor | None) -> nn.Parameter | None:
    return None if tensor is None else nn.Parameter(tensor.detach(), requires_grad=False)


def _joined(*layers: nn.Linear) -> PackedLinear:
    return PackedLinear(torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers]))


def _pack_children(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if name.startswith(_LEFT_ALONE):
            continue
        if isinstance(child, nn.Linear):
            setattr(module, name, PackedLinear(child.weight, child.bias))
        elif (
            isinstance(child, nn.Conv2d)
            and child.groups == child.in_channels == child.out_channels
            and child.stride == (1, 1)
        ):
            setattr(module, name, PackedDepthwise(child))
        else:
            _pack_children(child)
