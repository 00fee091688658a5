"""generate(manager, request) -> Iterator[Event]: a whole run, in the order it happens. Start reading here.

    plan            request + checkpoint -> shapes, seeds               (plan.py)
    fetch           what is not on this machine yet comes from the hub    (fetching.py, download.py)
    ticket          wait for the one lock, telling how many are ahead    (lease.py)
    lease           where the weights go, from what is free now          (memory.py, offload.py)
    conditioning    prompt and negative prompt -> embeddings, cached    (conditioning.py)
    prior           Stage C: noise -> the negative, 16 channels          (stages.py, sampler.py, unet.py)
    decoder         Stage B: noise + the negative -> 4 channels          (the same)
    vqgan           Stage A: 4 channels -> pixels                        (stages.py)

It yields after every step, so closing it stops the computing within one step, and the ticket is given back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator

import torch
from PIL import Image
from torch import Tensor

from cascade_app.catalogue import find_checkpoint
from cascade_app.diffusion.conditioning import PromptEmbeds
from cascade_app.diffusion.guidance import Guidance
from cascade_app.diffusion.sampler import SampleStep
from cascade_app.diffusion.stages import Residency, StageSettings, decode, run_decoder, run_prior
from cascade_app.errors import RenderFailed
from cascade_app.events import STAGE_TITLES, Event, Finished, ImageReady, Notice, RunStarted, StageStarted, StepDone
from cascade_app.negative import Negative
from cascade_app.plan import GenerationPlan, draw_seed, make_plan, own_request
from cascade_app.record import Record, new_id
from cascade_app.request import GenerationRequest
from cascade_app.runtime.fetching import fetch
from cascade_app.runtime.loader import Checkpoint, Preview
from cascade_app.runtime.manager import Lease, PipelineManager
from cascade_app.runtime.progress import Progress
from cascade_app.work import WHOLE, Work

Start = Callable[[tuple[int, ...], Residency], Iterator[SampleStep]]  # indices, residency -> the stage's steps


def generate(manager: PipelineManager, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
    """Make the pictures that `request` asks for; see `events.py` for what is yielded.

    Raises:
        InvalidRequest, CheckpointError: before anything is computed.
        RenderFailed: memory ran out under every placement, or the networks returned numbers that are none.
    """
    spec = find_checkpoint(request.checkpoint)
    plan = make_plan(draw_seed(request), spec)
    yield from fetch(spec, manager.settings)
    spec = find_checkpoint(request.checkpoint)  # knows now where the fetched files are
    with manager.turnstile.ticket() as ticket:
        yield from manager.turnstile.wait(ticket)
        checkpoint = manager.checkpoint(spec)
        lease = manager.lease(checkpoint, plan)
        yield RunStarted(plan, lease.offload.placement.reason)
        yield from _Run(manager, checkpoint, lease, plan).events()


class _Run:
    """One run with the lock held."""

    def __init__(self, manager: PipelineManager, checkpoint: Checkpoint, lease: Lease, plan: GenerationPlan) -> None:
        self.manager, self.checkpoint, self.lease, self.plan = manager, checkpoint, lease, plan
        self.offload = lease.offload
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
        indices = tuple(range(len(self.plan.seeds)))
        yield StageStarted("conditioning", 1, indices)
        prompt, negative = yield from self._conditioning()
        self.progress.mark("conditioning")
        # Where stages take turns on the device, all images go through one before the next comes.
        resident = self.offload.placement.kind in ("resident", "cpu")
        together = self.offload.placement.model_batch if resident else len(indices)
        for start in range(0, len(indices), together):
            yield from self._images(indices[start : start + together], prompt, negative)
        yield Finished(self.progress.totals())

    def _conditioning(self) -> Generator[Event, None, tuple[PromptEmbeds, PromptEmbeds]]:
        request = self.plan.request
        while True:
            try:
                return tuple(
                    self.manager.prompt_embeds(self.checkpoint, self.offload, text)
                    for text in (request.prompt, request.negative_prompt)
                )
            except torch.OutOfMemoryError as error:
                yield self._step_down("The text encoder", error)

    def _images(self, indices: tuple[int, ...], prompt: PromptEmbeds, negative: PromptEmbeds) -> Iterator[Event]:
        """All three stages for the images `indices`."""

        def prior(batch: tuple[int, ...], residency: Residency) -> Iterator[SampleStep]:
            return run_prior(
                self.checkpoint.prior, self._rows(prompt, batch), self._rows(negative, batch),
                settings=self._prior_settings(), generators=self._generators(batch), residency=residency,
            )  # fmt: skip

        latents = yield from self._stage("prior", indices, prior, self.checkpoint.preview_prior)
        negatives = {index: to_negative(one) for index, one in latents.items()}

        def decoder(batch: tuple[int, ...], residency: Residency) -> Iterator[SampleStep]:
            stacked = torch.stack([to_latents(negatives[index]) for index in batch]).to(self.offload.device)
            return run_decoder(
                self.checkpoint.decoder, self._rows(prompt, batch), self._rows(negative, batch), prior_latents=stacked,
                settings=self._decoder_settings(), generators=self._generators(batch), residency=residency,
            )  # fmt: skip

        latents = yield from self._stage("decoder", indices, decoder, self.checkpoint.preview_decoder)
        pictures = yield from self._vqgan(indices, latents)
        for index in indices:
            seed = self.plan.seeds[index]
            record = Record(new_id(), "picture", time.time(), own_request(self.plan, seed), negative=negatives[index])
            yield ImageReady(index, seed, pictures[index], self.plan, record)

    def _stage(
        self, name: str, indices: tuple[int, ...], start: Start, preview: Preview
    ) -> Generator[Event, None, dict[int, Tensor]]:
        """A diffusion stage for `indices`, as many at once as fit; returns each one's latents, (C, h, w).

        When memory runs out the next placement takes over with the images that are not finished: their noise is drawn anew
        from their seeds, so the pictures stay the same.
        """
        steps = {"prior": self.plan.request.prior_steps, "decoder": self.plan.request.decoder_steps}[name]
        done: dict[int, Tensor] = {}
        while left := tuple(index for index in indices if index not in done):
            batch = left[: self.offload.placement.model_batch]
            yield StageStarted(name, steps, batch)
            try:
                with self.offload.turn(name) as residency:
                    latents = yield from self._steps(name, start(batch, residency), steps, batch, preview)
            except torch.OutOfMemoryError as error:
                yield self._step_down(STAGE_TITLES[name], error)
                continue
            done.update(zip(batch, latents, strict=True))
        return done

    def _vqgan(
        self, indices: tuple[int, ...], latents: dict[int, Tensor]
    ) -> Generator[Event, None, dict[int, Image.Image]]:
        """Stage A for `indices`; returns the pictures."""
        done: dict[int, Image.Image] = {}
        while left := tuple(index for index in indices if index not in done):
            placement = self.offload.placement
            batch = left[: placement.model_batch]
            yield StageStarted("vqgan", 1, batch)
            try:
                with self.offload.turn("vqgan"):
                    stacked = torch.stack([latents[index] for index in batch]).to(self.offload.device)
                    pictures = to_pictures(decode(self.checkpoint.vqgan, stacked, rows=placement.vqgan_rows))
            except torch.OutOfMemoryError as error:
                yield self._step_down(STAGE_TITLES["vqgan"], error)
                continue
            done.update(zip(batch, pictures, strict=True))
            yield self._step_done("vqgan", 0, 1, batch, ())
        return done

    def _step_down(self, what: str, error: torch.OutOfMemoryError) -> Notice:
        """Fall back to a placement that takes less, and say so."""
        placement = self.lease.step_down()
        if placement is None:
            raise RenderFailed(
                f"Memory ran out at {self.plan.width} x {self.plan.height} px, {len(self.plan.seeds)} images; "
                "choose a smaller size or fewer images."
            ) from error
        return Notice(f"{what} ran out of memory and goes on with less of it; the picture stays the same. {placement.reason}")

    def _rows(self, embeds: PromptEmbeds, batch: tuple[int, ...]) -> PromptEmbeds:
        return embeds.to(self.offload.device).repeat(len(batch))

    def _steps(
        self, stage: str, steps: Iterator[SampleStep], count: int, indices: tuple[int, ...], preview: Preview
    ) -> Generator[Event, None, Tensor]:
        """Pass a stage's steps on as events; returns its last latents, (B, C, h, w)."""
        latents = torch.empty(0)
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


def to_negative(latents: Tensor) -> Negative:
    """Stage C latents of one image, (C, h, w) of any float dtype, as they are kept.

    Raises:
        InvalidRequest: a value is no number or far outside what a latent holds.
    """
    return Negative.checked(latents.half().cpu().contiguous().numpy().astype("<f2").tobytes(), tuple(latents.shape))


def to_latents(negative: Negative) -> Tensor:
    """The kept latents, (C, h, w) float32."""
    return torch.frombuffer(bytearray(negative.data), dtype=torch.float16).view(negative.shape).float()
