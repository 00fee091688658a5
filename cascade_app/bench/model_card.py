"""diffusers' side of a comparison: its two pipelines as Stable Cascade's model card runs them.

Two pipelines, each with a text encoder of its own, prior in bfloat16 and decoder in float16 unless told otherwise. Nothing of
theirs is changed: the stages' seconds are read at their borders. In a module of its own, because importing it costs memory.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    DDPMScheduler,
    DDPMWuerstchenScheduler,
    StableCascadeDecoderPipeline,
    StableCascadePriorPipeline,
    StableCascadeUNet,
)
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from cascade_app.bench.studio import STAGES, Made
from cascade_app.catalogue import CheckpointSpec, find_checkpoint, read_json
from cascade_app.request import GenerationRequest


class ModelCard:
    """diffusers' two pipelines over the same checkpoint folder.

    Args:
        prior_dtype, decoder_dtype: bfloat16 and float16 are the model card's.
    """

    def __init__(
        self, spec: CheckpointSpec, *, prior_dtype: torch.dtype = torch.bfloat16,
        decoder_dtype: torch.dtype = torch.float16, device: str = "cpu",
    ) -> None:  # fmt: skip
        diffusers_logging.set_verbosity_error()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        self.decoder_dtype, self.device = decoder_dtype, device
        folders = {name: part.source.path for name, part in spec.parts.items()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.prior = StableCascadePriorPipeline(
                prior=_read(StableCascadeUNet, folders["prior"], prior_dtype), **_vision(spec, prior_dtype),
                **_common(spec, prior_dtype),
            ).to(device)  # fmt: skip
            self.decoder = StableCascadeDecoderPipeline(
                decoder=_read(StableCascadeUNet, folders["decoder"], decoder_dtype),
                vqgan=_read(PaellaVQModel, folders["vqgan"], decoder_dtype), **_common(spec, decoder_dtype),
            ).to(device)  # fmt: skip
        self._seconds: dict[str, float] = {}
        for pipeline in (self.prior, self.decoder):
            pipeline.set_progress_bar_config(disable=True)
            pipeline.encode_prompt = self._timed("conditioning", pipeline.encode_prompt)
        self.decoder.vqgan.decode = self._timed("vqgan", self.decoder.vqgan.decode)

    @torch.no_grad()
    def make(self, request: GenerationRequest) -> Made:
        """The model card's two calls. Several images are several prompts, the way the decoder takes them."""
        spec = find_checkpoint(request.checkpoint)
        width, height = request.width or spec.default_size_px, request.height or spec.default_size_px
        prompts, negatives = [request.prompt] * request.images, [request.negative_prompt] * request.images
        self._seconds = dict.fromkeys(STAGES, 0.0)
        begin = self._now()
        prior = self.prior(
            prompt=prompts, negative_prompt=negatives, height=height, width=width, guidance_scale=request.prior_guidance,
            num_inference_steps=request.prior_steps, num_images_per_prompt=1, generator=_generators(request),
        )  # fmt: skip
        middle = self._now()
        encoding = self._seconds["conditioning"]
        pictures = self.decoder(
            image_embeddings=prior.image_embeddings.to(self.decoder_dtype), prompt=prompts, negative_prompt=negatives,
            guidance_scale=request.decoder_guidance, output_type="pil", num_inference_steps=request.decoder_steps,
            generator=_generators(request),
        ).images  # fmt: skip
        end = self._now()
        seconds = {**self._seconds, "prior": middle - begin - encoding, "total": end - begin}
        seconds["decoder"] = end - middle - (seconds["conditioning"] - encoding) - seconds["vqgan"]
        return Made(pictures, seconds)

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            begin = self._now()
            result = function(*arguments, **named)
            self._seconds[stage] += self._now() - begin
            return result

        return timed

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def _generators(request: GenerationRequest) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(request.seed + index) for index in range(request.images)]


def _common(spec: CheckpointSpec, dtype: torch.dtype) -> dict[str, Any]:
    return {
        "tokenizer": CLIPTokenizer.from_pretrained(spec.companions["tokenizer"].path),
        "text_encoder": CLIPTextModelWithProjection.from_pretrained(spec.parts["text_encoder"].source.path, dtype=dtype).eval(),
        "scheduler": scheduler_of(spec),
    }


def _vision(spec: CheckpointSpec, dtype: torch.dtype) -> dict[str, Any]:
    """The CLIP image encoder that the prior pipeline reads with its other parts, where the checkpoint has one."""
    folder, extractor = spec.folder / "image_encoder", spec.folder / "feature_extractor"
    if not (folder.is_dir() and extractor.is_dir()):
        return {}
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection  # says much where torchvision is absent

    return {
        "image_encoder": CLIPVisionModelWithProjection.from_pretrained(folder, dtype=dtype).eval(),
        "feature_extractor": CLIPImageProcessor.from_pretrained(extractor),
    }


def _read(part_class: Any, folder: Any, dtype: torch.dtype) -> Any:
    return part_class.from_pretrained(folder, torch_dtype=dtype, use_safetensors=True).eval()


def scheduler_of(spec: CheckpointSpec) -> Any:
    """diffusers' scheduler for the config that lies beside the networks."""
    config = read_json(spec.companions["scheduler"].path / "scheduler_config.json")
    classes = {"DDPMScheduler": DDPMScheduler, "DDPMWuerstchenScheduler": DDPMWuerstchenScheduler}
    return classes[config["_class_name"]].from_config(dict(config))
