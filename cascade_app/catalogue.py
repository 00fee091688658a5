"""Which checkpoints there are, and what is known about one before any weight is read.

A checkpoint is a folder in diffusers layout. Its `model_index.json` may hold a "studio" object with what the published
index has no place for (title, licence, sizes, defaults); without it the published models' values apply. This module
reads JSON only: it never opens weights and knows nothing of torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cascade_app.errors import CheckpointDamaged, CheckpointNotFound

POCKET_DIR = Path(__file__).resolve().parent.parent / "assets" / "pocket"
KNOWN: Mapping[str, Path] = MappingProxyType({"pocket": POCKET_DIR})

# What the published checkpoints need and their index does not say: sizes in pixels, settings of their model card.
PUBLISHED_STUDIO: Mapping[str, Any] = MappingProxyType(
    {
        "license": "see the checkpoint's own licence",
        "default_size_px": 1024,
        "min_size_px": 256,
        "max_size_px": 2048,
        "size_step_px": 32,
        "defaults": {"prior_steps": 20, "prior_guidance": 4.0, "decoder_steps": 10, "decoder_guidance": 0.0},
    }
)


@dataclass(frozen=True)
class CheckpointSpec:
    """A checkpoint's identity and geometry. Sizes are pixels; `folder` is absolute."""

    name: str
    title: str
    folder: Path
    license: str
    default_size_px: int
    min_size_px: int
    max_size_px: int
    size_step_px: int
    prior_factor: float = 42.67  # pixels a Stage C cell (diffusers: resolution_multiple)
    prior_channels: int = 16
    decoder_channels: int = 4
    defaults: Mapping[str, Any] = field(default_factory=dict)


def find_checkpoint(name: str) -> CheckpointSpec:
    """The checkpoint of that name, or in that folder.

    Raises:
        CheckpointNotFound: neither a known name nor a folder.
        CheckpointDamaged: the folder's index is missing, unreadable or not what it should be.
    """
    try:
        folder = KNOWN.get(name) or Path(name).expanduser()
        is_folder = folder.is_dir()
    except (OSError, ValueError, RuntimeError):  # a name no file system takes, or the home of nobody
        is_folder = False
    if not is_folder:
        if name in KNOWN:
            raise CheckpointNotFound(
                f'The folder of checkpoint "{name}", assets/{folder.name}, is missing. Copy the repository again.'
            )
        shown = " ".join(name[:100].split()) + ("..." if len(name) > 100 else "")
        raise CheckpointNotFound(
            f'Checkpoint "{shown}" is neither a known name ({", ".join(KNOWN)}) nor a folder. '
            "Check the spelling, or give the folder that holds prior/, decoder/ and vqgan/."
        )
    index_path = folder / "model_index.json"
    index = read_json(index_path)
    studio = {**PUBLISHED_STUDIO, **_object(index.get("studio", {}), "studio part", index_path)}
    try:
        spec = CheckpointSpec(
            name=name,
            title=str(studio.get("name", folder.name)),
            folder=folder.resolve(),
            license=str(studio["license"]),
            prior_factor=float(index.get("resolution_multiple", 42.67)),
            defaults=MappingProxyType(dict(_object(studio["defaults"], "defaults part", index_path))),
            **{key: int(studio[key]) for key in ("default_size_px", "min_size_px", "max_size_px", "size_step_px")},
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointDamaged(
            f"{brief(index_path)} holds a size or factor that is not a number ({error}). Restore the file."
        ) from error
    sizes_fit = (
        0 < spec.min_size_px <= spec.default_size_px <= spec.max_size_px
        and spec.size_step_px > 0
        and spec.size_step_px % 8 == 0  # Stage B's latent is px / 4 and its sides must be even
        and spec.default_size_px % spec.size_step_px == 0
    )
    if not (sizes_fit and 1 <= spec.prior_factor <= 1024):
        raise CheckpointDamaged(
            f"{brief(index_path)} holds sizes that do not go together: the step must be a multiple of 8, and the "
            "default a multiple of the step between the minimum and the maximum. Restore the file."
        )
    return spec


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        CheckpointDamaged: missing, unreadable, or not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointDamaged(f"{brief(path)} is missing. Restore it, or copy the checkpoint again.") from None
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not valid JSON"
        raise CheckpointDamaged(f"{brief(path)} cannot be read: {reason}. Copy the checkpoint again.") from error
    return _object(value, "content", path)


def brief(path: Path) -> str:
    """A checkpoint's file as a message may name it: without the folders above the checkpoint's own."""
    return f"{path.parent.name}/{path.name}"


def _object(value: Any, what: str, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CheckpointDamaged(f"The {what} of {brief(path)} is not a JSON object. Restore the file.")
    return value
