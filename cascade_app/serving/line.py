"""The order in which those who wait are served: one visitor's turn after the other's, and each one's own as they came. Pure.

With fifty requests of one visitor in it and one of another's, that one is the next but one. Knows nothing of threads or clocks.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar


class Waits(Protocol):
    """Whoever stands in the line. `whose` names the visitor whose turns it uses up."""

    @property
    def whose(self) -> str: ...


T = TypeVar("T", bound=Waits)


class Line(Generic[T]):
    """Tickets, in the order of service."""

    def __init__(self) -> None:
        self._visitors: OrderedDict[str, deque[T]] = OrderedDict()  # the next visitor's first
        self._places: dict[int, int] | None = None  # id of a ticket -> how many are before it
        self._order: list[T] = []

    def __len__(self) -> int:
        return sum(map(len, self._visitors.values()))

    def __iter__(self) -> Iterator[T]:
        """In the order of service, if nobody else comes."""
        self._count()
        return iter(tuple(self._order))

    def join(self, ticket: T) -> None:
        """At the end of its visitor's own; a visitor who had none comes after all others."""
        self._visitors.setdefault(ticket.whose, deque()).append(ticket)
        self._places = None

    def leave(self, ticket: T) -> None:
        """Without having been served; nothing where it is not in the line."""
        self._remove(ticket)

    def before(self, ticket: T) -> int:
        """How many are served before it. Raises KeyError where it is not in the line."""
        return self._count()[id(ticket)]

    def __contains__(self, ticket: T) -> bool:
        return id(ticket) in self._count()

    def serve(self, ticket: T) -> None:
        """It is its turn: its visitor goes behind all others."""
        self._remove(ticket)
        if ticket.whose in self._visitors:
            self._visitors.move_to_end(ticket.whose)

    def first(self, ready: Callable[[T], bool]) -> T | None:
        """Who is next among those who are ready for it."""
        self._count()
        return next((ticket for ticket in self._order if ready(ticket)), None)

    def _remove(self, ticket: T) -> None:
        own = self._visitors.get(ticket.whose, ())
        if ticket in own:
            own.remove(ticket)
            if not own:
                del self._visitors[ticket.whose]
        self._places = None

    def _count(self) -> dict[int, int]:
        if self._places is None:
            turns = [(turn, ticket) for own in self._visitors.values() for turn, ticket in enumerate(own)]
            self._order = [ticket for _, ticket in sorted(turns, key=lambda one: one[0])]
            self._places = {id(ticket): place for place, ticket in enumerate(self._order)}
        return self._places
