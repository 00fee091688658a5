"""The queue before the engine: bounded, fair between visitors, and telling everyone their place.

    check       the request itself, and what the visitor may take (quotas.py)
    join        behind whoever is before it (line.py), or be refused where too many wait
    wait        `Waiting` events: the place among those who wait, and about how long
    work        the engine's events, for as long as a run may take
    leave       always: finished, failed, cancelled in the queue or at work

A run is a generator that somebody must ask for its next event, and who asked may be gone without a word. So it is never
handed the engine unasked: whoever is first *and has asked lately* takes it. Who holds it and does not ask any more loses it to
the next one who waits. Knows nothing of pages, and of a visitor only whose turn it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from cascade_app.errors import Busy, CascadeError, OverLimit, TookTooLong
from cascade_app.events import Event, Finished, StepDone, Waiting
from cascade_app.plan import GenerationPlan
from cascade_app.request import GenerationRequest
from cascade_app.serving.around import Around
from cascade_app.serving.backend import Backend
from cascade_app.serving.caller import Caller, current
from cascade_app.serving.line import Line
from cascade_app.serving.quotas import ADDRESS_SHARE, Allowance, Quotas, duration, visitor_key
from cascade_app.work import WHOLE, Work

NEAR = 8  # how many at the front are told of every change
# How often those look whether they still wait, and the others.
NEAR_TICK_S, FAR_TICK_S = 0.25, 1.0
# How often those are told, and the others: only then can a closed page be noticed, and each time costs the page an update.
NEAR_PULSE_S, FAR_PULSE_S, MOST_PULSE_S = 1.0, 4.0, 8.0
PULSES_PER_S = 25  # of the others, all together: a long queue is told more rarely, rather than slowly
LATELY_S = 10.0  # who has asked within it still listens
GONE_S = 120.0  # who has not within it has left
STALL_S = 30.0  # how long the engine stands still for one who does not ask for the next event
MOST_THREADS = 256  # for runs: each that waits keeps one
SPARE = 8  # runs let in only to be told that too many wait
_END = object()


def runs_at_once(size: int) -> int:
    """How many runs the server has to let in so that a queue of `size` decides; of a very long one, the rest waits outside."""
    return min(size, MOST_THREADS) + SPARE


@dataclass(eq=False)
class _Ticket:
    """A run in the queue or at work. `asked_s` is when its next event was last asked for, or brought."""

    caller: Caller
    whose: str
    units: float  # of work, see `_units`
    changed: threading.Condition  # notified when there may be something to do or to tell
    asked_s: float
    begun_s: float | None = None  # when the engine began with it
    left_s: float | None = None  # what the engine said was left, at `asked_s`
    events: Iterator[Event] | None = None
    ended: str = ""  # why it may not go on
    step: threading.Lock = field(default_factory=threading.Lock)  # held while an event is being made


@dataclass(frozen=True)
class Load:
    """How many wait and are at work, and how many may wait."""

    waiting: int
    running: int
    size: int


class Fair(Around):
    """A backend whose runs wait in one queue, `lanes` of them at work; at most `size` wait.

    job_s: how long a run may take once the engine has begun with it, 0 for any time.
    room: raises a CascadeError where nothing could be kept of a run, so that none begins.
    """

    def __init__(
        self, inner: Backend, *, size: int, allowance: Allowance | None = None, job_s: float = 0, lanes: int = 1,
        room: Callable[[], None] = lambda: None, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        super().__init__(inner)
        self._size, self._lanes, self._job_s, self._room, self._clock = size, lanes, job_s, room, clock
        self._allowance = allowance or Allowance()
        self._quotas = Quotas(self._allowance, clock=clock)
        self._line: Line[_Ticket] = Line()
        self._working: list[_Ticket] = []
        self._pace_s: float | None = None  # seconds a unit of work
        self._lock = threading.RLock()

    def generate(self, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
        return self._run(current(), request, work)

    def load(self) -> Load:
        with self._lock:
            return Load(len(self._line), len(self._working), self._size)

    # --- a run ---

    def _run(self, caller: Caller, request: GenerationRequest, work: Work) -> Iterator[Event]:
        plan = self.inner.plan(request, work)  # what cannot be made does not wait
        self._quotas.check(plan)
        self._room()
        take_back = self._quotas.take(caller, len(plan.seeds))
        ticket = _Ticket(caller, visitor_key(caller), _units(plan), threading.Condition(self._lock), self._clock())
        try:
            self._join(ticket)
            yield from self._wait(ticket)
            ticket.events = self.inner.generate(request, work)
            yield from self._work(ticket, ticket.events)
        finally:
            self._leave(ticket)
            if ticket.begun_s is None:  # it was never begun
                take_back()

    def _join(self, ticket: _Ticket) -> None:
        with self._lock:
            self._forget()
            self._refuse_if_full(ticket)
            self._line.join(ticket)
            self._wake()

    def _refuse_if_full(self, ticket: _Ticket) -> None:
        if not len(self._line) and len(self._working) < self._lanes:
            return
        if len(self._line) >= self._size:
            many = "1 request is" if len(self._line) == 1 else f"{len(self._line)} requests are"
            raise Busy(f"{many} waiting, which is the limit. Try again in {self._soon(self._line)}.")
        if not self._allowance.waiting:
            return
        own = [one for one in self._line if one.whose == ticket.whose]
        if len(own) >= self._allowance.waiting:
            raise OverLimit(
                f"{len(own)} of your requests {'is' if len(own) == 1 else 'are'} waiting; the limit is "
                f"{self._allowance.waiting}. Ask for more once the first of them has had its turn, in {self._soon(own)}."
            )
        address, most = ticket.caller.address, ADDRESS_SHARE * self._allowance.waiting
        own = [one for one in self._line if address and one.caller.address == address]
        if len(own) >= most:
            raise OverLimit(
                f"{len(own)} requests from your network address, which others may share, are waiting; the limit is {most}. Try "
                f"again in {self._soon(own)}."
            )

    def _wait(self, ticket: _Ticket) -> Iterator[Waiting]:
        """Until the engine is the ticket's."""
        told, until_s = (-1, -1), self._clock()
        while True:
            with self._lock:
                while True:
                    ticket.asked_s = self._clock()
                    if self._takes(ticket):
                        return
                    before, of = self._line.before(ticket), len(self._line)
                    moved = before < NEAR and told != (before, of)
                    if moved or ticket.asked_s >= until_s or ticket.caller.gone():
                        break
                    ticket.changed.wait(NEAR_TICK_S if before < NEAR else FAR_TICK_S)
                told, until_s = (before, of), ticket.asked_s + _pulse_s(before, of)
                place = self._place(ticket)
            self._take_back()
            yield place

    def _wake(self) -> None:
        """Whose turn it may be, and who is told of every change. To wake all takes a long queue more time than its runs."""
        for one in {*islice(self._line, NEAR), self._line.first(self._listens)} - {None}:
            one.changed.notify()

    def _takes(self, ticket: _Ticket) -> bool:
        """Whether it is the ticket's turn, which it then takes."""
        if ticket not in self._line:
            raise Busy("Nobody had listened for a while, so the place in the queue was given up. Ask again.")
        if len(self._working) >= self._lanes or self._line.first(self._listens) is not ticket:
            return False
        self._line.serve(ticket)
        self._working.append(ticket)
        self._wake()
        return True

    def _work(self, ticket: _Ticket, events: Iterator[Event]) -> Iterator[Event]:
        while True:
            with ticket.step:
                ticket.asked_s = self._clock()
                if ticket.ended:
                    raise TookTooLong(ticket.ended)
                event = next(events, _END)
                ticket.asked_s = self._clock()
                self._note(ticket, event)
                if event is _END:
                    return
                if not isinstance(event, Finished):
                    self._end_if_too_long(ticket)
            yield event

    def _note(self, ticket: _Ticket, event: Event | object) -> None:
        """What an event tells about how long this one, and those like it, take."""
        now = self._clock()
        if ticket.begun_s is None and not isinstance(event, Waiting):
            ticket.begun_s = now
        if isinstance(event, StepDone):
            ticket.left_s = event.remaining_s
        if isinstance(event, Finished) and ticket.begun_s is not None:
            pace_s = (now - ticket.begun_s) / ticket.units
            self._pace_s = pace_s if self._pace_s is None else 0.7 * self._pace_s + 0.3 * pace_s

    def _end_if_too_long(self, ticket: _Ticket) -> None:
        if self._job_s and ticket.begun_s is not None and self._clock() - ticket.begun_s > self._job_s:
            raise TookTooLong(
                f"The run was ended after {self._job_s:g} s, the limit here. Ask for fewer or smaller pictures, or fewer steps."
            )

    def _leave(self, ticket: _Ticket) -> None:
        close = getattr(ticket.events, "close", lambda: None)
        try:
            close()  # before the next one begins
        finally:
            with self._lock:
                self._line.leave(ticket)
                if ticket in self._working:
                    self._working.remove(ticket)
                self._wake()

    # --- those who do not ask any more ---

    def _listens(self, ticket: _Ticket) -> bool:
        return self._clock() - ticket.asked_s < LATELY_S

    def _forget(self) -> None:
        """Those in the queue who have not asked for long. They hold nobody up, but they count."""
        for ticket in self._line:
            if self._clock() - ticket.asked_s > GONE_S:
                self._line.leave(ticket)

    def _stalls(self, ticket: _Ticket) -> bool:
        """Whether nobody asks a run at work for its next event."""
        if self._clock() - ticket.asked_s <= STALL_S:
            return False
        ticket.ended = ticket.ended or "Nobody had listened to this run for a while, so it was ended. Ask again."
        return True

    def _take_back(self) -> None:
        """End the runs at work that stall: between two events, where nobody is inside one."""
        with self._lock:
            working = list(self._working)
        for ticket in working:
            if ticket.step.acquire(blocking=False):
                try:
                    if self._stalls(ticket):
                        with suppress(CascadeError):
                            self._leave(ticket)
                finally:
                    ticket.step.release()

    # --- how long ---

    def _place(self, ticket: _Ticket) -> Waiting:
        before, of = self._line.before(ticket), len(self._line)
        until_s = self._until(ticket)
        words = f"{_ordinal(before + 1)} of {of} in the queue" + ("" if until_s is None else f", {duration(until_s)}")
        return Waiting(words, before + len(self._working), before + 1, of, until_s)

    def _until(self, ticket: _Ticket) -> float | None:
        """Seconds until its turn, as far as they can be told."""
        if self._pace_s is None:
            return None
        ahead = sum(one.units for one, _ in zip(self._line, range(self._line.before(ticket)), strict=False)) * self._pace_s
        return (ahead + sum(map(self._left, self._working))) / self._lanes

    def _left(self, ticket: _Ticket) -> float:
        """Seconds until a run at work is done."""
        if ticket.left_s is not None:
            return max(0.0, ticket.left_s - (self._clock() - ticket.asked_s))
        gone_s = self._clock() - ticket.begun_s if ticket.begun_s is not None else 0.0
        return max(0.0, ticket.units * (self._pace_s or 0.0) - gone_s)

    def _soon(self, waiting: object) -> str:
        """When the first of `waiting` has its turn."""
        until_s = next((self._until(one) for one in waiting), None)
        return "a minute" if until_s is None else duration(until_s)


def _pulse_s(before: int, of: int) -> float:
    """Seconds until the one behind `before` of `of` is told its place again."""
    return NEAR_PULSE_S if before < NEAR else min(max(FAR_PULSE_S, of / PULSES_PER_S), MOST_PULSE_S)


def _units(plan: GenerationPlan) -> float:
    """Work of a run: passes of the networks, by the size of the picture."""
    images = len(plan.seeds)
    prior = sum(plan.prior_steps) * (1 + plan.guides_prior)
    decoder = images * plan.decoder_steps * (1 + plan.guides_decoder)
    return (1 + prior + decoder + images * (not plan.sketch)) * plan.width * plan.height / 1e6


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
