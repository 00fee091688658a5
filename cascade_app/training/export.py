"""Writes the trained parts as a checkpoint folder in the published layout, float16 safetensors.

    python -m cascade_app.training.export --to assets/pocket

Reads the averaged weights of finished parts (`final/`) and, where a part is still running, of its last saved state.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch
from diffusers import StableCascadeUNet
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cascade_app.training import clip, stage_a
from cascade_app.training import tokenizer as tokenizers
from cascade_app.training.unets import DECODER, PRIOR, new_scheduler
from cascade_app.training.workdir import add_work_dir_argument, work_dir
from cascade_app.training.world import DATA_VERSION

PRIOR_STEPS, GUIDANCE, DECODER_STEPS = 20, 2.0, 10  # what the page starts with
MODEL_INDEX = {
    "_class_name": "StableCascadeCombinedPipeline",
    "resolution_multiple": 42.67,
    "latent_dim_scale": 10.67,
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "prior": ["diffusers", "StableCascadeUNet"],
    "decoder": ["diffusers", "StableCascadeUNet"],
    "vqgan": ["diffusers.pipelines.deprecated.wuerstchen", "PaellaVQModel"],
    "scheduler": ["diffusers", "DDPMScheduler"],
    "studio": {
        "name": "Pocket",
        "license": "apache-2.0",
        "default_size_px": 256,
        "min_size_px": 192,
        "max_size_px": 384,
        "size_step_px": 32,
        "draws": "landscapes and icons",
        "defaults": {
            "prior_steps": PRIOR_STEPS, "prior_guidance": GUIDANCE, "decoder_steps": DECODER_STEPS, "decoder_guidance": 0.0,
        },  # fmt: skip
    },
}
# part -> (state file of its loop, module in it, name of its finished weights)
SOURCES = {
    "prior": ("stage_c", "prior", "stage_c"),
    "text_encoder": ("stage_c", "text_encoder", "text_encoder_c"),
    "decoder": ("stage_b", "decoder", "stage_b"),
    "image_encoder": ("clip", "image_encoder", "image_encoder"),
    "encoder": ("encoder", "encoder", "encoder"),
    "previewer": ("encoder", "previewer", "previewer"),
    "vqgan": ("stage_a", "vqgan", "stage_a"),
}
LATER = ("refined", "decoder", "sharpened")  # a part's further phases, as their states are called


BEGUN = "begun.json"  # in a work folder made by `unpack`: what the checkpoint it began with had been trained already


def _sum(before: float | None, here: float | None) -> float | None:
    """Steps or minutes of two runs, one after the other; None where nothing is known of either."""
    return here if before is None else round(before + (here or 0), 1)


def averaged(work: Path, part: str) -> tuple[dict[str, Tensor], dict]:
    """(weights of a part, its provenance): the finished ones, or the running loop's average if it is newer."""
    loop, module, name = SOURCES[part]
    finished = work / "final" / f"{name}.pt"
    about: dict[str, Any] = {"steps": None, "minutes": None}
    running = None
    # A part that goes on alone after its loop has a state of its own name: the previewer.
    phases = dict.fromkeys((loop, *(f"{loop}_{later}" for later in LATER), name))
    for state in (work / "state" / f"{phase}.pt" for phase in phases):
        if state.exists():
            running = torch.load(state, map_location="cpu", weights_only=True)
            about["steps"] = (about["steps"] or 0) + running["step"]
            about["minutes"] = round((about["minutes"] or 0) + running["seconds"] / 60, 1)
            newest = state.stat().st_mtime
    if finished.exists() and not (running and loop in ("stage_b", "stage_c") and newest > finished.stat().st_mtime):
        return torch.load(finished, weights_only=True), about
    if running is None:
        raise SystemExit(f"{part} has not been trained yet: run python -m cascade_app.training.{loop} first")
    return running["ema"][module], about


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """float16, contiguous: what a safetensors file holds.

    Raises:
        ValueError: a value is too large for float16.
    """
    for name, value in state.items():
        if not torch.isfinite(value.half() if value.is_floating_point() else value).all():
            raise ValueError(f"{name} has values that float16 cannot hold")
    return {name: (value.half() if value.is_floating_point() else value).contiguous() for name, value in state.items()}


def unit_variance(encoder: dict[str, Tensor]) -> dict[str, Tensor]:
    """The image encoder's weights with its last BatchNorm's variance moved into the convolution before it.

    The network computes the same; but the variance, some 1e5, would be infinite in float16.
    """
    deviation = (encoder["norm.running_var"] + 1e-5).sqrt()
    changed = {
        "head.weight": encoder["head.weight"] / deviation[:, None, None, None],
        "norm.running_mean": encoder["norm.running_mean"] / deviation,
        "norm.running_var": torch.ones_like(deviation) - 1e-5,
    }
    return {**encoder, **changed}


