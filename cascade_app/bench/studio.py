"""Our side of a comparison: this program's engine from a prompt to pictures, as the page and the command line run it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy
import torch
from PIL import Image

from cascade_app.catalogue import CheckpointSpec, find_checkpoint
from cascade_app.events import Finished, ImageReady, StageStarted, StepDone
from cascade_app.record import Record
from cascade_app.request import GenerationRequest
from cascade_app.runtime.generate import generate
from cascade_app.runtime.loader import Checkpoint
from cascade_app.runtime.manager import PipelineManager
from cascade_app.settings import Settings
from cascade_app.work import WHOLE, Work

STAGES = ("conditioning", "prior", "decoder", "vqgan")
# What a benchmark asks for, another one each round: no side can then use what it kept of the last.
SCENES = ("a red sun over blue mountains", "a white lighthouse on a rock", "a green cactus at night", "a boat on a calm sea")


@dataclass
class Made:
    """One run's pictures and the seconds of each stage; ours also the records that would be kept, and what was seen on the way.

    previews: how many pictures were shown before the last. batches: images in each batch of Stage C.
    """

    pictures: list[Image.Image] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    previews: int = 0
    batches: list[int] = field(default_factory=list)


def ask(arguments: Any, number: int, **changes: Any) -> GenerationRequest:
    """What is asked for in round `number`, given the options of `measure.parser`."""
    width, height = arguments.size or (None, None)
    prior_steps, decoder_steps = arguments.steps
    prompt = f"{SCENES[number % len(SCENES)]}, number {number % 1000}"
    values = {"prompt": prompt, "seed": 7 + number % 1000, "checkpoint": arguments.checkpoint, "width": width, "height": height,
              "prior_steps": prior_steps, "decoder_steps": decoder_steps}  # fmt: skip
    return GenerationRequest.from_values({**values, **changes})


class _Blind(PipelineManager):
    """Its checkpoints make no previews."""

    def checkpoint(self, spec: CheckpointSpec) -> Checkpoint:
        def nothing(latents: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(latents), 3, 1, 1)

        return replace(super().checkpoint(spec), preview_prior=nothing, preview_decoder=nothing)


class Studio:
    """This program's engine as the page and the command line run it.

    Args:
        dtype: as CASCADE_DTYPE; "auto" is the default.
        device: as CASCADE_DEVICE.
        previews: False takes the networks that make them away.
    """

    def __init__(
        self, checkpoint: str, *, dtype: str = "auto", device: str = "cpu", threads: int = 0, previews: bool = True
    ) -> None:
        settings = Settings(device=device, dtype=dtype, threads=threads)
        self.manager = PipelineManager(settings) if previews else _Blind(settings)
        self.checkpoint = self.manager.checkpoint(find_checkpoint(checkpoint))

    def make(self, request: GenerationRequest, work: Work = WHOLE) -> Made:
        """Run `request` to its end."""
        made = Made()
        for event in generate(self.manager, request, work):
            if isinstance(event, ImageReady):
                made.pictures.append(event.image)
                made.records.append(event.record)
            elif isinstance(event, StepDone):
                made.previews += sum(preview.width > 1 for preview in event.previews)
            elif isinstance(event, StageStarted) and event.stage == "prior":
                made.batches.append(len(event.indices))
            elif isinstance(event, Finished):
                made.seconds = dict(event.seconds)
        return made

    @property
    def dtype(self) -> str:
        return str(self.manager.dtype).removeprefix("torch.")


def difference(picture: Image.Image, other: Image.Image) -> tuple[int, float]:
    """The largest and the mean difference of two pictures' channels, of 255."""
    distance = numpy.abs(numpy.asarray(picture, dtype=int) - numpy.asarray(other, dtype=int))
    return int(distance.max()), float(distance.mean())
