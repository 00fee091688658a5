"""What the gallery says about pictures: plain values, as the page shows them. Knows nothing of files or rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cascade_app.record import Record
from cascade_app.request import GenerationRequest


@dataclass(frozen=True)
class Item:
    """One picture or sketch in a visitor's gallery: its record without the negative, and what the visitor did with it.

    name: of its file; sorts by the time the picture came into the gallery, and is the cursor of `Query.after`.
    deleted_s: when it went to the trash, seconds since 1970; None where it did not.
    """

    id: str
    name: str
    kind: Literal["picture", "sketch"]
    action: str
    created_s: float
    request: GenerationRequest
    parents: tuple[str, ...]
    checkpoint_digest: str
    has_negative: bool
    n_bytes: int
    favourite: bool = False
    deleted_s: float | None = None

    @property
    def url(self) -> str:
        """The whole picture, for whoever owns it. Relative, so that the page also works under a proxy's prefix."""
        return f"pictures/{self.id}.png"

    @property
    def thumbnail_url(self) -> str:
        return f"pictures/{self.id}/thumbnail.jpg"


def item_of(record: Record, *, name: str, n_bytes: int) -> Item:
    """The item of a picture that just came into the gallery."""
    return Item(
        id=record.id, name=name, kind=record.kind, action=record.action, created_s=record.created_s, request=record.request,
        parents=record.parents, checkpoint_digest=record.checkpoint_digest, has_negative=record.negative is not None,
        n_bytes=n_bytes,
    )  # fmt: skip


@dataclass(frozen=True)
class Query:
    """Which items to show. The defaults show everything that is not in the trash.

    search: words that must all occur in the prompt or the negative prompt, upper and lower case alike.
    after: `Item.name` of the last item of the page before; "" for the first page.
    """

    search: str = ""
    favourites: bool = False
    kind: Literal["", "picture", "sketch"] = ""
    checkpoint: str = ""
    trash: bool = False
    after: str = ""


@dataclass(frozen=True)
class Shelf:
    """One page of items, newest first. `after` is the next page's `Query.after`; "" on the last."""

    items: tuple[Item, ...]
    after: str


@dataclass(frozen=True)
class Usage:
    """What is kept, the trash included."""

    pictures: int = 0
    n_bytes: int = 0
