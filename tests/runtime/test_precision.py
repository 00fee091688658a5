"""Which dtype is chosen, by clocks that the test brings, and that the choice is told."""

from __future__ import annotations

import itertools

import pytest
import torch

from cascade_app.runtime import precision
from cascade_app.runtime.manager import PipelineManager
from cascade_app.runtime.precision import choose_precision, fastest, measure
from cascade_app.settings import Settings
from cascade_app.ui.system_panel import facts_of

BF16, F32 = torch.bfloat16, torch.float32


@pytest.mark.parametrize(
    ("float32_s", "bfloat16_s", "chosen"), [(3.5, 1.0, BF16), (1.0, 1.0, F32), (1.0, 2.0, F32), (1.2, 1.0, F32)]
)
def test_the_quicker_by_far_is_chosen(float32_s, bfloat16_s, chosen):
    assert measure({F32: float32_s, BF16: bfloat16_s}.__getitem__).dtype is chosen


def test_a_busy_machine_does_not_change_the_choice():
    """Most turns are interrupted, and for one dtype more than for the other; one of each is not."""
    stalls = {F32: itertools.cycle([9.0, 9.0, 0.0, 9.0]), BF16: itertools.cycle([30.0, 0.0, 30.0, 30.0, 30.0])}
    busy = measure(lambda dtype: {F32: 3.5, BF16: 1.0}[dtype] + next(stalls[dtype]))
    idle = measure({F32: 3.5, BF16: 1.0}.__getitem__)
    assert busy == idle and busy.dtype is BF16


def test_what_was_asked_for_is_not_measured(monkeypatch):
    monkeypatch.setattr(precision, "fastest", lambda device_type: pytest.fail("measured"))
    for name in ("float32", "bfloat16", "float16"):
        chosen = choose_precision(name, "cpu")
        assert chosen.dtype is getattr(torch, name) and "CASCADE_DTYPE" in chosen.reason


def test_it_is_measured_once_and_never_float16(monkeypatch):
    fastest.cache_clear()
    calls = []
    monkeypatch.setattr(precision, "matmul_seconds", lambda dtype: calls.append(dtype) or 1.0)
    try:
        assert choose_precision("auto", "cpu") is choose_precision("auto", "cpu")
        assert set(calls) == {F32, BF16} and len(calls) == 24
        assert fastest("mps").dtype is F32
    finally:
        fastest.cache_clear()


def test_the_system_panel_says_why():
    report = PipelineManager(Settings(device="cpu", dtype="auto")).report()
    facts = dict(facts_of(report))
    assert facts["Device"].endswith(f", {report.dtype}") and report.dtype in ("float32", "bfloat16")
    assert "a matrix product in bfloat16 takes" in facts["Its precision"] and facts["Its precision"].endswith("in float32.")
