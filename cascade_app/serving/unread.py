"""What calls leave behind that nobody comes back for, and Gradio would keep.

    messages    a run of the page leaves one an event, with a preview inside: megabytes. Where nobody has fetched any from one
                sweep to the next, those of runs that were over by then go. An answer of the API, a message or two, is left to
                wait for whoever comes back for it.
    sessions    that Gradio makes for a call alone go once the call is over
    elements    a session's own copies of them go once there are newer ones: some 40 a run, with what they showed

Knows Gradio's queue and its sessions by the names of their fields, and nothing of what is in them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

SWEEP_S = 60.0
FEW = 8  # messages that may wait for ever: the last answer of a call


class Unread:
    """Call `sweep` every SWEEP_S. `blocks` is the page that is served."""

    def __init__(self, blocks: Any) -> None:
        self._blocks, self._queue, self._sessions = blocks, blocks._queue, blocks.state_holder
        self._first: dict[str, Any] = {}  # the oldest message by session, as of the last sweep
        self._running: set[str] = set()  # events by then
        self._answered: set[str] = set()  # calls that were over by then and had nothing left to fetch

    def sweep(self) -> None:
        """Drop what nobody wants: of messages, those that lay there at the last one."""
        self._sweep_messages()
        self._sweep_calls()
        for session in list(self._sessions.session_data):
            self._sweep_elements(self._sessions.session_data.get(session))

    def _sweep_messages(self) -> None:
        messages = self._queue.pending_messages_per_session
        running, first = set(self._queue.event_ids_to_events), {}
        for session in list(messages):  # not its items: Gradio's method of each lets other threads in between, to add some
            held = messages.get(session)
            if held is None or held.qsize() <= FEW:
                continue
            if session in self._first and _oldest(held) is self._first[session]:
                self._drop(session, held, running | self._running)
            first[session] = _oldest(held)
        self._first, self._running = first, running

    def _drop(self, session: str, held: asyncio.Queue, lately: set[str]) -> None:
        """All messages of a session but those of events that ran `lately`."""
        events = self._queue.pending_event_ids_session.get(session, set())
        with suppress(asyncio.QueueEmpty):  # somebody fetches them after all
            for _ in range(held.qsize()):
                message = held.get_nowait()
                if message.event_id in lately:
                    held.put_nowait(message)
        events.intersection_update(lately)  # a stream would wait for the others
        if not events:
            self._queue.pending_messages_per_session.pop(session, None)
            self._queue.pending_event_ids_session.pop(session, None)

    def _sweep_calls(self) -> None:
        """A call that names no session has one of its own, called like its event."""
        messages, events = self._queue.pending_messages_per_session, self._queue.pending_event_ids_session
        for session in list(self._sessions.session_data):
            if self._is_over(session):
                with self._sessions.lock:
                    self._sessions.session_data.pop(session, None)
                    self._sessions.time_last_used.pop(session, None)
        answered = {one for one in list(events) if self._is_over(one) and not ((held := messages.get(one)) and held.qsize())}
        for session in answered & self._answered:  # at the first time its answer may just be going out
            messages.pop(session, None)
            events.pop(session, None)
        self._answered = answered

    def _sweep_elements(self, state: Any) -> None:
        """An update makes a copy of an element with an id of its own, under which the next value is kept besides."""
        if state is None:
            return
        elements, page = state.blocks_config.blocks, self._blocks.blocks
        used = {element._id for id, element in list(elements.items()) if id in page}
        for id in [id for id in list(elements) if id not in page and id not in used]:
            elements.pop(id, None)
            state.config_values.pop(id, None)

    def _is_over(self, session: str) -> bool:
        return session in self._queue.event_analytics and session not in self._queue.event_ids_to_events


def _oldest(held: asyncio.Queue) -> Any:
    return next(iter(held._queue), None)
