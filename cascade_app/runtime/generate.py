"""generate(manager, request) -> Iterator[Event]: a whole run, in the order it happens. Start reading here.

    plan            request + checkpoint -> shapes, seeds               (plan.py)
    ticket          wait for the one lock, telling how many are ahead    (lease.py)
    conditioning    prompt and negative prompt -> embeddings, cached    (conditioning.py)
    prior           Stage C: noise -> the negative, 16 channels          (stages.py, sampler.py, unet.py)
    decoder         Stage B: noise + the negative -> 4 channels          (the same)
    vqgan           Stage A: 4 channels -> pixels                        (stages.py)

It yields after every step, so closing it stops the computing within one step, and the ticket is given back.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from PIL import Image
from torch import Tensor

from cascade_app.catalogue import find_checkpoint
from cascade_app.diffusion.conditioning import PromptEmbeds
from cascade_app.diffusion.guidance import Guidance
from cascade_app.diffusion.sampler import SampleStep
from cascade_app.diffusion.stages import StageSettings, decode, run_decoder, run_prior
from cascade_app.errors import RenderFailed
from cascade_app.events import Event, Finished, ImageReady, RunStarted, StageStarted, StepDone
from cascade_app.plan import GenerationPlan, draw_seed, make_plan
from cascade_app.request import GenerationRequest
from cascade_app.runtime.loader import Checkpoint, Preview
from cascade_app.runtime.manager import PipelineManager
from cascade_app.runtime.progress import Progress

MODEL_BATCH = 4  # images computed at once; a CPU gains nothing beyond


def generate(manager: PipelineManager, request: GenerationRequest) -> Iterator[Event]:
    """Make the pictures that `request` asks for; see `events.py` for what is yielded.

    Raises:
        InvalidRequest, CheckpointError: before anything is computed.
        RenderFailed: the networks ran out of memory or returned numbers that are none.
    """
    spec = find_checkpoint(request.checkpoint)
    plan = make_plan(draw_seed(request), spec)
    with manager.turnstile.ticket() as ticket:
        yield from manager.turnstile.wait(ticket)
        checkpoint = manager.checkpoint(spec)
        yield RunStarted(plan)
        try:
            yield from _Run(manager, checkpoint, plan).events()
        except torch.OutOfMemoryError as error:
            raise RenderFailed(
                f"The device ran out of memory at {plan.width} x {plan.height} px, {len(plan.seeds)} images; "
                "choose a smaller size or fewer images."
            ) from error


class _Run:
    """One run with the lock held."""

    def __init__(self, manager: PipelineManager, checkpoint: Checkpoint, plan: GenerationPlan) -> None:
        self.manager, self.checkpoint, self.plan = manager, checkpoint, plan
        request = plan.request
        megapixels = plan.width * plan.height / 1e6
        images = len(plan.seeds)
        self.unit = {  # work of one step on one image
            "prior": megapixels * (1 + plan.guides_prior),
            "decoder": megapixels * (1 + plan.guides_decoder),
            "vqgan": megapixels,
        }
        steps = {"prior": request.prior_steps, "decoder": request.decoder_steps, "vqgan": 1}
        work = {stage: self.unit[stage] * steps[stage] * images for stage in steps}
        self.progress = Progress(work, manager.pace(checkpoint))

    def events(self) -> Iterator[Event]:
        yield StageStarted("conditioning", 1, tuple(range(len(self.plan.seeds))))
        prompt = self.manager.prompt_embeds(self.checkpoint, self.plan.request.prompt)
        negative = self.manager.prompt_embeds(self.checkpoint, self.plan.request.negative_prompt)
        self.progress.mark("conditioning")
        for start in range(0, len(self.plan.seeds), MODEL_BATCH):
            indices = tuple(range(len(self.plan.seeds)))[start : start + MODEL_BATCH]
            yield from self._batch(indices, prompt, negative)
        yield Finished(self.progress.totals())

    def _batch(self, indices: tuple[int, ...], prompt: PromptEmbeds, negative: PromptEmbeds) -> Iterator[Event]:
        """All three stages for the images `indices`."""
        checkpoint, request = self.checkpoint, self.plan.request
        prompts, negatives = prompt.repeat(len(indices)), negative.repeat(len(indices))

        yield StageStarted("prior", request.prior_steps, indices)
        steps = run_prior(
            checkpoint.prior, prompts, negatives, settings=self._prior_settings(), generators=self._generators(indices)
        )
        prior_latents = yield from self._steps("prior", steps, request.prior_steps, indices, checkpoint.preview_prior)

        yield StageStarted("decoder", request.decoder_steps, indices)
        steps = run_decoder(
            checkpoint.decoder, prompts, negatives, prior_latents=prior_latents,
            settings=self._decoder_settings(), generators=self._generators(indices),
        )  # fmt: skip
        latents = yield from self._steps("decoder", steps, request.decoder_steps, indices, checkpoint.preview_decoder)

        yield StageStarted("vqgan", 1, indices)
        pictures = to_pictures(decode(checkpoint.vqgan, latents))
        yield self._step_done("vqgan", 0, 1, indices, ())
        for row, index in enumerate(indices):
            negative_latents = prior_latents[row].cpu().contiguous()
            yield ImageReady(
                index, self.plan.seeds[index], pictures[row], self.plan,
                negative_latents.numpy().astype("<f4").tobytes(), tuple(negative_latents.shape),
            )  # fmt: skip

    def _steps(
        self, stage: str, steps: Iterator[SampleStep], count: int, indices: tuple[int, ...], preview: Preview
    ) -> Iterator[Event]:
        """Pass a stage's steps on as events; returns its last latents."""
        latents = None
        for state in steps:
            latents = state.latents
            yield self._step_done(stage, state.step, count, indices, to_pictures(preview(state.x0)))
        if not torch.isfinite(latents).all():
            raise RenderFailed(
                f"{stage.capitalize()} returned numbers that are none, as 16-bit floats do when they overflow. "
                "Set CASCADE_DTYPE to bfloat16 or float32."
            )
        return latents

    def _step_done(
        self, stage: str, step: int, steps: int, indices: tuple[int, ...], previews: tuple[Image.Image, ...]
    ) -> StepDone:
        fraction, elapsed_s, remaining_s = self.progress.step(stage, self.unit[stage] * len(indices))
        return StepDone(stage, step + 1, steps, fraction, elapsed_s, remaining_s, previews, indices)

    def _prior_settings(self) -> StageSettings:
        request = self.plan.request
        return StageSettings(
            shape=self.plan.prior_shape,
            schedule=self.checkpoint.schedule(request.prior_shift),
            guidance=self._guidance(request.prior_guidance),
            steps=request.prior_steps,
            sampler=request.sampler,
        )

    def _decoder_settings(self) -> StageSettings:
        request = self.plan.request
        return StageSettings(
            shape=self.plan.decoder_shape,
            schedule=self.checkpoint.schedule(),
            guidance=self._guidance(request.decoder_guidance),
            steps=request.decoder_steps,
            sampler=request.sampler,
        )

    def _guidance(self, scale: float) -> Guidance:
        request = self.plan.request
        return Guidance(scale, request.guidance_rescale, request.guidance_start, request.guidance_stop)

    def _generators(self, indices: tuple[int, ...]) -> list[torch.Generator]:
        """Fresh ones for each stage: a negative can then be developed without having run Stage C."""
        return [torch.Generator().manual_seed(self.plan.seeds[index]) for index in indices]


def to_pictures(images: Tensor) -> tuple[Image.Image, ...]:
    """(B, 3, H, W) floats, [0, 1] after clamping, to RGB pictures."""
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return tuple(Image.fromarray(picture) for picture in pixels)
