"""A run's pictures are kept before anyone sees them: `record` stands between the engine and whoever looks.

Knows nothing of where they are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from cascade_app.errors import GalleryError, RenderFailed
from cascade_app.events import Event, ImageReady, ImageSaved


class Store(Protocol):
    """Where pictures are kept: a visitor's `Album`, or what an API call takes with it (serving/handover.py)."""

    def save(self, event: ImageReady) -> Path:
        """Returns where it lies, once it is safely on disk. Raises GalleryError, RenderFailed."""


def record(events: Iterable[Event], store: Store) -> Iterator[Event]:
    """Pass `events` on; each finished picture is saved first and followed by its `ImageSaved`."""
    try:
        for event in events:
            if isinstance(event, ImageReady):
                yield from _saved(event, store)
            else:
                yield event
    finally:
        close = getattr(events, "close", None)
        if close:
            close()  # closing the outer generator must stop the engine now, not when it is collected


def _saved(event: ImageReady, store: Store) -> Iterator[Event]:
    """Save before anyone sees the event: who leaves at the sight of the picture must not lose it."""
    try:
        saved = ImageSaved(event.index, event.seed, store.save(event), event.plan, event.record)
    except (GalleryError, RenderFailed):
        yield event  # it can at least be looked at
        raise
    yield event
    yield saved
