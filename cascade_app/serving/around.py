"""A backend around another one: passes everything on, so that whoever stands between a caller and the engine only says
what it changes.

Composed in `app.py`. Knows nothing of what any of them does.
"""

from __future__ import annotations

from collections.abc import Iterator

from cascade_app.catalogue import CheckpointSpec
from cascade_app.events import Event
from cascade_app.plan import GenerationPlan
from cascade_app.request import GenerationRequest
from cascade_app.serving.backend import Backend, BackendStatus
from cascade_app.system import SystemReport
from cascade_app.work import WHOLE, Work


class Around:
    """A `Backend` that is its `inner` one. What `generate` of a subclass returns must close the inner run when it is closed."""

    def __init__(self, inner: Backend) -> None:
        self.inner = inner

    def start(self) -> None:
        """Begin to load what has to be, in the background; only `app.py` asks for it, so a `Backend` need not have it."""
        self.inner.start()

    def status(self) -> BackendStatus:
        return self.inner.status()

    def system(self) -> SystemReport | None:
        return self.inner.system()

    def checkpoint(self, name: str) -> CheckpointSpec:
        return self.inner.checkpoint(name)

    def license_accepted(self, name: str) -> bool:
        return self.inner.license_accepted(name)

    def accept_license(self, name: str) -> None:
        self.inner.accept_license(name)

    def plan(self, request: GenerationRequest, work: Work = WHOLE) -> GenerationPlan:
        return self.inner.plan(request, work)

    def unread(self, plan: GenerationPlan) -> str:
        return self.inner.unread(plan)

    def generate(self, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
        return self.inner.generate(request, work)
