"""Who is asking for a run, told to everything between the page and the engine without being an argument of it.

    backend = asked_by(caller, backend)    the page's handlers and the API: a backend as this caller has it
    current()                              in any backend around the engine, at any point of a run: its caller

Gradio takes each step of a handler in whatever thread is free, in a fresh copy of the server's context, so a context
variable that a handler sets is gone at its next step. `asked_by` keeps a context a run, and takes every step of it there.
Knows nothing of HTTP; `visitors.py` reads a Caller off a request.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field

from cascade_app.events import Event
from cascade_app.request import GenerationRequest
from cascade_app.serving.around import Around
from cascade_app.serving.backend import Backend
from cascade_app.work import WHOLE, Work


def new_request_id() -> str:
    """Short enough to be read out, and unlike any other of the last weeks."""
    return secrets.token_hex(5)


@dataclass(frozen=True)
class Caller:
    """Who asks for a run.

    visitor: as `Gallery.of` takes it; "" for the command line, and for a call of the API without cookie or login.
    address: of the machine that asked, as far as it can be trusted; "" where there is none.
    request_id: of this one press of a button or call; its log lines carry it, and the user sees it.
    gone: whether the run is not wanted any more; whoever lets it wait asks now and then, and gives it a chance to end.
    """

    visitor: str = ""
    address: str = ""
    request_id: str = field(default_factory=new_request_id)
    gone: Callable[[], bool] = field(default=lambda: False, compare=False, repr=False)


NOBODY = Caller(request_id="")
_current: ContextVar[Caller] = ContextVar("cascade_caller", default=NOBODY)


def current() -> Caller:
    """The caller of the run that is under way here; NOBODY outside of one."""
    return _current.get()


def asked_by(caller: Caller, backend: Backend) -> Backend:
    """`backend`, whose runs are this caller's."""
    return _Asked(caller, backend)


class _Asked(Around):
    def __init__(self, caller: Caller, inner: Backend) -> None:
        super().__init__(inner)
        self._caller = caller

    def generate(self, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
        context = copy_context()
        context.run(_current.set, self._caller)
        return _steps(context, context.run(self.inner.generate, request, work))


def _steps(context: Context, events: Iterator[Event]) -> Iterator[Event]:
    """`events`, each step of them taken in `context`."""
    nothing = object()
    try:
        while (event := context.run(next, events, nothing)) is not nothing:
            yield event
    finally:
        context.run(events.close)
