"""PipelineManager: loads each checkpoint once, keeps prompt embeddings, and holds the one lock.

It owns weights and their lifetime and decides device and dtype; what a run does with them is `generate.py`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import torch

from cascade_app.catalogue import CheckpointSpec
from cascade_app.diffusion.conditioning import PromptEmbeds, encode_prompts
from cascade_app.errors import SettingsError
from cascade_app.runtime.lease import Turnstile
from cascade_app.runtime.loader import Checkpoint, load_checkpoint
from cascade_app.runtime.progress import Pace
from cascade_app.settings import Settings

_KEPT_CHECKPOINTS = 2
_KEPT_PROMPTS = 256


class PipelineManager:
    """One a process. All methods may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self.device = choose_device(settings)
        self.dtype = choose_dtype(settings, self.device)
        self.turnstile = Turnstile()
        self.text_encoder_calls = 0
        self._loading = threading.Lock()
        self._checkpoints: OrderedDict[str, Checkpoint] = OrderedDict()
        self._embeds: OrderedDict[tuple[str, str], PromptEmbeds] = OrderedDict()
        self._paces: dict[str, Pace] = {}
        if settings.threads:
            torch.set_num_threads(settings.threads)

    def checkpoint(self, spec: CheckpointSpec) -> Checkpoint:
        """The loaded checkpoint, read from disk the first time. Two callers at once read it once.

        Raises:
            CheckpointError: as `load_checkpoint`; what was loaded before stays usable.
        """
        key = str(spec.folder)
        with self._loading:
            if key not in self._checkpoints:
                self._checkpoints[key] = load_checkpoint(spec, device=self.device, dtype=self.dtype)
                while len(self._checkpoints) > _KEPT_CHECKPOINTS:
                    self._checkpoints.popitem(last=False)
            self._checkpoints.move_to_end(key)
            return self._checkpoints[key]

    @torch.no_grad()
    def prompt_embeds(self, checkpoint: Checkpoint, prompt: str) -> PromptEmbeds:
        """The embeddings of one prompt (one row), encoded once and shared by both stages. Call with the lock held."""
        key = (str(checkpoint.spec.folder), prompt)
        if key not in self._embeds:
            self.text_encoder_calls += 1
            self._embeds[key] = encode_prompts(checkpoint.tokenizer, checkpoint.text_encoder, [prompt])
            while len(self._embeds) > _KEPT_PROMPTS:
                self._embeds.popitem(last=False)
        self._embeds.move_to_end(key)
        return self._embeds[key]

    def pace(self, checkpoint: Checkpoint) -> Pace:
        """What runs of this checkpoint have taught about its speed."""
        return self._paces.setdefault(str(checkpoint.spec.folder), Pace())


def choose_device(settings: Settings) -> torch.device:
    """The device asked for, else CUDA, Apple's MPS, or the CPU, in that order."""
    if settings.device != "auto":
        try:
            device = torch.device(settings.device)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise SettingsError(
                f'CASCADE_DEVICE is "{settings.device}", which is not available here; set it to auto or cpu.'
            ) from error
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_dtype(settings: Settings, device: torch.device) -> torch.dtype:
    """The dtype asked for; else bfloat16 where a GPU has it, else float32 (fp16 overflows in Stage C)."""
    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32
