"""What one visitor may take: pixels a request, and pictures within the last hour.

A visitor is whose cookie or login it is. Whoever drops the cookie is another visitor, but at the same address, which counts
too: it may take as much as a few visitors, since a household or a school shares one. A call of the API without a cookie is the
address's own visitor. Knows nothing of the queue.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from cascade_app.errors import InvalidRequest, OverLimit
from cascade_app.plan import GenerationPlan
from cascade_app.serving.caller import Caller
from cascade_app.settings import Settings

HOUR_S = 3600.0
ADDRESS_SHARE = 4  # visitors that an address counts for
SWEEP_AT = 4096  # visitors in memory before those are forgotten who have nothing counted


@dataclass(frozen=True)
class Allowance:
    """Limits of one visitor; 0 is no limit. `waiting` requests at once is held by the queue."""

    pictures: int = 0
    pixels: int = 0
    waiting: int = 0

    @classmethod
    def of(cls, settings: Settings) -> Allowance:
        return cls(settings.visitor_pictures, settings.request_pixels, settings.visitor_waiting)


def visitor_key(caller: Caller) -> str:
    """Whose turns and pictures they are."""
    return f"visitor {caller.visitor}" if caller.visitor else f"nobody {caller.address}"


def keys(caller: Caller) -> list[tuple[str, int]]:
    """What a caller is counted under, and for how many visitors each counts."""
    shared = [(f"address {caller.address}", ADDRESS_SHARE)] if caller.address else []
    return [(visitor_key(caller), 1), *shared]


class _Taken(NamedTuple):
    at_s: float
    pictures: int


class Quotas:
    """Counts what was taken. Safe in any thread; `clock` counts seconds and never goes back."""

    def __init__(self, allowance: Allowance, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.allowance, self._clock = allowance, clock
        self._taken: dict[str, deque[_Taken]] = {}
        self._sweep_at = SWEEP_AT
        self._lock = threading.Lock()

    def check(self, plan: GenerationPlan) -> None:
        """Raises InvalidRequest where the request alone asks for more than one may."""
        pixels, images = plan.width * plan.height * len(plan.seeds), len(plan.seeds)
        if 0 < self.allowance.pixels < pixels:
            raise InvalidRequest(
                f"This asks for {images} x {plan.width} x {plan.height} = {pixels:,} pixels; the limit here is "
                f"{self.allowance.pixels:,}. Choose fewer or smaller pictures.", field="images" if images > 1 else "width",
            )  # fmt: skip
        if 0 < self.allowance.pictures < images:
            raise InvalidRequest(
                f"This asks for {images} pictures; the limit here is {self.allowance.pictures} an hour. Choose fewer.",
                field="images",
            )

    def take(self, caller: Caller, pictures: int) -> Callable[[], None]:
        """Count `pictures` as taken now; what is returned takes that back.

        Raises:
            OverLimit: they would be more than the visitor may have within an hour.
        """
        if not self.allowance.pictures:
            return lambda: None
        taken = _Taken(self._clock(), pictures)
        with self._lock:
            for key, share in keys(caller):
                self._refuse_if_over(key, share, pictures)
            for key, _share in keys(caller):
                self._taken.setdefault(key, deque()).append(taken)
            self._sweep()

        def take_back() -> None:
            with self._lock:
                for key, _share in keys(caller):
                    counted = self._taken.get(key, ())
                    at = next((place for place, one in enumerate(counted) if one is taken), None)
                    if at is not None:
                        del counted[at]

        return take_back

    def _refuse_if_over(self, key: str, share: int, pictures: int) -> None:
        limit = share * self.allowance.pictures
        counted = self._current(key)
        over = sum(one.pictures for one in counted) + pictures - limit
        if over <= 0:
            return
        free_s = self._clock()
        for one in counted:  # the oldest ones run out first
            free_s, over = one.at_s + HOUR_S, over - one.pictures
            if over <= 0:
                break
        who = "You have had" if share == 1 else "Your network address, which others may share, has had"
        raise OverLimit(
            f"{who} {sum(one.pictures for one in counted)} pictures within the last hour; the limit is {limit}. "
            f"Ask for {'this one' if pictures == 1 else f'these {pictures}'} again in {duration(free_s - self._clock())}."
        )

    def _current(self, key: str) -> deque[_Taken]:
        counted = self._taken.get(key, deque())
        while counted and counted[0].at_s <= self._clock() - HOUR_S:
            counted.popleft()
        return counted

    def _sweep(self) -> None:
        if len(self._taken) >= self._sweep_at:
            self._taken = {key: counted for key in list(self._taken) if (counted := self._current(key))}
            self._sweep_at = max(SWEEP_AT, 2 * len(self._taken))


def duration(seconds: float) -> str:
    """A time to wait, as people say it, and never less than it is by much."""
    if seconds < 5:
        return "a few seconds"
    if seconds < 57.5:
        return f"about {5 * round(seconds / 5)} s"
    if seconds < 3570:
        return f"about {max(1, round(seconds / 60))} min"
    return f"about {round(seconds / 3600)} h"
