"""Headers of safetensors files: the library's own are read, and whatever is made up is refused without harm."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from cascade_app.errors import CheckpointDamaged
from cascade_app.weights import MAX_HEADER_BYTES, TensorInfo, count_parameters, digest, read_header

GOOD = {"a": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}


def write(path: Path, entries: object, data_bytes: int = 12) -> Path:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(data_bytes))
    return path


def test_what_the_library_writes(tmp_path: Path):
    tensors = {
        "half": torch.zeros(2, 3, dtype=torch.float16), "brain": torch.zeros(4, dtype=torch.bfloat16),
        "full": torch.zeros(1, 1, 5), "count": torch.zeros((), dtype=torch.int64), "nothing": torch.zeros(0, 3),
    }  # fmt: skip
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    header = read_header(tmp_path / "a.safetensors")
    assert header == {
        "half": TensorInfo("F16", (2, 3)), "brain": TensorInfo("BF16", (4,)), "full": TensorInfo("F32", (1, 1, 5)),
        "count": TensorInfo("I64", ()), "nothing": TensorInfo("F32", (0, 3)),
    }  # fmt: skip
    assert count_parameters(header) == 6 + 4 + 5


def test_a_file_that_changes_is_read_again(tmp_path: Path):
    write(tmp_path / "a", GOOD)
    assert set(read_header(tmp_path / "a")) == {"a"}
    write(tmp_path / "a", {"bb": GOOD["a"]})
    assert set(read_header(tmp_path / "a")) == {"bb"}


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        (b"", "truncated or not"),
        (b"{", "truncated or not"),
        (b"\xff\xfe{}", "truncated or not"),
        (b"[" * 200_000, "truncated or not"),
        ([], "not a JSON object"),
        ({}, "holds no tensors"),
        ({"__metadata__": {"format": "pt"}}, "holds no tensors"),
        ({"a": 1}, "no valid tensor"),
        ({"a": {}}, "no valid tensor"),
        ({"a": {**GOOD["a"], "dtype": ["F16"]}}, "no valid tensor"),
        ({"a": {**GOOD["a"], "shape": [2, -3]}}, "no valid tensor"),
        ({"a": {**GOOD["a"], "shape": [2, 3.0]}}, "no valid tensor"),
        ({"a": {**GOOD["a"], "shape": [True, 6]}}, "no valid tensor"),
        ({"a": {**GOOD["a"], "shape": [1] * 17}}, "no valid tensor"),
        ({"a": {**GOOD["a"], "shape": [2**63, 2**63]}}, "no valid tensor"),
        ({"a": {**GOOD["a"], "data_offsets": [0]}}, "no valid tensor"),
        ({"a": {**GOOD["a"], "data_offsets": [12, 0]}}, "no valid tensor"),
        ({"a": {**GOOD["a"], "data_offsets": [-12, 0]}}, "no valid tensor"),
        ({"a": {**GOOD["a"], "data_offsets": [0, 14]}}, "no valid tensor"),
        ({"a": {**GOOD["a"], "data_offsets": [4, 16]}}, "gaps or overlap"),
        ({"a": GOOD["a"], "b": GOOD["a"]}, "gaps or overlap"),
        ({"a": {**GOOD["a"], "shape": [4, 3], "data_offsets": [0, 24]}}, "12 of 24 bytes are missing"),
        ({"a": {**GOOD["a"], "shape": [3], "data_offsets": [0, 6]}}, "bytes (6) that belong to no tensor"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_header_is_not_believed(tmp_path: Path, entries: object, why: str):
    path = write(tmp_path / "weights.safetensors", entries)
    with pytest.raises(CheckpointDamaged) as caught:
        read_header(path)
    assert why in caught.value.message
    assert path.name in caught.value.message
    assert str(tmp_path) not in caught.value.message


@pytest.mark.parametrize(
    "content",
    [b"", b"1234567", b"\x00" * 8, (2**63).to_bytes(8, "little") + b"{}", b"PK\x03\x04 a zip file", b"\x80\x02ctorch"],
)
def test_what_is_no_such_file_at_all(tmp_path: Path, content: bytes):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CheckpointDamaged, match="cannot be read"):
        read_header(tmp_path / "x")


def test_a_length_beyond_the_limit_is_not_read(tmp_path: Path):
    with (tmp_path / "x").open("wb") as file:
        file.write((MAX_HEADER_BYTES + 1).to_bytes(8, "little"))
        file.truncate(MAX_HEADER_BYTES + 100)  # a hole, which takes no room
    with pytest.raises(CheckpointDamaged, match="not a safetensors file"):
        read_header(tmp_path / "x")


def test_whatever_we_accept_the_library_accepts_too(tmp_path: Path):
    save_file({"a": torch.zeros(3, 2), "b": torch.zeros(4, dtype=torch.bfloat16)}, tmp_path / "x")
    whole, dice, accepted = (tmp_path / "x").read_bytes(), random.Random(1), 0
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(dice.randrange(1, 4)):
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        (tmp_path / "x").write_bytes(content)
        try:
            header = read_header(tmp_path / "x")
        except CheckpointDamaged:
            continue
        accepted += 1
        try:
            with safe_open(tmp_path / "x", framework="pt") as file:
                assert set(file.keys()) == set(header)
                assert all(tuple(file.get_slice(key).get_shape()) == info.shape for key, info in header.items())
        except SafetensorError as error:
            pytest.fail(str(error))
    assert 20 < accepted < 380


def test_a_digest_tells_weights_apart_and_copies_not(tmp_path: Path):
    weights = {"a": torch.arange(300_000.0), "b": torch.ones(3, 4)}
    files = {name: tmp_path / f"{name}.safetensors" for name in ("one", "copy", "renamed", "retrained", "shorter")}
    save_file(weights, files["one"])
    files["copy"].write_bytes(files["one"].read_bytes())
    save_file({"a": weights["a"], "c": weights["b"]}, files["renamed"])
    save_file({**weights, "a": weights["a"] * 1.001}, files["retrained"])
    save_file({**weights, "a": weights["a"][1:]}, files["shorter"])
    digests = {name: digest(file) for name, file in files.items()}
    assert digests["one"] == digests["copy"] and len(set(digests.values())) == 4
    retrained = files["retrained"].read_bytes()
    files["one"].write_bytes(retrained)
    assert digest(files["one"]) == digests["retrained"], "not remembered once the file has changed"
    files["one"].write_bytes(b"")
    digest(files["one"])
    with pytest.raises(CheckpointDamaged, match="No such file"):
        digest(tmp_path / "missing.safetensors")
