"""What a safetensors file says it holds, read from its header alone: names, dtypes, shapes. Pure Python, no torch.

A header is eight bytes of length, that many bytes of JSON, then the tensors' bytes. Nothing in it is believed: lengths,
shapes and offsets are checked against each other and against the size of the file before anyone maps it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cascade_app.errors import CheckpointDamaged

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
ELEMENT_BYTES: Mapping[str, int] = MappingProxyType(
    {
        "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
        "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
    }
)  # fmt: skip
_SAMPLES, _SAMPLE_BYTES = 1024, 256  # spread evenly: no network's part is so small that training leaves none of them changed
WEIGHT_DTYPES = ("F64", "F32", "F16", "BF16")  # what a network can be loaded from


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file: its dtype as the format names it, its shape, and the byte of the file where it begins."""

    dtype: str
    shape: tuple[int, ...]
    offset: int = field(default=0, compare=False)

    @property
    def is_weight(self) -> bool:
        """Floating point, in a precision that networks are stored in."""
        return self.dtype in WEIGHT_DTYPES

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


Header = Mapping[str, TensorInfo]


def read_header(path: Path) -> Header:
    """The tensors of the file at `path`; kept as long as the file does not change.

    Raises:
        CheckpointDamaged: unreadable, no safetensors file, or a header that does not fit the file.
    """
    try:
        state = path.stat()
        if not path.is_file():
            raise _damaged(path, "it is not a file")
        return _read(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise _damaged(path, error.strerror or "it cannot be opened") from error


@lru_cache(maxsize=64)
def _read(path: Path, size: int, _mtime_ns: int) -> Header:
    with path.open("rb") as file:
        start = file.read(8)
        if start[:2] in (b"PK", b"\x80\x02", b"\x80\x04"):
            raise _damaged(path, "it is a pickle, which can run code, and only safetensors files are read")
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise _damaged(path, "it is truncated or not a safetensors file")
        text = file.read(length)
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        raise _damaged(path, "it is truncated or not a safetensors file") from None
    if not isinstance(entries, dict):
        raise _damaged(path, "its header is not a JSON object")
    entries.pop("__metadata__", None)
    if not entries:
        raise CheckpointDamaged(f"{_brief(path)} holds no tensors. Copy it again.")
    return MappingProxyType(_checked(path, entries, 8 + length, size))


def _checked(path: Path, entries: Mapping[str, Any], data_start: int, size: int) -> dict[str, TensorInfo]:
    """The tensors of a header whose offsets tile the file's data exactly, as the format demands."""
    tensors, spans = {}, []
    for name, entry in entries.items():
        info, span = _entry(entry)
        if info is None:
            raise _damaged(path, f'its header describes no valid tensor under "{name[:80]}"')
        tensors[name] = replace(info, offset=data_start + span[0])
        spans.append(span)
    position, data_bytes = 0, size - data_start
    for begin, end in sorted(spans):
        if begin != position:
            raise _damaged(path, "the offsets in its header leave gaps or overlap")
        position = end
    if position > data_bytes:
        raise _damaged(path, f"it is truncated, {position - data_bytes:,} of {position:,} bytes are missing at its end")
    if position < data_bytes:
        raise _damaged(path, f"at its end are bytes ({data_bytes - position:,}) that belong to no tensor")
    return tensors


def _entry(entry: Any) -> tuple[TensorInfo | None, tuple[int, int]]:
    nothing = None, (0, 0)
    if not isinstance(entry, dict):
        return nothing
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in ELEMENT_BYTES:
        return nothing
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2 or len(shape) > 16:
        return nothing
    begin, end = offsets
    if end - begin != math.prod(shape) * ELEMENT_BYTES[dtype]:
        return nothing
    return TensorInfo(dtype, tuple(shape)), (begin, end)


def _whole_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**62 for value in values)


def count_parameters(header: Header) -> int:
    """Numbers in the floating point tensors; counters of a BatchNorm are not counted."""
    return sum(info.numel for info in header.values() if info.dtype.startswith(("F", "BF")))


def digest(path: Path) -> str:
    """Which weights a file holds, from its size, its header and bytes of all its parts; kept as long as it does not change.

    Not proof against who wants to deceive: it tells trainings and editions apart without reading gigabytes.

    Raises:
        CheckpointDamaged: it cannot be read.
    """
    try:
        state = path.stat()
        return _digest(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise _damaged(path, error.strerror or "it cannot be opened") from error


@lru_cache(maxsize=64)
def _digest(path: Path, size: int, _mtime_ns: int) -> str:
    known = hashlib.sha256(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        known.update(file.read(min(header_bytes, MAX_HEADER_BYTES)))
        for sample in range(_SAMPLES):
            file.seek(size * sample // _SAMPLES)
            known.update(file.read(_SAMPLE_BYTES))
    return known.hexdigest()


def _brief(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _damaged(path: Path, reason: str) -> CheckpointDamaged:
    return CheckpointDamaged(f"{_brief(path)} cannot be read: {reason}. Copy it again.")
