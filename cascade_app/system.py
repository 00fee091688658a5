"""What the System panel shows: plain values about the engine's device, memory and cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class PartReport:
    """A loaded network: `bytes` in the dtype it runs in, `where` "device" or "host"."""

    checkpoint: str
    name: str
    bytes: int
    where: str


@dataclass(frozen=True)
class SystemReport:
    """A snapshot of the engine. Bytes are of the device that computes, and of the host.

    Attributes:
        device: what it calls itself.
        dtype, dtype_reason: what the networks run in, and why, without a full stop.
        placement, reason: of the last run, "" before the first.
        load_seconds: checkpoint's title -> seconds its weights took to load.
        prompts_cached: prompt embeddings kept.
        cache_use: what is kept between runs, "prompts" (their embeddings) and "prepared" (what does not change between steps)
            -> how often it was there, and how often it had to be computed.
    """

    device: str
    dtype: str
    device_free_bytes: int
    device_used_bytes: int
    host_free_bytes: int
    placement: str = ""
    reason: str = ""
    parts: tuple[PartReport, ...] = ()
    load_seconds: Mapping[str, float] = field(default_factory=dict)
    prompts_cached: int = 0
    dtype_reason: str = ""
    cache_use: Mapping[str, tuple[int, int]] = field(default_factory=dict)
