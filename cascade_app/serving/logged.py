"""The log of runs: a line when one starts and one when it ends, under the reference that a user is told with a fault.

Writes sizes, counts and outcomes, and whose run it was by a short hash; the words of a prompt only where the settings ask for
them. Knows nothing of how a line looks (logs.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing

from cascade_app.errors import InvalidRequest, RenderFailed
from cascade_app.events import Event, Finished, ImageReady
from cascade_app.logs import event, is_fault, noted, visitor_shown
from cascade_app.request import GenerationRequest
from cascade_app.serving.around import Around
from cascade_app.serving.backend import Backend
from cascade_app.serving.caller import Caller, current
from cascade_app.work import WHOLE, Work

_log = logging.getLogger(__name__)


class Logged(Around):
    """A backend whose runs are in the log. `prompts`: with their words."""

    def __init__(self, inner: Backend, *, prompts: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(inner)
        self._prompts, self._clock = prompts, clock

    def generate(self, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
        return self._followed(current(), request, work)

    def _followed(self, caller: Caller, request: GenerationRequest, work: Work) -> Iterator[Event]:
        begin, pictures, outcome = self._clock(), 0, {"outcome": "cancelled"}
        who = {"reference": caller.request_id, "visitor": visitor_shown(caller.visitor)}
        event(_log, "run started", **who, **self._about(request, work))
        try:
            with closing(self.inner.generate(request, work)) as events:
                for one in events:
                    pictures += isinstance(one, ImageReady)
                    if isinstance(one, Finished):  # after which nobody need ask for more
                        outcome = {"outcome": "finished"}
                    yield one
            if outcome["outcome"] != "finished":  # whatever computed is gone without a word
                raise RenderFailed("The engine stopped in the middle of it; what was finished is kept. Try again.")
        except Exception as error:
            outcome = {"outcome": "failed" if is_fault(error) else "refused", "error": type(error).__name__}
            if isinstance(error, InvalidRequest):
                outcome["field"] = error.field
            if is_fault(error):
                noted(error, _log, reference=caller.request_id)
            raise
        finally:
            event(_log, "run ended", **who, **outcome, pictures=pictures, seconds=round(self._clock() - begin, 3))

    def _about(self, request: GenerationRequest, work: Work) -> dict[str, object]:
        act = "sketch" if work.sketch else "develop" if work.develops else work.origins[0].action if work.origins else "generate"
        facts: dict[str, object] = {
            "act": act, "checkpoint": request.checkpoint, "width": request.width, "height": request.height,
            "images": len(work.origins) or request.images, "steps": f"{request.prior_steps}+{request.decoder_steps}",
        }  # fmt: skip
        if self._prompts:
            facts |= {"prompt": request.prompt, "negative_prompt": request.negative_prompt, "seed": request.seed}
        return facts
