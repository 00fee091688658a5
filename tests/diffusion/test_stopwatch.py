"""What the probes of the CPU read: one thread's own computing, whatever else runs."""

from __future__ import annotations

import time

import pytest
import torch

from cascade_app.diffusion.stopwatch import computing_seconds


def test_waiting_does_not_count():
    assert computing_seconds(lambda: time.sleep(0.3)) < 0.1


def test_computing_does():
    def compute() -> None:
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass

    assert computing_seconds(compute) >= 0.05


def test_one_thread_computes_and_the_others_are_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        seen = []
        computing_seconds(lambda: seen.append(torch.get_num_threads()))
        with pytest.raises(ZeroDivisionError):
            computing_seconds(lambda: 1 / 0)
        assert seen == [1] and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
