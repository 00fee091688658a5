"""Muon: momentum whose update is made orthogonal, for matrices and (flattened) convolutions.

Written from Jordan et al. 2024, "Muon: an optimizer for hidden layers"; the quintic's coefficients are the ones given there.
Vectors, embeddings, depthwise kernels and output layers belong to AdamW: `split_parameters` sorts them.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cascade_app.runtime.precision import fastest

_QUINTIC = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrix: Tensor, rounds: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly (singular values within about 0.7 to 1.2). (N, M) -> (N, M)."""
    a, b, c = _QUINTIC
    x = matrix.to(fastest(matrix.device.type).dtype)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, scaled so that `lr` means the same for every shape.

    The momentum turns slowly, so its orthogonal form is computed every second step only and used twice: on a CPU that
    saves a sixth of a training step.
    """

    def __init__(
        self,
        parameters: Iterable,
        lr: float = 0.02,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        every: int = 2,
    ):
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "every": every}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state.update(momentum=torch.zeros_like(parameter), age=0)
                buffer = state["momentum"]
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                if state["age"] % group["every"] == 0:
                    update = orthogonalise(parameter.grad.lerp(buffer, group["momentum"]).flatten(1))
                    update = update * max(1.0, update.shape[0] / update.shape[1]) ** 0.5
                    state["update"] = update.view_as(parameter)
                state["age"] += 1
                if group["weight_decay"]:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(state["update"], alpha=-group["lr"])


def split_parameters(
    module: nn.Module, *, plain: tuple[str, ...] = ()
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(for Muon, for AdamW). `plain` names parts (by substring) whose matrices AdamW keeps."""
    matrices, others = [], []
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        flat = parameter.flatten(1) if parameter.dim() > 1 else parameter
        depthwise = parameter.dim() == 4 and parameter.shape[1] == 1
        is_matrix = parameter.dim() > 1 and min(flat.shape) > 8 and not depthwise
        (matrices if is_matrix and not any(word in name for word in plain) else others).append(parameter)
    return matrices, others
