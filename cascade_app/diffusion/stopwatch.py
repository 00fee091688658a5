"""How long the CPU computes at something, however busy the machine is: what a probe decides by.

One thread, and its own seconds. On the wall, and with a thread on every core, a product of a thousandth of a second waits for
whichever thread was interrupted: with two other programs on two cores, bfloat16 once looked slower than float32 that took
four times as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def computing_seconds(compute: Callable[[], object]) -> float:
    """Seconds that one thread computes at `compute`; those in which it is interrupted, or sleeps, do not count."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        begin = time.thread_time()
        compute()
        return time.thread_time() - begin
    finally:
        torch.set_num_threads(threads)
