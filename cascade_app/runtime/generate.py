"""generate(manager, request) -> Iterator[Event]: a whole run, in the order it happens. Start reading here.

    plan            request + work + checkpoint -> shapes, origins      (plan.py)
    fetch           what is not on this machine yet comes from the hub    (fetching.py, download.py)
    ticket          wait for the one lock, telling how many are ahead    (lease.py)
    thread          from here on, all is done in the one that computes   (computing.py)
    lease           where the weights go, from what is free now          (memory.py, offload.py)
    conditioning    prompt and negative prompt -> embeddings, cached    (conditioning.py)
    prior           Stage C: noise -> the negative, 16 channels          (origins.py, stages.py, sampler.py, unet.py)
    decoder         Stage B: noise + the negative -> 4 channels          (the same)
    vqgan           Stage A: 4 channels -> pixels                        (stages.py)

A sketch ends with the prior; where negatives are developed, it is left out.

It yields after every step, so closing it stops the computing within one step, and the ticket is given back.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from PIL import Image
from torch import Tensor

from cascade_app.catalogue import CheckpointSpec, find_checkpoint
from cascade_app.diffusion.conditioning import PromptEmbeds
from cascade_app.diffusion.guidance import Guidance
from cascade_app.diffusion.sampler import SampleStep
from cascade_app.diffusion.stages import Residency, StageSettings, decode, run_decoder, run_prior
from cascade_app.errors import RenderFailed
from cascade_app.events import STAGE_TITLES, Event, Finished, ImageReady, Notice, RunStarted, StageStarted, StepDone
from cascade_app.negative import Negative
from cascade_app.plan import GenerationPlan, draw_seed, make_plan
from cascade_app.record import record_of
from cascade_app.request import GenerationRequest
from cascade_app.runtime.cuda import close_behind
from cascade_app.runtime.fetching import fetch
from cascade_app.runtime.loader import Checkpoint, Preview
from cascade_app.runtime.manager import Lease, PipelineManager
from cascade_app.runtime.origins import decoder_noise, prior_noise, texts_of, to_latents, to_negative, words_of
from cascade_app.runtime.previews import PreviewBudget, to_pictures, what_of
from cascade_app.runtime.progress import Progress
from cascade_app.wordbook import Wordbook
from cascade_app.work import WHOLE, Work

Begin = Callable[[tuple[int, ...], Residency], Iterator[SampleStep]]  # indices, residency -> the stage's steps

OTHER_WEIGHTS = "What this is made from was made with other weights than {} has now: it can be used, and will look different."


def generate(manager: PipelineManager, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
    """Make the pictures that `request` asks for, or what `work` says of them; see `events.py` for what is yielded.

    Raises:
        InvalidRequest, CheckpointError: before anything is computed.
        RenderFailed: memory ran out under every placement, or the networks returned numbers that are none.
    """
    spec = find_checkpoint(request.checkpoint)
    plan = make_plan(draw_seed(request), spec, work, book=Wordbook.of(manager.settings.data_dir))
    yield from fetch(spec, manager.settings)
    spec = find_checkpoint(request.checkpoint)  # knows now where the fetched files are
    with manager.turnstile.ticket() as ticket:
        yield from manager.turnstile.wait(ticket)
        yield from manager.computing.steps(_with_lock(manager, spec, plan))


def _with_lock(manager: PipelineManager, spec: CheckpointSpec, plan: GenerationPlan) -> Iterator[Event]:
    with _memory_explained(manager, plan):
        checkpoint = manager.checkpoint(spec)
        lease = manager.lease(checkpoint, plan)
        yield RunStarted(plan, lease.offload.placement.reason)
        if {origin.made_by for origin in plan.origins} - {"", checkpoint.digest}:
            yield Notice(OTHER_WEIGHTS.format(spec.title))
        yield from _Run(manager, checkpoint, lease, plan).events()


@contextmanager
def _memory_explained(manager: PipelineManager, plan: GenerationPlan) -> Iterator[None]:
    """What is left of memory running out, the host's above all, in a sentence; what was kept for later runs is let go."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # of the latter torch's: the CPU's allocator has no class of its own
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in str(error):
            raise
        manager.prepared.shrink(0)
        raise _out_of_memory(plan) from error


def _out_of_memory(plan: GenerationPlan) -> RenderFailed:
    return RenderFailed(
        f"Memory ran out at {plan.width} x {plan.height} px, {len(plan.seeds)} images; choose a smaller size or fewer images."
    )


