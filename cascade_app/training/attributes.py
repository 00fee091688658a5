"""Attribute labels as a training signal: one linear head that reads every attribute of world.py from a feature vector."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from cascade_app.training.world import ATTRIBUTES, describe, labels

NAMES = tuple(ATTRIBUTES)
SIZES = tuple(len(values) for values in ATTRIBUTES.values())


def label_table(indices: Iterable[int]) -> np.ndarray:
    """Labels of these training scenes, (N, attributes) int64; -1 where one does not apply."""
    return np.array([list(labels(describe(int(i))).values()) for i in indices], dtype=np.int64)


class AttributeHead(nn.Module):
    """Feature vectors to the logits of every attribute."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, sum(SIZES))

    def forward(self, features: Tensor) -> list[Tensor]:
        """(B, width) -> per attribute (B, values)."""
        return list(self.linear(features).split(SIZES, dim=-1))


def attribute_loss(logits: list[Tensor], wanted: Tensor) -> tuple[Tensor, float]:
    """(mean cross entropy, accuracy) over the attributes that apply. wanted: (B, attributes) int64, -1 to skip."""
    losses, right, asked = [], 0, 0
    for column, values in enumerate(logits):
        target = wanted[:, column]
        applies = target >= 0
        if not bool(applies.any()):
            continue
        losses.append(functional.cross_entropy(values[applies].float(), target[applies], reduction="sum") / len(target))
        right += int((values[applies].argmax(-1) == target[applies]).sum())
        asked += int(applies.sum())
    return torch.stack(losses).sum() / 6, right / max(1, asked)