def _save_model(model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
    model.load_state_dict(state)
    model.half().to(memory_format=torch.contiguous_format).save_pretrained(folder, safe_serialization=True)
    config = folder / "config.json"
    cleaned = {key: value for key, value in json.loads(config.read_text()).items() if key != "_name_or_path"}
    config.write_text(json.dumps(cleaned, indent=2) + "\n")


def _commit() -> str:
    result = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return result.stdout.strip() or "unknown"


def export(work: Path, target: Path, *, seed: int = 0) -> dict:
    """Write the whole folder; it replaces `target` only when complete. Returns the provenance."""
    building = target.with_name(target.name + ".part")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    provenance: dict = {"commit": _commit(), "seed": seed, "data_version": DATA_VERSION, "parts": {}}
    states = {}
    before = json.loads((work / BEGUN).read_text()) if (work / BEGUN).exists() else {}
    for part in SOURCES:
        states[part], about = averaged(work, part)
        earlier = before.get(part, {})
        provenance["parts"][part] = {
            **{key: _sum(earlier.get(key), value) for key, value in about.items()},
            "data_version": earlier.get("data_version") if about["steps"] is None else DATA_VERSION,
        }
    tokenizer = tokenizers.load(work / "tokenizer")
    shutil.copytree(work / "tokenizer", building / "tokenizer")
    _save_model(StableCascadeUNet(**PRIOR), states["prior"], building / "prior")
    _save_model(StableCascadeUNet(**DECODER), states["decoder"], building / "decoder")
    _save_model(stage_a.new_model(stage_a.blocks_in(states["vqgan"])), states["vqgan"], building / "vqgan")
    _save_model(clip.new_text_encoder(tokenizer), states["text_encoder"], building / "text_encoder")
    _save_model(clip.new_image_encoder(), states["image_encoder"], building / "image_encoder")
    clip.image_processor().save_pretrained(building / "feature_extractor")
    new_scheduler().save_pretrained(building / "scheduler")
    save_file(_plain(unit_variance(states["encoder"])), building / "effnet_encoder.safetensors")
    save_file(_plain(states["previewer"]), building / "previewer.safetensors")
    (building / "model_index.json").write_text(json.dumps(MODEL_INDEX, indent=2) + "\n")
    (building / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")
    (building / "README.md").write_text(model_card(provenance))
    for path in building.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    # What other tools keep beside the weights (evaluation sheets, results) stays.
    if target.exists():
        for path in target.iterdir():
            if not (building / path.name).exists():
                (shutil.copytree if path.is_dir() else shutil.copy2)(path, building / path.name)
        shutil.rmtree(target)
    building.rename(target)
    return provenance


def unpack(folder: Path, work: Path) -> None:
    """The inverse of `export`: an exported checkpoint as the finished parts of a work folder that has none.

    Training then goes on from them on a machine that has never seen the training state. float16 becomes float32.
    """
    files = {
        "stage_c": folder / "prior" / "diffusion_pytorch_model.safetensors",
        "stage_b": folder / "decoder" / "diffusion_pytorch_model.safetensors",
        "stage_a": folder / "vqgan" / "diffusion_pytorch_model.safetensors",
        "text_encoder": folder / "text_encoder" / "model.safetensors",
        "text_encoder_c": folder / "text_encoder" / "model.safetensors",
        "image_encoder": folder / "image_encoder" / "model.safetensors",
        "encoder": folder / "effnet_encoder.safetensors",
        "previewer": folder / "previewer.safetensors",
    }
    begins = not (work / "final").exists()  # else the checkpoint may be this folder's own work, which is counted there
    if not (work / "tokenizer").exists():
        shutil.copytree(folder / "tokenizer", work / "tokenizer")
    for name, path in files.items():
        if not (work / "final" / f"{name}.pt").exists():
            state = load_file(path)
            stage_a.save_final(work, name, {k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    if begins:
        told = json.loads((folder / "provenance.json").read_text())
        parts = {part: {"data_version": told["data_version"], **about} for part, about in told["parts"].items()}
        (work / BEGUN).write_text(json.dumps(parts))


def model_card(provenance: dict) -> str:
    parts = provenance["parts"].items()
    rows = "\n".join(f"| {part} | {about['steps']} | {about['minutes']} | {about['data_version']} |" for part, about in parts)
    return f"""---
license: apache-2.0
tags: [text-to-image, stable-cascade]
---

# Pocket: a miniature Stable Cascade

All parts of a real cascade (Stage C, Stage B, Stage A, CLIP text and image encoders, image encoder, previewer) in the
published layout and classes, small enough for a git repository: a 256x256 picture in about a second on a laptop CPU.

**What it draws.** Flat poster landscapes (dawn, noon, sunset, dusk, night; mountains, hills, desert, sea, snowfield, city;
sun, moon, stars, clouds, birds, snow; pine trees, house, cabin, sailboat, lighthouse, windmill, cactus, tent, balloon, in
twelve colours, on the left, in the centre or on the right) and icons (circle, square, triangle, star, diamond; one above,
below or beside another; on a coloured background). Words it does not know are ignored. 192 to 384 px a side.

**How it was made.** From nothing, by `cascade_app/training` in this repository, on pictures drawn by
`cascade_app/training/scenes.py`; no other data and no other weights. Both diffusion stages predict x0
(`prediction_type: sample`) with a squared-cosine schedule.

| part | steps | minutes | version of the pictures, the last |
|---|---|---|---|
{rows}

**Limits.** It knows its own small world only: no people, no photographs, no text. Small things (stars, snow,
windows, birds) stand where they always stand there, and a city has one skyline a time of day: a latent of 16x6x6 holds no more.
CLIP here was trained on the same world and knows nothing else.

**Licence.** Apache-2.0, weights and pictures alike.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_work_dir_argument(parser)
    parser.add_argument("--to", type=Path, default=Path("assets/pocket"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    export(work_dir(arguments.work_dir), arguments.to, seed=arguments.seed)
    total = sum(path.stat().st_size for path in arguments.to.rglob("*") if path.is_file())
    print(f"{arguments.to}: {total / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
