"""The seam between the page and the engine: a Protocol of a few methods, and nothing that imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from cascade_app.catalogue import CheckpointSpec
from cascade_app.events import Event
from cascade_app.plan import GenerationPlan
from cascade_app.request import GenerationRequest
from cascade_app.system import SystemReport
from cascade_app.work import WHOLE, Work


@dataclass(frozen=True)
class BackendStatus:
    """Whether the engine can make pictures now. `message` is one sentence for the user, and may name a folder; `open_reason` is
    one for anyone at all, where there is one."""

    state: Literal["loading", "ready", "failed"]
    message: str
    open_reason: str = ""


class Backend(Protocol):
    """What the page, the API and the command line need of an engine."""

    def status(self) -> BackendStatus:
        """Where loading stands; returns at once."""

    def system(self) -> SystemReport | None:
        """Device, memory, placement and cache; None while loading."""

    def checkpoint(self, name: str) -> CheckpointSpec:
        """The facts of a checkpoint, weights unread. Raises CheckpointNotFound, CheckpointDamaged."""

    def license_accepted(self, name: str) -> bool:
        """Whether the licence `name` needs no asking (any more); "" never does."""

    def accept_license(self, name: str) -> None:
        """Record that the licence `name` was accepted. Raises CascadeError where a visitor may not say so."""

    def plan(self, request: GenerationRequest, work: Work = WHOLE) -> GenerationPlan:
        """What they would make, without making it; an open seed is drawn. Raises InvalidRequest, CheckpointError."""

    def unread(self, plan: GenerationPlan) -> str:
        """What the encoder will not read of a plan's words, in a sentence each; "" if nothing, or not known because the
        checkpoint is not loaded yet. Returns at once. Raises CheckpointError."""

    def generate(self, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
        """Run `request` (an open seed is drawn), or the share of it that `work` says, yielding events; see `events.py`.

        Yields `Waiting` while the engine loads or another run holds it. Closing the iterator stops the computing within one
        step and frees the engine. Raises CascadeError, with a message for the user, at the first `next` or later.
        """
