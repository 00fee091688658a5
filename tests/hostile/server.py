"""The app as `app.py` joins it, in a process of its own, with an engine that draws instead of computing.

`python -m tests.hostile.server` serves it on CASCADE_PORT: what stands before the engine is all there, and a call that gets
through costs milliseconds whatever it asks for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

from cascade_app.events import Event, Finished, ImageReady, RunStarted, StageStarted, StepDone
from cascade_app.record import record_of
from cascade_app.request import GenerationRequest
from cascade_app.settings import Settings
from cascade_app.work import Work
from tests.fakes import SPEC, FakeBackend, draw, negative_of

SMALL = replace(
    SPEC, min_size_px=64, max_size_px=128, default_size_px=64, defaults={"prior_steps": 2, "decoder_steps": 1}
)


class QuickEngine(FakeBackend):
    """Checks and plans a request in full, then says of one step a stage that it was done."""

    def __init__(self, _settings: Settings) -> None:
        super().__init__(spec=SMALL)

    def start(self) -> None:
        """Nothing to load."""

    def _run(self, request: GenerationRequest, work: Work) -> Iterator[Event]:
        plan = self.plan(request, work)
        yield RunStarted(plan)
        everyone = tuple(range(len(plan.seeds)))
        for stage in ("prior", "decoder"):
            yield StageStarted(stage, 1, everyone)
            yield StepDone(stage, 1, 1, 0.5, 0.0, 0.0, (), everyone)
        for index, seed in enumerate(plan.seeds):
            record = record_of(
                plan, index, negative=negative_of(plan, plan.origins[index]), checkpoint_digest=self.digest
            )
            yield ImageReady(index, seed, draw(32, 32, seed), plan, record)
        yield Finished({"total": 0.0})


def main() -> int:
    import cascade_app.serving.zero_gpu as engines

    engines.make_backend = QuickEngine  # where `app.py` takes its engine from
    import app

    return app.main()


if __name__ == "__main__":
    sys.exit(main())
