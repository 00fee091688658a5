"""What may be asked for and what may be seen: prompts held against a blocklist, pictures shown to an image checker.

The words are those that the networks are told: drawn out, styled, of both ends of a blend; negative prompts say what is not to
be seen and are let be. With an image checker no preview is shown, and a picture reaches nobody, not even the disk, before it
was checked; so does a sketch. Where a check that is wanted cannot be made, nothing is: the backend's status and the refusal of
a run say so. Knows nothing of where words and pictures come from or go to.

    blocklist        "off", a file, or "auto": the bundled list where hosted
    image checker    "off", a folder or hub name, or "auto": where hosted, the usual one. If its weights are not at hand,
                     only checkpoints are served that can draw too little to need it, as they say themselves (`draws`)
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from PIL import Image

from cascade_app.errors import CascadeError, CheckpointNotFound, SettingsError, Withheld
from cascade_app.events import Event, Finished, ImageReady, Notice, StepDone, Waiting
from cascade_app.logs import event as log_event
from cascade_app.plan import GenerationPlan
from cascade_app.request import GenerationRequest
from cascade_app.safety import BUNDLED, Blocklist, read_blocklist
from cascade_app.serving.around import Around
from cascade_app.serving.backend import Backend, BackendStatus
from cascade_app.settings import Settings
from cascade_app.words import heard
from cascade_app.work import WHOLE, Work

USUAL_CHECKER = "CompVis/stable-diffusion-safety-checker"
CLOSED = "Nothing is made here for now, because it cannot be checked: {}"
ALL_WITHHELD = "The image checker withheld what was made: it may be nothing to show here. Change the prompt or the seed."
_log = logging.getLogger(__name__)


class Checker(Protocol):
    """What runtime/checker.py loads."""

    def flagged(self, pictures: Sequence[Image.Image]) -> list[bool]:
        """For each picture, whether it should not be shown."""


class Safe(Around):
    """A backend with both checks. `start` loads the image checker, where there is to be one, in the background."""

    def __init__(self, inner: Backend, settings: Settings) -> None:
        super().__init__(inner)
        self._wanted = settings.image_checker
        self._by_default = settings.image_checker == "auto"
        if self._by_default:
            self._wanted = USUAL_CHECKER if settings.hosted else "off"
        self._checker: Checker | None = None
        self._not_at_hand = ""  # why there is no checker, though by default there would be
        self._closed = ""
        self._loaded = threading.Event()
        self._blocklist = Blocklist()
        try:
            self._blocklist = _blocklist(settings)
        except SettingsError as error:
            self._close(error)
        if self._wanted == "off":
            self._loaded.set()

    def start(self) -> None:
        """Returns at once; torch is imported behind it."""
        super().start()
        if not self._loaded.is_set():
            threading.Thread(target=self.load, name="cascade-checker", daemon=True).start()

    def load(self) -> None:
        """Load the image checker now. Where it cannot be, runs are refused from here on."""
        from cascade_app.runtime.checker import load_checker

        try:
            self._checker = load_checker(self._wanted, fetch=not self._by_default)
        except CheckpointNotFound as error:
            if self._by_default:
                self._not_at_hand = error.message
                log_event(_log, "no image checker is at hand; only checkpoints that need none are served")
            else:
                self._close(error)
        except Exception as error:  # whatever it is: without it nothing may be shown
            self._close(error)
        finally:
            self._loaded.set()

    def status(self) -> BackendStatus:
        return BackendStatus("failed", self._closed, self._closed) if self._closed else self.inner.status()

    def generate(self, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
        if self._closed:
            raise Withheld(self._closed)
        plan = self.plan(request, work)
        self._blocklist.check(*texts_told(plan))
        for _ in iter(lambda: self._loaded.wait(0.2), True):
            yield Waiting("Loading the image checker.")
        if self._closed or (self._not_at_hand and not self.checkpoint(request.checkpoint).draws):
            raise Withheld(self._closed or CLOSED.format(self._not_at_hand))
        with closing(self.inner.generate(request.with_seed(plan.request.seed), work)) as events:
            yield from events if self._checker is None else _checked(events, self._checker)

    def _close(self, error: Exception) -> None:
        reason = error.message if isinstance(error, CascadeError) else "The image checker cannot be loaded."
        self._closed = CLOSED.format(reason)
        log_event(_log, "nothing is served: a safety check cannot be made", level=logging.ERROR, raised=error)


def texts_told(plan: GenerationPlan) -> list[str]:
    """Every text that a run's networks are told to show, without its weights."""
    texts = [words.prompt for words in plan.words]
    texts += [origin.start.blend_prompt for origin in plan.origins if origin.start and origin.start.blend_prompt]
    return [heard(text) for text in dict.fromkeys(texts)]


def _checked(events: Iterator[Event], checker: Checker) -> Iterator[Event]:
    """`events` without previews and without flagged pictures; the run fails where none is left."""
    shown = withheld = 0
    for event in events:
        match event:
            case StepDone():
                yield replace(event, previews=())
            case ImageReady():
                flagged = any(checker.flagged([event.image]))
                withheld, shown = withheld + flagged, shown + (not flagged)
                if not flagged:
                    yield event
            case Finished() if withheld:
                log_event(_log, "pictures withheld by the image checker", pictures=withheld)
                if not shown:
                    raise Withheld(ALL_WITHHELD)
                yield Notice(f"The image checker withheld {withheld} of {shown + withheld} pictures; the others are here.")
                yield event
            case _:
                yield event


def _blocklist(settings: Settings) -> Blocklist:
    if settings.blocklist == "off" or (settings.blocklist == "auto" and not settings.hosted):
        return Blocklist()
    return read_blocklist(BUNDLED if settings.blocklist == "auto" else Path(settings.blocklist).expanduser())
