"""From events to what the page shows: `render(record(backend.generate(request), store))`. Pure but for the time.

Each event changes the easel a little; each change is yielded as a `View`. Knows nothing of Gradio, so that a test can
walk through a run and read what a user would have seen.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from PIL import Image

from cascade_app.events import (
    Event,
    Finished,
    ImageReady,
    ImageSaved,
    Notice,
    RunStarted,
    StageStarted,
    StepDone,
    Waiting,
)
from cascade_app.ui.markup import STAGES, Easel, Print, StageMark
from cascade_app.ui.session import Picture, picture_of

PREVIEW_SIDE_PX = 512
CONTACT_SIDE_PX = 256  # each preview when several pictures form at once
JPEG_QUALITY = 80
ENLARGED = 0.75  # small previews grow to this part of the limit, which costs half the bytes of all of it
_HEADLINES = {
    "conditioning": "Reading the prompt",
    "prior": "Stage C, making the negative",
    "decoder": "Stage B, developing",
    "vqgan": "Stage A, printing the pixels",
}
_POSITION = {key: position for position, (key, *_words) in enumerate(STAGES)}


@dataclass(frozen=True)
class View:
    """What one event changes. `seed` comes once, when it is known; `saved` as soon as a picture is safe on disk.

    `notice` is a sentence that should stay to be read.
    """

    easel: Easel
    seed: int | None = None
    saved: Picture | None = None
    finished: bool = False
    total_s: float = 0.0
    notice: str = ""


def render(events: Iterable[Event]) -> Iterator[View]:
    """Follow a run and yield what the page should show after each event. Closing it closes `events`."""
    easel = Easel(state="waiting", headline="Asking for the engine")
    try:
        for event in events:
            easel = advance(easel, event)
            match event:
                case RunStarted(plan=plan):
                    yield View(easel, seed=plan.seeds[0])
                case Notice(message=message):
                    yield View(easel, notice=message)
                case ImageReady():
                    pass  # its file follows at once
                case ImageSaved():
                    yield View(easel, saved=picture_of(event))
                case Finished(seconds=seconds):
                    yield View(easel, finished=True, total_s=float(seconds.get("total", 0.0)))
                case _:
                    yield View(easel)
    finally:
        close = getattr(events, "close", None)
        if close:
            close()


def advance(easel: Easel, event: Event) -> Easel:
    """The easel after `event`."""
    match event:
        case Waiting(reason=reason):
            return replace(easel, state="waiting", headline=reason, clock="")
        case RunStarted(plan=plan):
            blank = tuple(Print(alt=f"Picture {n + 1}, forming") for n in range(len(plan.seeds)))
            return Easel(
                state="running", ratio=plan.width / plan.height, prints=blank, headline=_HEADLINES["conditioning"],
                marks=tuple(StageMark(steps=n) for n in (plan.request.prior_steps, plan.request.decoder_steps, 0)),
            )  # fmt: skip
        case StageStarted():
            return _enter(easel, event)
        case StepDone():
            return _step(easel, event)
        case ImageReady(index=index, image=image):
            return _place(easel, index, preview_uri(image, _side(easel)))
        case ImageSaved():
            return _place(easel, event.index, picture_of(event).url)
        case Finished(seconds=seconds):
            total = f"made in {seconds['total']:.1f} s" if "total" in seconds else ""
            marks = tuple(replace(mark, progress="done", step=mark.steps) for mark in easel.marks)
            return replace(easel, state="done", marks=marks, headline="Developed", clock=total, fraction=1.0)
    return easel


def _enter(easel: Easel, event: StageStarted) -> Easel:
    here = _POSITION.get(event.stage, -1)

    def mark(position: int, old: StageMark) -> StageMark:
        if position == here:
            return StageMark("active", 0, event.steps)
        done = position < here  # many pictures are made a few at a time, so a later stage may lie ahead again
        return StageMark("done", old.steps, old.steps) if done else StageMark("ahead", 0, old.steps)

    marks = tuple(mark(position, old) for position, old in enumerate(easel.marks))
    return replace(easel, state="running", marks=marks, headline=_headline(easel, event))


def _headline(easel: Easel, event: StageStarted) -> str:
    words = _HEADLINES.get(event.stage, event.stage)
    count = len(event.indices)
    if event.stage == "conditioning" or count in (0, len(easel.prints)):
        return words
    first, last = min(event.indices) + 1, max(event.indices) + 1
    which = f"picture {first}" if count == 1 else f"pictures {first} to {last}"
    return f"{words}, {which} of {len(easel.prints)}"


def _step(easel: Easel, event: StepDone) -> Easel:
    here = _POSITION.get(event.stage, -1)
    marks = tuple(
        StageMark("active", event.step, event.steps) if position == here else mark
        for position, mark in enumerate(easel.marks)
    )
    easel = replace(
        easel,
        marks=marks,
        clock=f"{_seconds(event.elapsed_s)} gone, {_seconds(event.remaining_s)} left",
        fraction=event.fraction,
    )
    for index, preview in zip(event.indices, event.previews, strict=False):
        easel = _place(easel, index, preview_uri(preview, _side(easel)))
    return easel


def _seconds(value: float) -> str:
    if value < 100:
        return f"{max(value, 0.0):.1f} s"
    return f"{int(value // 60)} min {int(value % 60):02d} s"


def _side(easel: Easel) -> int:
    return PREVIEW_SIDE_PX if len(easel.prints) <= 1 else CONTACT_SIDE_PX


def _place(easel: Easel, index: int, src: str) -> Easel:
    if index >= len(easel.prints):
        return easel
    prints = list(easel.prints)
    prints[index] = replace(prints[index], src=src)
    return replace(easel, prints=tuple(prints))


def preview_uri(image: Image.Image, longest_px: int) -> str:
    """`image` as a JPEG data URI whose longest side is `longest_px` or a little less: small enough for every step.

    A stage's preview may be 64 px across; enlarged here it stays soft, where a browser shows its cells.
    """
    image = image.convert("RGB")
    scale = longest_px / max(image.size)
    if scale > 1:
        scale = max(1.0, ENLARGED * scale)
    size = [max(1, round(side * scale)) for side in image.size]
    image = image.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
