"""From a checkpoint's folder to its networks: the only place that knows diffusers' and transformers' model classes.

Reads safetensors only, from the given folder only, and gives whole checkpoints or an error that names the file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_stable_cascade import StableCascadeUNet
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils.logging import disable_progress_bar

from cascade_app.catalogue import CheckpointSpec, brief, read_json
from cascade_app.diffusion.preview import Previewer, fit_to_vqgan, most_visible_directions
from cascade_app.diffusion.schedule import CosineSchedule
from cascade_app.errors import CheckpointDamaged, CheckpointNotFound

Preview = Callable[[Tensor], Tensor]  # (B, C, H, W) latents -> (B, 3, h, w), about [0, 1]

# Part -> class, and the name its weights have in a folder of the published layout.
_PARTS: Mapping[str, tuple[Any, str]] = {
    "text_encoder": (CLIPTextModelWithProjection, "model"),
    "prior": (StableCascadeUNet, "diffusion_pytorch_model"),
    "decoder": (StableCascadeUNet, "diffusion_pytorch_model"),
    "vqgan": (PaellaVQModel, "diffusion_pytorch_model"),
}


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: every part in eval mode, on `device`, in `dtype`."""

    spec: CheckpointSpec
    device: torch.device
    dtype: torch.dtype
    tokenizer: Any
    text_encoder: Any
    prior: Any
    decoder: Any
    vqgan: Any
    scheduler_config: Mapping[str, Any]
    preview_prior: Preview
    preview_decoder: Preview

    def schedule(self, shift: float = 1.0) -> CosineSchedule:
        """The noise schedule the networks were trained on, shifted."""
        return CosineSchedule.from_config(self.scheduler_config, shift)


def load_checkpoint(spec: CheckpointSpec, *, device: torch.device, dtype: torch.dtype) -> Checkpoint:
    """Load every part.

    Raises:
        CheckpointNotFound: a part's folder is missing.
        CheckpointDamaged: a file is missing, truncated, or does not hold what its config says.
    """
    disable_progress_bar()  # transformers draws one on standard error for each part
    folder = spec.folder
    scheduler_config = read_json(folder / "scheduler" / "scheduler_config.json")
    CosineSchedule.from_config(scheduler_config)  # refuses a schedule we cannot sample before any weight is read
    parts = {name: _load_part(folder / name, name, dtype).to(device) for name in _PARTS}
    return Checkpoint(
        spec=spec,
        device=device,
        dtype=dtype,
        tokenizer=_load_tokenizer(folder / "tokenizer"),
        scheduler_config=scheduler_config,
        preview_prior=_load_previewer(folder / "previewer.safetensors", device) or most_visible_directions(parts["decoder"]),
        preview_decoder=fit_to_vqgan(parts["vqgan"]),
        **parts,
    )


def _load_part(folder: Path, name: str, dtype: torch.dtype) -> Any:
    part_class, weights_name = _PARTS[name]
    if not folder.is_dir():
        raise CheckpointNotFound(
            f"The checkpoint has no {name}/ folder. Give the folder that holds {', '.join(f'{part}/' for part in _PARTS)}."
        )
    config = read_json(folder / "config.json")
    variant = _check_weights(folder, weights_name)
    expected = config.get("_class_name") or (config.get("architectures") or [part_class.__name__])[0]
    if expected != part_class.__name__:
        raise CheckpointDamaged(f"{brief(folder / 'config.json')} describes a {expected}, not a {part_class.__name__}.")
    # The libraries' own reports of a bad file are long and multi-line; ours below say the same in a sentence.
    with _quiet("diffusers", "transformers"):
        try:
            dtype_name = "dtype" if name == "text_encoder" else "torch_dtype"
            part, report = part_class.from_pretrained(
                folder, variant=variant, use_safetensors=True, local_files_only=True, output_loading_info=True,
                **{dtype_name: dtype},
            )  # fmt: skip
        except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
            raise CheckpointDamaged(f"{name}/ does not fit its own config ({first}). Copy the checkpoint again.") from error
    wrong = [*report["missing_keys"], *report["mismatched_keys"]]
    # Position ids are a buffer that older files hold and newer classes compute.
    wrong = [key for key in wrong if "position_ids" not in str(key)]
    if wrong:
        raise CheckpointDamaged(
            f"{name}/ lacks {len(wrong)} of the tensors its config asks for, {wrong[0]} the first. Copy the checkpoint again."
        )
    return part.eval().requires_grad_(False)


def _check_weights(folder: Path, name: str) -> str | None:
    """The variant ("bf16" or None) whose file is there and whole."""
    for variant in (None, "bf16"):
        stem = name if variant is None else f"{name}.{variant}"
        path = folder / f"{stem}.safetensors"
        if path.is_file():
            _check_safetensors(path)
            return variant
        if (folder / f"{stem}.safetensors.index.json").is_file():
            return variant
    raise CheckpointDamaged(
        f"{folder.name}/{name}.safetensors is missing. Copy the checkpoint again; files that are not safetensors are not read."
    )


def _check_safetensors(path: Path) -> None:
    try:
        with safe_open(path, framework="pt") as file:
            if not list(file.keys()):
                raise CheckpointDamaged(f"{brief(path)} holds no tensors. Copy it again.")
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is truncated or not a safetensors file"
        raise CheckpointDamaged(f"{brief(path)} cannot be read: {reason}. Copy it again.") from error


def _load_tokenizer(folder: Path) -> CLIPTokenizer:
    if not folder.is_dir():
        raise CheckpointNotFound("The checkpoint has no tokenizer/ folder. Copy the checkpoint again.")
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises plain Exception for a bad file
        raise CheckpointDamaged(f"{folder.name}/ holds no readable CLIP tokenizer. Copy the checkpoint again.") from error


def _load_previewer(path: Path, device: torch.device) -> Preview | None:
    if not path.is_file():
        return None
    _check_safetensors(path)
    try:
        previewer = Previewer.from_state_dict(load_file(path)).float().to(device).requires_grad_(False)
    except RuntimeError as error:
        raise CheckpointDamaged(f"{path.name} does not hold a previewer. Copy it again, or remove it.") from error
    return lambda latents: previewer(latents.float())


class _quiet:
    """Silence the named loggers below an error while inside."""

    def __init__(self, *names: str) -> None:
        self._loggers = [logging.getLogger(name) for name in names]

    def __enter__(self) -> None:
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.CRITICAL)

    def __exit__(self, *exc: object) -> None:
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
