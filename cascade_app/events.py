"""What happens during a run, in the order it happens: the one pipe from the engine to the browser.

A run yields `RunStarted`, then for each stage `StageStarted` and one `StepDone` a step, then one `ImageReady` an
image, then `Finished`; `gallery.record` turns each `ImageReady` into an `ImageSaved`. All are frozen and hold plain data
and Pillow pictures only, so that they may cross a process boundary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from cascade_app.plan import GenerationPlan
from cascade_app.record import Record

STAGE_TITLES: Mapping[str, str] = {
    "conditioning": "Reading the prompt",
    "prior": "Stage C, the prior",
    "decoder": "Stage B, the decoder",
    "vqgan": "Stage A, the vqgan",
}


@dataclass(frozen=True)
class Waiting:
    """The engine is not free yet. `reason` is a sentence for the user; `ahead` counts the runs before this one.

    `place` among the `of` that wait, from 1, and about how long, where that is known.
    """

    reason: str
    ahead: int = 0
    place: int = 0
    of: int = 0
    remaining_s: float | None = None


@dataclass(frozen=True)
class RunStarted:
    """The request was accepted; `plan` says what will be made, `placement` in a sentence where."""

    plan: GenerationPlan
    placement: str = ""


@dataclass(frozen=True)
class Notice:
    """Something the user should know and need not act on, in a sentence; the run goes on."""

    message: str


@dataclass(frozen=True)
class StageStarted:
    """`stage` is a key of STAGE_TITLES; `steps` counts its denoising steps (1 where it has none).

    Many images are made a few at a time: `indices` says which of them this stage works on.
    """

    stage: str
    steps: int
    indices: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class StepDone:
    """A denoising step is done.

    `previews` holds one small RGB picture for each of `indices`, made from the step's estimate of the clean latents
    (x0), or nothing where the stage has none to show. `fraction` of the whole run is done; times are seconds.
    """

    stage: str
    step: int  # 1 .. steps
    steps: int
    fraction: float
    elapsed_s: float
    remaining_s: float
    previews: tuple[Image.Image, ...] = ()
    indices: tuple[int, ...] = (0,)  # which images the previews show


@dataclass(frozen=True)
class ImageReady:
    """A finished picture, or in a sketch the previewer's picture of a finished negative. `record` goes with it for ever."""

    index: int
    seed: int
    image: Image.Image
    plan: GenerationPlan
    record: Record


@dataclass(frozen=True)
class ImageSaved:
    """The picture of an `ImageReady` is safely on disk at `path`."""

    index: int
    seed: int
    path: Path
    plan: GenerationPlan
    record: Record


@dataclass(frozen=True)
class Finished:
    """The run is over. `seconds` holds conditioning, prior, decoder, vqgan and total."""

    seconds: Mapping[str, float] = field(default_factory=dict)


Event = Waiting | RunStarted | Notice | StageStarted | StepDone | ImageReady | ImageSaved | Finished
