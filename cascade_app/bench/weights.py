"""Random weights of a checkpoint's exact shapes, in bf16 and the published folder layout: what a benchmark runs on.

`mid` names a cascade between the bundled one and the published ones: the pocket's text encoder and Stage A, and UNets that
are as wide as a CPU can still run in seconds.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cascade_app.catalogue import POCKET_DIR, CheckpointSpec, find_checkpoint, read_json
from cascade_app.layouts import CLASSES, PARTS, WEIGHTS
from cascade_app.published import SCHEDULER_CONFIG
from cascade_app.runtime.loader import build_empty

MID = "mid"
# 70 and 32 million parameters; heads are 64 wide, as published.
_MID_CHANGES: Mapping[str, Mapping[str, Any]] = {
    "prior": {"block_out_channels": [512, 512], "conditioning_dim": 512, "num_attention_heads": [8, 8], "kernel_size": 3,
              "down_num_layers_per_block": [2, 8], "up_num_layers_per_block": [8, 2]},
    "decoder": {"block_out_channels": [128, 256, 512], "conditioning_dim": 512, "num_attention_heads": [-1, -1, 8],
                "down_num_layers_per_block": [2, 4, 4], "up_num_layers_per_block": [4, 4, 2]},
}  # fmt: skip


@contextmanager
def checkpoint_folder(name: str) -> Iterator[str]:
    """The name or folder of a checkpoint to run: `name` itself, or random weights in a temporary folder for "mid"."""
    if name != MID:
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        yield str(write_random_checkpoint(mid_size(), Path(folder)))


def mid_size() -> CheckpointSpec:
    """A spec whose configs describe a cascade of the middle size."""
    pocket = find_checkpoint("pocket")
    parts = {
        name: replace(part, config={**part.config, **_MID_CHANGES.get(name, {})}) for name, part in pocket.parts.items()
    }
    return replace(pocket, name=MID, title="middle-sized", parts=parts)


def write_random_checkpoint(spec: CheckpointSpec, folder: Path) -> Path:
    """Write weights for every part of `spec` into `folder`, unless they are there; returns `folder`.

    The bundled tokenizer stands in for the published one: its ids are a part of the larger vocabulary.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        config = dict(spec.parts[name].config)
        path = folder / name / f"{WEIGHTS[name]}.safetensors"
        if path.is_file():
            continue
        path.parent.mkdir(exist_ok=True)
        network = build_empty(name, config)
        (path.parent / "config.json").write_text(json.dumps({**config, **_class_of(name)}))
        save_file(_random_tensors(network), path, metadata={"format": "pt"})
    shutil.copytree(POCKET_DIR / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    scheduler = spec.companions.get("scheduler")
    known = scheduler is not None and scheduler.path is not None
    config = read_json(scheduler.path / "scheduler_config.json") if known else dict(SCHEDULER_CONFIG)
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(dict(config)))
    index = {"_class_name": "StableCascadeCombinedPipeline", "studio": {"name": f"Random {spec.title}", "license": "none"}}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _class_of(name: str) -> dict[str, Any]:
    return {"architectures": [CLASSES[name]]} if name == "text_encoder" else {"_class_name": CLASSES[name]}


def _random_tensors(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A tensor for each of the network's, at the scale of its fan-in so that nothing overflows; seeded."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(0)
    tensors = {}
    for name, empty in network.state_dict().items():
        if not empty.is_floating_point():
            tensors[name] = torch.arange(empty.numel()).reshape(empty.shape).to(empty.dtype)
            continue
        scale = 0.5 / max(1, empty[0].numel()) ** 0.5 if empty.dim() > 1 else 0.02
        values = torch.randn(empty.shape, generator=generator, device=device) * scale
        tensors[name] = (values.abs() + 0.5 if name.endswith("running_var") else values).to(torch.bfloat16).cpu()
    return tensors
