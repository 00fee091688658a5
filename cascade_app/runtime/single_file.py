"""Where each tensor of a network lies in its files, by the name diffusers or transformers gives it. Reads headers only.

A folder's files use those names already. Single files use the authors' or ComfyUI's: attention's queries, keys and values in
one tensor, `attn.out_proj` for `to_out.0`, Stage B's `clip_mapper` for `clip_txt_pooled_mapper`, Stage A's `codebook`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from cascade_app.recognise import outer_projection, part_tensors
from cascade_app.weights import TensorInfo, read_header


@dataclass(frozen=True)
class TensorRef:
    """One tensor to be read.

    Attributes:
        file, key: where it lies.
        shape, dtype: what will be read, after cutting and transposing.
        offset: the byte of the file where it begins, before cutting.
        third: which third of the stored rows it is (queries, keys, values), None for all of it.
        transposed: stored with rows and columns exchanged.
    """

    file: Path
    key: str
    shape: tuple[int, ...]
    dtype: str
    offset: int
    third: int | None = None
    transposed: bool = False


def refs_in_folder(files: Iterable[Path]) -> dict[str, TensorRef]:
    """Tensors of the files of a part in the published folder layout."""
    return {key: _ref(file, key, info) for file in files for key, info in read_header(file).items()}


def refs_in_file(name: str, path: Path, prefix: str) -> dict[str, TensorRef]:
    """Tensors of the part `name` in a single file, by diffusers' (transformers') names."""
    header = read_header(path)
    refs: dict[str, TensorRef] = {}
    for key, info in part_tensors(name, header, prefix).items():
        if prefix + key in header:
            refs.update(_renamed(name, key, _ref(path, prefix + key, info)))
        else:
            refs[key] = TensorRef(path, outer_projection(prefix), info.shape, info.dtype, info.offset, transposed=True)
    return refs


def _ref(file: Path, key: str, info: TensorInfo) -> TensorRef:
    return TensorRef(file, key, info.shape, info.dtype, info.offset)


def _renamed(name: str, key: str, ref: TensorRef) -> Iterator[tuple[str, TensorRef]]:
    if name in ("prior", "decoder"):
        match = re.fullmatch(r"(.*\.attention\.)attn\.in_proj_(weight|bias)", key)
        if match and ref.shape and ref.shape[0] % 3 == 0:
            for third, letter in enumerate("qkv"):
                shape = (ref.shape[0] // 3, *ref.shape[1:])
                yield f"{match[1]}to_{letter}.{match[2]}", replace(ref, shape=shape, third=third)
            return
        key = re.sub(r"\.attention\.attn\.(to_[qkv])\.", r".attention.\1.", key)  # as ComfyUI saves it
        key = key.replace(".attention.attn.out_proj.", ".attention.to_out.0.")
        if name == "decoder" and key.startswith("clip_mapper."):
            key = f"clip_txt_pooled_mapper.{key.removeprefix('clip_mapper.')}"
    elif name == "vqgan" and key == "vquantizer.codebook.weight":
        key = "vquantizer.embedding.weight"
    yield key, ref
