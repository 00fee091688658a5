"""The published networks at full size, without their weights: built on the meta device from the catalogue's tables."""

from __future__ import annotations

import json

import pytest
import torch

from cascade_app import published
from cascade_app.catalogue import find_checkpoint
from cascade_app.layouts import Source, file_facts
from cascade_app.recognise import find_parts, infer_config, published_part
from cascade_app.runtime.footprint import count_unet
from cascade_app.runtime.loader import build_empty
from cascade_app.runtime.single_file import refs_in_file
from cascade_app.weights import read_header
from tests.formats import authors_names

# What the model card and counting the authors' own code say, in billions and in gigabytes of 16-bit numbers.
SIZES = {
    "Stage C 3.6B": (3.589, 7.18),
    "Stage C 1B": (1.031, 2.06),
    "Stage B 1.5B": (1.563, 3.13),
    "Stage B 700M": (0.699, 1.40),
    "Stage A": (0.0184, 0.037),
    "CLIP ViT-bigG/14 text encoder": (0.695, 1.39),
}


@pytest.fixture(scope="module")
def networks():
    return {part.title: build_empty(part.name, part.config) for part in published.PARTS}


@pytest.mark.parametrize("part", published.PARTS, ids=lambda part: part.title)
def test_parameters(part, networks):
    counted = sum(parameter.numel() for parameter in networks[part.title].parameters())
    assert counted == part.parameters
    billions, gigabytes = SIZES[part.title]
    assert counted / 1e9 == pytest.approx(billions, rel=2e-3)
    assert part.bytes / 1e9 == pytest.approx(gigabytes, rel=1e-2)
    if part.name in ("prior", "decoder"):
        assert count_unet(part.config).total == counted


@pytest.mark.parametrize("part", [part for part in published.PARTS if part.name != "text_encoder"], ids=lambda part: part.title)
@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_the_authors_files_are_recognised_at_full_size(part, dtype, networks, tmp_path):
    """A file with a true header of the authors' names and no bytes behind it but a hole."""
    network = networks[part.title]
    path = tmp_path / "a.safetensors"
    write_hollow(path, authors_names(part.name, network), dtype)
    header_parts = find_parts(read_header(path))
    assert header_parts == {part.name: ""}
    config = infer_config(part.name, read_header(path))
    assert published_part(part.name, config) is part
    facts = file_facts(part.name, Source(path))
    assert facts.title == part.title
    assert facts.parameters == pytest.approx(part.parameters, abs=8)  # Stage A's running statistics
    refs = refs_in_file(part.name, path, "")
    rebuilt = build_empty(part.name, config).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in rebuilt.items()} == {
        key: tuple(tensor.shape) for key, tensor in network.state_dict().items()
    }
    assert {key: refs[key].shape for key in rebuilt} == {key: tuple(tensor.shape) for key, tensor in rebuilt.items()}
    if part.name in ("prior", "decoder"):
        with_attention = [index for index, kinds in enumerate(config["block_types_per_layer"]) if len(kinds) == 3]
        assert [config["num_attention_heads"][index] for index in with_attention] == [
            part.config["num_attention_heads"][index] for index in with_attention
        ]


def write_hollow(path, tensors, dtype) -> None:
    """A safetensors file of the right length whose data is a hole: it takes no room on the disk."""
    entries, position = {}, 0
    for key, tensor in tensors.items():
        floating = tensor.is_floating_point()
        size = tensor.numel() * ({"BF16": 2, "F32": 4}[dtype] if floating else 8)
        entries[key] = {
            "dtype": dtype if floating else "I64", "shape": list(tensor.shape), "data_offsets": [position, position + size],
        }  # fmt: skip
        position += size
    text = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + position)


def test_every_pair_fits_together_and_the_recommended_one_comes_first():
    assert next(iter(published.CHECKPOINTS)) == "stable-cascade"
    pairs = set()
    for name in published.CHECKPOINTS:
        spec = find_checkpoint(name)
        assert list(spec.parts) == ["text_encoder", "prior", "decoder", "vqgan"]
        assert spec.parts["prior"].config["clip_text_in_channels"] == spec.parts["text_encoder"].config["hidden_size"]
        assert spec.license == spec.license_to_accept == published.LICENSE
        assert spec.presets["authors"]["prior_shift"] == 2
        pairs.add((spec.parts["prior"].title, spec.parts["decoder"].title))
    assert len(pairs) == 4


def test_building_takes_no_memory(networks):
    assert all(parameter.is_meta for network in networks.values() for parameter in network.parameters())
    assert torch.get_default_dtype() == torch.float32
