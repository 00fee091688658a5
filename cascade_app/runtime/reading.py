"""Tensors out of safetensors files: mapped where they can stay as they are, read where they cannot.

A mapped file costs no memory of its own, but its pages count as the process's once they are touched, and a tensor that is
converted leaves them behind. So what is converted is read, one tensor at a time, straight into memory of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor

from cascade_app.runtime.single_file import TensorRef

# Files up to this size are read rather than mapped: a mapped file must not be written to while it is in use, and who
# trains a small checkpoint does just that.
COPIED_BYTES = 64_000_000
DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def read_tensors(refs: Mapping[str, TensorRef], dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors that `refs` name; those in floating point in `dtype`.

    Raises:
        OSError, SafetensorError: a file cannot be read, or is not what its header said.
        KeyError: a dtype that no network is made of.
    """
    with ExitStack() as stack:
        mapped: dict[Path, Any] = {}
        opened: dict[Path, BinaryIO] = {}
        tensors = {}
        for key, ref in refs.items():
            if _stays_as_it_is(ref, dtype):
                if ref.file not in mapped:
                    mapped[ref.file] = safe_open(ref.file, framework="pt")  # its tensors keep the mapping
                tensor = mapped[ref.file].get_tensor(ref.key)
                tensors[key] = tensor if ref.third is None else tensor.chunk(3)[ref.third]
                continue
            if ref.file not in opened:
                opened[ref.file] = stack.enter_context(ref.file.open("rb"))
            tensor = _read(opened[ref.file], ref)
            tensors[key] = tensor.to(dtype) if tensor.is_floating_point() else tensor
        return tensors


def _stays_as_it_is(ref: TensorRef, dtype: torch.dtype) -> bool:
    kind = DTYPES[ref.dtype]
    return ref.file.stat().st_size > COPIED_BYTES and not ref.transposed and (kind == dtype or not kind.is_floating_point)


def _read(file: BinaryIO, ref: TensorRef) -> Tensor:
    """One tensor as it is stored, in memory of its own; of three in one, only its own rows."""
    stored = torch.empty(ref.shape[::-1] if ref.transposed else ref.shape, dtype=DTYPES[ref.dtype])
    memory = stored.view(-1).view(torch.uint8).numpy()
    file.seek(ref.offset + (ref.third or 0) * memory.nbytes)
    if memory.nbytes and file.readinto(memory) != memory.nbytes:
        raise OSError(0, "it is truncated or was changed")
    return stored.T.contiguous() if ref.transposed else stored
