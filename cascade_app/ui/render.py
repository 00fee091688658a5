"""From events to what the page shows: `render(record(backend.generate(request), store))`. Pure but for the time.

Each event changes the easel a little; each change is yielded as a `View`. Knows nothing of Gradio, so that a test can
walk through a run and read what a user would have seen.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
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
from cascade_app.plan import GenerationPlan
from cascade_app.record import Record
from cascade_app.ui.easel import STAGES, Easel, Print, StageMark

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
    saved: Record | None = None
    finished: bool = False
    total_s: float = 0.0
    notice: str = ""
    plan: GenerationPlan | None = None


@dataclass(frozen=True)
class Sheet:
    """Where a run's images go among the `of` prints of a sheet that several runs fill; `before` are filled already, in
    `spent_s`.

    The defaults are a run that fills a sheet of its own.
    """

    cells: Sequence[int] = ()
    before: int = 0
    of: int = 0
    spent_s: float = 0.0

    def place(self, index: int) -> int:
        return self.cells[index] if index < len(self.cells) else index

    def fraction(self, own: float) -> float:
        """How far all runs together are, when this one is as far as `own`."""
        return (self.before + own * len(self.cells)) / self.of if self.of else own

    def clock(self, event: StepDone) -> str:
        """Time gone and left, of all runs together."""
        gone, left = self.spent_s + event.elapsed_s, event.remaining_s
        if self.of:
            done = self.fraction(event.fraction)
            left = gone * (1 - done) / done if done else left
        return f"{_seconds(gone)} gone, {_seconds(left)} left"


OWN = Sheet()


def render(runs: Iterable[tuple[Iterable[Event], Sequence[int]]], blank: Easel | None = None) -> Iterator[View]:
    """Follow runs, one after the other, and yield what the page should show after each event.

    Each run comes with the places of its images on the sheet `blank`; without one, a single run fills a sheet of its own, in
    order. Closing it closes the run that is under way.
    """
    easel = replace(blank or Easel(), state="waiting", headline="Asking for the engine")
    made, spent_s = 0, 0.0
    for events, cells in runs:
        sheet = Sheet(cells, before=made, of=len(blank.prints) if blank else 0, spent_s=spent_s)
        with closing(_follow(events, easel, sheet)) as views:
            for view in views:
                spent_s += view.total_s
                if view.finished and blank and made + len(cells) < len(blank.prints):
                    continue  # the next run goes on from there
                easel = view.easel
                yield view
        made += len(cells)


def _follow(events: Iterable[Event], easel: Easel, sheet: Sheet) -> Iterator[View]:
    try:
        for event in events:
            easel = advance(easel, event, sheet)
            match event:
                case RunStarted(plan=plan):
                    yield View(easel, seed=None if sheet.before else plan.seeds[0], plan=plan)
                case Notice(message=message):
                    yield View(easel, notice=message)
                case ImageReady():
                    pass  # its file follows at once
                case ImageSaved():
                    yield View(easel, saved=event.record)
                case Finished(seconds=seconds):
                    yield View(easel, finished=True, total_s=float(seconds.get("total", 0.0)))
                case _:
                    yield View(easel)
    finally:
        close = getattr(events, "close", None)
        if close:
            close()


def advance(easel: Easel, event: Event, sheet: Sheet = OWN) -> Easel:
    """The easel after `event` of the run that fills `sheet`."""
    match event:
        case Waiting(reason=reason):
            return replace(easel, state="waiting", headline=reason, clock="")
        case RunStarted(plan=plan):
            what = "Negative" if plan.sketch else "Picture"
            blank = tuple(Print(alt=f"{what} {n + 1}, forming", sketch=plan.sketch) for n in range(len(plan.seeds)))
            return replace(
                easel, state="running", ratio=plan.width / plan.height, prints=easel.prints if sheet.of else blank,
                headline=_HEADLINES["conditioning"], marks=marks_ahead(plan),
            )  # fmt: skip
        case StageStarted():
            return _enter(easel, replace(event, indices=tuple(map(sheet.place, event.indices))))
        case StepDone():
            return _step(easel, event, sheet)
        case ImageReady(index=index, image=image):
            return _place(easel, sheet.place(index), preview_uri(image, _side(easel)))
        case ImageSaved(index=index, record=saved):
            return _named(easel, sheet.place(index), saved, small=bool(sheet.of))
        case Finished(seconds=seconds):
            total = f"made in {_seconds(sheet.spent_s + seconds['total'])}" if "total" in seconds else ""
            marks = tuple(mark if mark.progress == "kept" else StageMark("done", mark.steps, mark.steps) for mark in easel.marks)
            return replace(easel, state="done", marks=marks, headline="Done", clock=total, fraction=1.0)
    return easel


def marks_ahead(plan: GenerationPlan) -> tuple[StageMark, ...]:
    """The strip before the first step; stages that this run leaves out are kept."""
    steps = (max(plan.prior_steps), plan.decoder_steps)
    marks = tuple(StageMark(steps=n) if n else StageMark("kept") for n in steps)
    return (*marks, StageMark("kept") if plan.sketch else StageMark())


def _enter(easel: Easel, event: StageStarted) -> Easel:
    here = _POSITION.get(event.stage, -1)

    def mark(position: int, old: StageMark) -> StageMark:
        if old.progress == "kept":
            return old
        if position == here:
            return StageMark("active", 0, event.steps)
        done = position < here  # many pictures are made a few at a time, so a later stage may lie ahead again
        return StageMark("done", old.steps, old.steps) if done else StageMark("ahead", 0, old.steps)

    marks = tuple(mark(position, old) for position, old in enumerate(easel.marks))
    return replace(easel, state="running", marks=marks, headline=_headline(easel, event))


def _headline(easel: Easel, event: StageStarted) -> str:
    words = _HEADLINES.get(event.stage, event.stage)
    count, total = len(event.indices), len(easel.prints)
    if event.stage == "prior" and total > 1:
        words = f"Stage C, making {total} negatives"
    if event.stage == "conditioning" or count in (0, total):
        return words
    first, last = min(event.indices) + 1, max(event.indices) + 1
    which = f"number {first}" if count == 1 else f"{first} to {last}"
    return f"{words}, {which} of {len(easel.prints)}"


def _step(easel: Easel, event: StepDone, sheet: Sheet) -> Easel:
    here = _POSITION.get(event.stage, -1)
    marks = tuple(
        StageMark("active", event.step, event.steps) if position == here else mark
        for position, mark in enumerate(easel.marks)
    )
    easel = replace(
        easel,
        marks=marks,
        clock=sheet.clock(event),
        fraction=sheet.fraction(event.fraction),
    )
    for index, preview in zip(event.indices, event.previews, strict=False):
        easel = _place(easel, sheet.place(index), preview_uri(preview, _side(easel)))
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


def _named(easel: Easel, index: int, saved: Record, *, small: bool) -> Easel:
    """The print of a picture that is safe on disk: it can be picked from now on, also while others form.

    `small` shows its thumbnail, whose address is shorter than its pixels: they would be sent again with every later step.
    """
    if index >= len(easel.prints):
        return easel
    prints = list(easel.prints)
    src = f"pictures/{saved.id}/thumbnail.jpg" if small else prints[index].src
    prints[index] = replace(prints[index], id=saved.id, alt=saved.request.prompt, src=src)
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
