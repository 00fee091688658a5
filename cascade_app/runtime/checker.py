"""The image checker: whether a picture shows what it should not, by Stable Diffusion's CLIP-based safety checker.

Finds its weights in a folder or on the hub, and answers for pictures. What follows from an answer is `serving/safe.py`'s. The
only place of a running app that imports diffusers and transformers, and only where a checker is asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from PIL import Image

from cascade_app.errors import CheckpointDamaged, CheckpointNotFound
from cascade_app.runtime.computing import ComputingThread

FILES = ["config.json", "preprocessor_config.json", "model.safetensors"]


class ImageChecker:
    """Asks one network, on the CPU, one caller at a time, in a thread of its own."""

    def __init__(self, network: Any, processor: Any) -> None:
        self._network, self._processor = network, processor
        self._lock = threading.Lock()
        self._computing = ComputingThread("cascade-checking")

    def flagged(self, pictures: Sequence[Image.Image]) -> list[bool]:
        """For each RGB picture, whether it should not be shown."""
        with self._lock:
            return self._computing.call(self._flagged, pictures)

    @torch.no_grad()
    def _flagged(self, pictures: Sequence[Image.Image]) -> list[bool]:
        pixels = self._processor(images=list(pictures), return_tensors="pt").pixel_values
        # The network blacks out what it finds; these stand for the pictures.
        _, found = self._network(clip_input=pixels, images=torch.zeros(len(pictures), 1))
        return [bool(one) for one in found]


def load_checker(name: str, *, fetch: bool) -> ImageChecker:
    """The checker in a folder, or of a repository on the hub; `fetch` says whether to download what is not here.

    Raises:
        CheckpointNotFound: it is neither a folder nor at hand. CheckpointDamaged: it cannot be read.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(name, allow_patterns=FILES, local_files_only=not fetch))
        except Exception as error:  # a name that is none, no such repository, no network, a full disk: each of another kind
            raise CheckpointNotFound("The weights of the image checker are not at hand.") from error
    return ImageChecker(*load_safety_checker(folder))


def load_safety_checker(folder: Path) -> tuple[Any, Any]:
    """A CLIP-based safety checker in diffusers' layout and the processor of its pictures, on the CPU.

    Raises:
        CheckpointDamaged: a file is missing or is not what its name says.
    """
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPImageProcessor

    try:
        processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
        checker, told = StableDiffusionSafetyChecker.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # of many kinds, one for each way in which a file can be wrong
        raise CheckpointDamaged(f"{folder.name}/ holds no safety checker that can be read. Copy it again.") from error
    if lacking := sorted(told["missing_keys"]):
        raise CheckpointDamaged(f"{folder.name}/ lacks {lacking[0]} of the safety checker. Copy it again.")
    return checker.eval().requires_grad_(False), processor