class _Run:
    """One run with the lock held."""

    def __init__(self, manager: PipelineManager, checkpoint: Checkpoint, lease: Lease, plan: GenerationPlan) -> None:
        self.manager, self.checkpoint, self.lease, self.plan = manager, checkpoint, lease, plan
        self.offload = lease.offload
        self.previewing = PreviewBudget(manager.preview_share(sketch=plan.sketch), manager.preview_costs, self.offload.device)
        self.embeds: dict[str, PromptEmbeds] = {}
        megapixels = plan.width * plan.height / 1e6
        images = len(plan.seeds)
        self.unit = {  # work of one step on one image
            "prior": megapixels * (1 + plan.guides_prior),
            "decoder": megapixels * (1 + plan.guides_decoder),
            "vqgan": megapixels,
        }
        steps = {"prior": sum(plan.prior_steps), "decoder": plan.decoder_steps * images, "vqgan": 0 if plan.sketch else images}
        self.progress = Progress({stage: self.unit[stage] * steps[stage] for stage in steps}, manager.pace(checkpoint))

    @property
    def at_once(self) -> int:
        """Images in one batch of a network."""
        # On the CPU a batch is summed in another order than a single image, in float32 always and in bfloat16 from some hundreds
        # of cells on: one by one, a picture has the same pixels whatever it was made with.
        return 1 if self._on_cpu else self.offload.placement.model_batch

    @property
    def _on_cpu(self) -> bool:
        return self.offload.device.type == "cpu"

    def events(self) -> Iterator[Event]:
        indices = tuple(range(len(self.plan.seeds)))
        yield StageStarted("conditioning", 1, indices)
        if unread := self.manager.unread(self.plan):
            yield Notice(unread)
        yield from self._conditioning()
        self.progress.mark("conditioning")
        # Where stages take turns on the device, all images go through one before the next comes; so do negatives alone.
        resident = self.offload.placement.kind in ("resident", "cpu")
        together = self.offload.placement.model_batch if resident and not self.plan.sketch else len(indices)
        for start in range(0, len(indices), together):
            yield from self._images(indices[start : start + together])
        yield Finished(self.progress.totals())

    def _conditioning(self) -> Iterator[Event]:
        """Fill `embeds` with what the stages of this run read."""
        for text in self._texts():
            while text not in self.embeds:
                try:
                    self.embeds[text] = self.manager.prompt_embeds(self.checkpoint, self.offload, text)
                except torch.OutOfMemoryError as error:
                    yield self._step_down("The text encoder", error)

    def _texts(self) -> Iterator[str]:
        plan = self.plan
        for origin, words in zip(plan.origins, plan.words, strict=True):
            yield from texts_of(origin, words.prompt)
            if plan.guides_prior or plan.guides_decoder:
                yield words.negative_prompt

    def _words(self, batch: tuple[int, ...]) -> tuple[PromptEmbeds, PromptEmbeds]:
        """What the images `batch` are to show and what not, a row an image."""
        plan, device = self.plan, self.offload.device
        wanted = [words_of(plan.origins[index], plan.words[index].prompt, self.embeds) for index in batch]
        # Read with guidance only.
        unwanted = [self.embeds.get(plan.words[index].negative_prompt, wanted[0]) for index in batch]
        return PromptEmbeds.cat(wanted).to(device), PromptEmbeds.cat(unwanted).to(device)

    def _images(self, indices: tuple[int, ...]) -> Iterator[Event]:
        """All of this run's stages for the images `indices`."""
        negatives = yield from self._negatives(indices)
        if self.plan.sketch:
            pictures = {index: to_pictures(self._seen(negatives[index]))[0] for index in indices}
        else:
            latents = yield from self._stage("decoder", indices, self._decoder(negatives), self.checkpoint.preview_decoder)
            pictures = yield from self._vqgan(indices, latents)
        for index in indices:
            record = record_of(self.plan, index, negative=negatives[index], checkpoint_digest=self.checkpoint.digest)
            yield ImageReady(index, self.plan.seeds[index], pictures[index], self.plan, record)

    def _negatives(self, indices: tuple[int, ...]) -> Generator[Event, None, dict[int, Negative]]:
        """Those that were brought, or kept from a source, and the others from Stage C."""
        origins = self.plan.origins
        negatives = {}
        for index in indices:
            if not self.plan.prior_steps[index]:
                negatives[index] = origins[index].negative or origins[index].start.source
        latents = yield from self._stage(
            "prior", tuple(index for index in indices if index not in negatives), self._prior, self.checkpoint.preview_prior
        )
        return {**negatives, **{index: to_negative(one) for index, one in latents.items()}}

    def _prior(self, batch: tuple[int, ...], residency: Residency) -> Iterator[SampleStep]:
        origins = [self.plan.origins[index] for index in batch]
        settings = replace(
            self._prior_settings(), first=self.plan.request.prior_steps - self.plan.prior_steps[batch[0]], at_once=self.at_once
        )
        source = None
        if self._begins_like(batch[0])[1]:
            source = torch.stack([to_latents(origin.start.source) for origin in origins]).to(self.offload.device)
        prompt, negative = self._words(batch)
        noises = [prior_noise(origin) for origin in origins]
        return run_prior(
            self.checkpoint.prior, prompt, negative, settings=settings, generators=noises, source=source,
            residency=residency, prepare=self.manager.prepare,
        )  # fmt: skip

    def _decoder(self, negatives: Mapping[int, Negative]) -> Begin:
        def begin(batch: tuple[int, ...], residency: Residency) -> Iterator[SampleStep]:
            prompt, negative = self._words(batch)
            return run_decoder(
                self.checkpoint.decoder, prompt, negative,
                prior_latents=torch.stack([to_latents(negatives[index]) for index in batch]).to(self.offload.device),
                settings=replace(self._decoder_settings(), at_once=self.at_once),
                generators=[decoder_noise(self.plan.origins[index]) for index in batch], residency=residency,
                prepare=self.manager.prepare,
            )  # fmt: skip

        return begin

    def _begins_like(self, index: int) -> tuple[int, bool]:
        """Images of which this is the same can go through Stage C together."""
        start = self.plan.origins[index].start
        return self.plan.prior_steps[index], start is not None and start.source is not None and start.strength < 1

    def _batch(self, stage: str, left: tuple[int, ...]) -> tuple[int, ...]:
        """The next images to go through a stage together."""
        if stage == "decoder":
            return left[: self.offload.placement.model_batch]
        alike = tuple(index for index in left if self._begins_like(index) == self._begins_like(left[0]))
        # A contact sheet forms all at once: negatives are small, and the network still takes `at_once` of them.
        return alike if self.plan.sketch else alike[: self.offload.placement.model_batch]

    def _seen(self, negative: Negative) -> Tensor:
        """A negative through the previewer, (1, 3, h, w)."""
        with torch.no_grad():
            return self.checkpoint.preview_prior(to_latents(negative)[None].to(self.offload.device))

    def _stage(
        self, name: str, indices: tuple[int, ...], begin: Begin, preview: Preview
    ) -> Generator[Event, None, dict[int, Tensor]]:
        """A diffusion stage for `indices`, as many at once as fit; returns each one's latents, (C, h, w).

        When memory runs out the next placement takes over with the images that are not finished: their noise is drawn anew
        from their seeds, so the pictures stay the same.
        """
        done: dict[int, Tensor] = {}
        while left := tuple(index for index in indices if index not in done):
            batch = self._batch(name, left)
            steps = self.plan.prior_steps[batch[0]] if name == "prior" else self.plan.decoder_steps
            yield StageStarted(name, steps, batch)
            try:
                with self.offload.turn(name) as residency:
                    latents = yield from self._steps(name, begin(batch, residency), steps, batch, preview)
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
                    parts = stacked.split(1 if self._on_cpu else len(batch))  # see `at_once`
                    decoded = torch.cat([decode(self.checkpoint.vqgan, part, rows=placement.vqgan_rows) for part in parts])
            except torch.OutOfMemoryError as error:
                yield self._step_down(STAGE_TITLES["vqgan"], error)
                continue
            done.update(zip(batch, to_pictures(decoded), strict=True))
            yield self._step_done("vqgan", 0, 1, batch, ())
        return done

    def _step_down(self, what: str, error: torch.OutOfMemoryError) -> Notice:
        """Fall back to a placement that takes less, and say so."""
        placement = self.lease.step_down()
        if placement is None:
            raise _out_of_memory(self.plan) from error
        return Notice(f"{what} ran out of memory and goes on with less of it; the picture stays the same. {placement.reason}")

    def _steps(
        self, stage: str, steps: Iterator[SampleStep], count: int, indices: tuple[int, ...], preview: Preview
    ) -> Generator[Event, None, Tensor]:
        """Pass a stage's steps on as events; returns its last latents, (B, C, h, w)."""
        latents = torch.empty(0)
        for step, state in enumerate(self.previewing.follow(close_behind(steps, self.offload.device))):
            latents = state.latents
            previews = self._previews(stage, state.x0, preview)
            yield self._step_done(stage, step, count, indices, previews)
        if not torch.isfinite(latents).all():
            raise RenderFailed(
                f"{stage.capitalize()} returned numbers that are none, as 16-bit floats do when they overflow. "
                "Set CASCADE_DTYPE to bfloat16 or float32."
            )
        return latents

    def _previews(self, stage: str, x0: Tensor, preview: Preview) -> tuple[Image.Image, ...]:
        """What the estimate `x0` looks like, or nothing where that would take too much of the run's time."""
        what = what_of(stage, x0)
        if not self.previewing.affords(what, fraction=self.progress.fraction):
            return ()
        with torch.no_grad():
            return self.previewing.make(what, lambda: to_pictures(preview(x0)))

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
