"""Our stages against diffusers' own pipelines: same weights, same noise, the same latents and pixels.

float32, shift 1, no rescale. Tolerances: latents to a relative 1e-4, pixels to 1 of 255.
"""

from __future__ import annotations

import functools
import math
import warnings

import numpy
import pytest
import torch
from diffusers import (
    DDPMScheduler,
    DDPMWuerstchenScheduler,
    StableCascadeDecoderPipeline,
    StableCascadePriorPipeline,
    StableCascadeUNet,
)
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
from diffusers.schedulers.scheduling_ddpm import betas_for_alpha_bar
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from cascade_app.catalogue import find_checkpoint
from cascade_app.diffusion.conditioning import encode_prompts
from cascade_app.diffusion.guidance import Guidance
from cascade_app.diffusion.stages import StageSettings, decode, run_decoder, run_prior
from cascade_app.runtime.loader import load_checkpoint
from cascade_app.runtime.previews import to_pictures
from tests.small import published_scheduler, write_checkpoint, x0_scheduler

PROMPTS = ["a red sun over the sea", "a white boat", "the black sea"]
SEEDS = [11, 12, 13]
STEPS = 5
# (latent size of Stage C, of Stage B): 256 x 256 and 384 x 256 px, the sizes where the pipelines' arithmetic works.
SIZES = {"square": ((6, 6), (64, 64)), "wide": ((6, 9), (64, 96))}


@functools.cache
def checkpoint(kind: str, folder):
    if kind == "pocket":
        spec = find_checkpoint("pocket")
    else:
        schedulers = {"published": published_scheduler, "x0": x0_scheduler}
        spec = find_checkpoint(str(write_checkpoint(folder / kind, scheduler=schedulers[kind]())))
    return load_checkpoint(spec, device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("reference")


def scheduler_of(loaded):
    if loaded.scheduler_config["_class_name"] == "DDPMWuerstchenScheduler":
        return DDPMWuerstchenScheduler.from_config(loaded.scheduler_config)
    scheduler = DDPMScheduler.from_config(loaded.scheduler_config)
    # Its table is a float32 product of 1,000 factors; a random network is sensitive enough to see the rounding.
    scheduler.alphas_cumprod = torch.cumprod(1 - betas_for_alpha_bar(1000).double(), 0).float()
    return scheduler


def pipelines(loaded):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = {"tokenizer": read(CLIPTokenizer, loaded, "tokenizer"), "scheduler": scheduler_of(loaded)}
        text["text_encoder"] = read(CLIPTextModelWithProjection, loaded, "text_encoder", dtype=torch.float32)
        unets = {name: read(StableCascadeUNet, loaded, name, torch_dtype=torch.float32) for name in ("prior", "decoder")}
        vqgan = read(PaellaVQModel, loaded, "vqgan", torch_dtype=torch.float32)
        prior = StableCascadePriorPipeline(**text, prior=unets["prior"])
        decoder = StableCascadeDecoderPipeline(**text, decoder=unets["decoder"], vqgan=vqgan)
    for pipeline in (prior, decoder):
        pipeline.set_progress_bar_config(disable=True)
        # For the same reason they are given the ratio in float64, not read back from the rounded product.
        pipeline.get_timestep_ratio_conditioning = exact_ratio
    return prior, decoder


def read(library_class, loaded, name, **options):
    """A part as the library's own class reads it, from the folder that ours was read from."""
    return library_class.from_pretrained(loaded.spec.folder / name, **options)


def exact_ratio(step, _alphas):
    alpha = torch.cumprod(1 - betas_for_alpha_bar(1000).double(), 0)[step]
    angle = (alpha.sqrt() * math.cos(0.008 / 1.008 * math.pi / 2)).acos()
    return (angle / (math.pi / 2) * 1.008 - 0.008).float().reshape(1)


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in SEEDS[:count]]


def theirs(loaded, prompts, negative, *, size, guidance, decoder_guidance):
    prior, decoder = pipelines(loaded)
    (height, width) = (4 * side for side in SIZES[size][1])
    negatives = [negative] * len(prompts) if negative else None
    embeddings = prior(
        prompts, height=height, width=width, guidance_scale=guidance, num_inference_steps=STEPS,
        negative_prompt=negatives if guidance > 1 else None, generator=generators(len(prompts)), output_type="pt",
    ).image_embeddings  # fmt: skip
    pictures = decoder(
        embeddings, prompts, guidance_scale=decoder_guidance, num_inference_steps=STEPS,
        negative_prompt=negatives if decoder_guidance > 1 else None, generator=generators(len(prompts)), output_type="pil",
    ).images  # fmt: skip
    return embeddings, pictures


@torch.no_grad()
def ours(loaded, prompts, negative, *, size, guidance, decoder_guidance):
    prompt = encode_prompts(loaded.tokenizer, loaded.text_encoder, prompts)
    against = encode_prompts(loaded.tokenizer, loaded.text_encoder, [negative]).repeat(len(prompts))
    cells, latent = SIZES[size]
    settings = StageSettings(
        shape=(16, *cells), schedule=loaded.schedule(), guidance=Guidance(guidance), steps=STEPS, sampler="ddpm"
    )
    *_, last = run_prior(loaded.prior, prompt, against, settings=settings, generators=generators(len(prompts)))
    settings = StageSettings(
        shape=(4, *latent), schedule=loaded.schedule(), guidance=Guidance(decoder_guidance), steps=STEPS, sampler="ddpm"
    )
    *_, final = run_decoder(
        loaded.decoder, prompt, against, prior_latents=last.latents, settings=settings,
        generators=generators(len(prompts)),
    )  # fmt: skip
    return last.latents, to_pictures(decode(loaded.vqgan, final.latents))


@pytest.mark.parametrize("kind", ["published", "x0", "pocket"])
@pytest.mark.parametrize(
    ("count", "negative", "size", "guidance", "decoder_guidance"),
    [
        (1, "", "square", 4.0, 0.0),
        (1, "", "square", 0.0, 0.0),
        (1, "the blue boat", "wide", 4.0, 1.1),
        (3, "the blue boat", "square", 5.0, 2.0),
        (3, "", "wide", 0.0, 0.0),
    ],
)
def test_equals_diffusers(kind, folder, count, negative, size, guidance, decoder_guidance):
    loaded = checkpoint(kind, folder)
    options = {"size": size, "guidance": guidance, "decoder_guidance": decoder_guidance}
    expected_latents, expected_pictures = theirs(loaded, PROMPTS[:count], negative, **options)
    latents, pictures = ours(loaded, PROMPTS[:count], negative, **options)
    # Against the same walk in double both sides are off by 3e-6 to 8e-6 of a latent as a whole, single values by up to 7e-5
    # where guidance 5 makes that of it: both alike, and other processors round otherwise.
    near = 3e-4 if (kind, guidance) == ("pocket", 5.0) else 1e-4
    torch.testing.assert_close(latents, expected_latents, rtol=near, atol=near * expected_latents.std().item())
    for picture, expected in zip(pictures, expected_pictures, strict=True):
        difference = numpy.abs(numpy.asarray(picture, dtype=int) - numpy.asarray(expected, dtype=int))
        assert numpy.asarray(expected).std() > 1, "a blank picture would make this test blind"
        assert difference.max() <= 1
