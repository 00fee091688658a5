"""Batches of pictures from a checkpoint through the app's own engine, for the evaluation: no second sampler here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from cascade_app.catalogue import find_checkpoint
from cascade_app.diffusion.conditioning import encode_prompts
from cascade_app.diffusion.effnet import ImageEncoder
from cascade_app.diffusion.guidance import Guidance
from cascade_app.diffusion.stages import StageSettings, decode, run_decoder, run_prior
from cascade_app.runtime.loader import load_checkpoint
from cascade_app.training.export import DECODER_STEPS, GUIDANCE, PRIOR_STEPS


@dataclass(frozen=True)
class Setting:
    """How a batch is made. The defaults are the checkpoint's page settings."""

    prior_steps: int = PRIOR_STEPS
    decoder_steps: int = DECODER_STEPS
    guidance: float = GUIDANCE
    size_px: tuple[int, int] = (256, 256)  # height, width
    sampler: str = "ddpm"


class Darkroom:
    """A loaded checkpoint that makes pictures for lists of prompts."""

    def __init__(self, folder: Path, *, device: torch.device | None = None, dtype: torch.dtype = torch.float32):
        self.folder, self.device = folder, device or torch.device("cpu")
        self.checkpoint = load_checkpoint(find_checkpoint(str(folder)), device=self.device, dtype=dtype)
        self.factor = self.checkpoint.spec.prior_factor

    def _settings(self, shape: tuple[int, ...], guidance: float, steps: int, sampler: str) -> StageSettings:
        return StageSettings(shape, self.checkpoint.schedule(), Guidance(guidance), steps, sampler)

    @torch.no_grad()
    def negatives(
        self, prompts: list[str], seeds: list[int], *, setting: Setting, against: list[str] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Stage C: (latents (B, 16, h, w), the estimate of them after every step)."""
        checkpoint = self.checkpoint
        prompt = encode_prompts(checkpoint.tokenizer, checkpoint.text_encoder, prompts)
        negative = encode_prompts(checkpoint.tokenizer, checkpoint.text_encoder, against or [""] * len(prompts))
        cells = [-int(-side // self.factor) for side in setting.size_px]
        shape = (checkpoint.spec.prior_channels, *cells)
        settings = self._settings(shape, setting.guidance, setting.prior_steps, setting.sampler)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        estimates, latents = [], None
        for state in run_prior(checkpoint.prior, prompt, negative, settings=settings, generators=generators):
            estimates.append(state.x0)
            latents = state.latents
        return latents, estimates

    @torch.no_grad()
    def stage_b(self, latents: Tensor, prompts: list[str], seeds: list[int], *, setting: Setting) -> Tensor:
        """Stage C's latents (B, 16, h, w) to Stage A's (B, 4, H/4, W/4)."""
        checkpoint = self.checkpoint
        prompt = encode_prompts(checkpoint.tokenizer, checkpoint.text_encoder, prompts)
        shape = (checkpoint.spec.decoder_channels, *(side // 4 for side in setting.size_px))
        settings = self._settings(shape, 0.0, setting.decoder_steps, setting.sampler)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        *_, last = run_decoder(
            checkpoint.decoder, prompt, prompt, prior_latents=latents, settings=settings, generators=generators
        )
        return last.latents

    def develop(self, latents: Tensor, prompts: list[str], seeds: list[int], *, setting: Setting) -> Tensor:
        """Stage B and A: (B, 16, h, w) to pictures (B, 3, H, W) in [0, 1]."""
        with torch.no_grad():
            return decode(self.checkpoint.vqgan, self.stage_b(latents, prompts, seeds, setting=setting))

    @cached_property
    def encoder(self) -> ImageEncoder | None:
        """The checkpoint's image encoder, float32; None where it has none of our kind."""
        path = self.folder / "effnet_encoder.safetensors"
        if not path.exists():
            return None
        try:
            return ImageEncoder.from_state_dict(load_file(path)).float().to(self.device)
        except RuntimeError:
            return None

    def pictures(
        self,
        prompts: list[str],
        seeds: list[int],
        *,
        setting: Setting | None = None,
        against: list[str] | None = None,
        batch: int = 8,
    ) -> tuple[Tensor, Tensor]:
        """(pictures (B, 3, H, W), Stage C's estimates (steps, B, 16, h, w)) for any number of prompts."""
        setting = setting or Setting()
        pictures, estimates = [], []
        for start in range(0, len(prompts), batch):
            rows = slice(start, start + batch)
            latents, seen = self.negatives(
                prompts[rows], seeds[rows], setting=setting, against=against[rows] if against else None
            )
            pictures.append(self.develop(latents, prompts[rows], seeds[rows], setting=setting))
            estimates.append(torch.stack(seen))
        return torch.cat(pictures), torch.cat(estimates, dim=1)

    @torch.no_grad()
    def restore(self, pictures: Tensor, *, batch: int = 8) -> tuple[Tensor, Tensor] | None:
        """(Stage A alone, encoder -> B -> A) of pictures (B, 3, H, W); None without an image encoder of our kind."""
        encoder = self.encoder
        if encoder is None:
            return None
        alone, whole = [], []
        size = tuple(pictures.shape[-2:])
        for start in range(0, len(pictures), batch):
            part = pictures[start : start + batch]
            dtype = next(self.checkpoint.vqgan.parameters()).dtype
            scale = self.checkpoint.vqgan.config.scale_factor
            alone.append(
                decode(self.checkpoint.vqgan, self.checkpoint.vqgan.encode(part.to(dtype)).latents.float() / scale)
            )
            seeds = list(range(start, start + len(part)))
            whole.append(self.develop(encoder(part), [""] * len(part), seeds, setting=Setting(size_px=size)))
        return torch.cat(alone), torch.cat(whole)

    @torch.no_grad()
    def clip_score(self, pictures: Tensor, prompts: list[str]) -> float | None:
        """Mean cosine of text and picture embeddings by the checkpoint's own CLIP; None without one."""
        folder = self.folder / "image_encoder"
        if not folder.is_dir():
            return None
        model = CLIPVisionModelWithProjection.from_pretrained(folder).eval()
        from cascade_app.training.clip import normalised

        side = model.config.image_size
        small = torch.nn.functional.interpolate(pictures, size=(side, side), mode="bilinear", antialias=True)
        image = model(normalised(small)).image_embeds
        text = encode_prompts(self.checkpoint.tokenizer, self.checkpoint.text_encoder, prompts).prompt_embeds_pooled[
            :, 0
        ]
        if text.shape[-1] != image.shape[-1]:
            return None
        return float(torch.nn.functional.cosine_similarity(text.float(), image).mean())
