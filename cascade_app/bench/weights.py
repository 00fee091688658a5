"""Random weights of a checkpoint's exact shapes, in bf16 and the published folder layout: what a benchmark runs on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cascade_app.catalogue import POCKET_DIR, CheckpointSpec
from cascade_app.layouts import PARTS, WEIGHTS
from cascade_app.published import SCHEDULER_CONFIG
from cascade_app.runtime.loader import build_empty


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
        (path.parent / "config.json").write_text(json.dumps({**config, **_class_of(name, network)}))
        save_file(_random_tensors(network), path, metadata={"format": "pt"})
    shutil.copytree(POCKET_DIR / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(dict(SCHEDULER_CONFIG)))
    index = {"_class_name": "StableCascadeCombinedPipeline", "studio": {"name": f"Random {spec.title}", "license": "none"}}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def _class_of(name: str, network: torch.nn.Module) -> dict[str, Any]:
    return {"architectures": [type(network).__name__]} if name == "text_encoder" else {"_class_name": type(network).__name__}


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
