"""What calls leave behind that nobody comes back for, and Gradio would keep.

A run of the page leaves a message an event, with a preview inside: megabytes. They are dropped once the session's runs are over
and its messages have lain untouched from one sweep to the next. An answer of the API, a message or two, is left to wait for
whoever comes back for it; but the session that Gradio makes for such a call alone, a copy of the page's settings of 240 KB,
goes once the call is over. Knows Gradio's queue by the names of its fields, and nothing of what the messages say.
"""

from __future__ import annotations

from typing import Any

SWEEP_S = 60.0
FEW = 8  # messages that may wait for ever: the last answer of a call


class Unread:
    """Call `sweep` every SWEEP_S. `blocks` is the page that is served."""

    def __init__(self, blocks: Any) -> None:
        self._queue, self._sessions = blocks._queue, blocks.state_holder
        self._lying: dict[str, int] = {}  # messages by session, as of the last sweep
        self._answered: set[str] = set()  # calls that were over by then and had nothing left to fetch

    def sweep(self) -> None:
        """Drop what lay there at the last one and has not changed since, and the sessions of calls that are over."""
        self._sweep_messages()
        self._sweep_calls()

    def _sweep_messages(self) -> None:
        messages, events = self._queue.pending_messages_per_session, self._queue.pending_event_ids_session
        lying = {}
        for session in list(messages):  # not its items: Gradio's method of each lets other threads in between, to add some
            held = messages.get(session)
            running = any(event in self._queue.event_ids_to_events for event in list(events.get(session, ())))
            if held is None or held.qsize() <= FEW or running:
                continue
            if self._lying.get(session) == held.qsize():
                messages.pop(session, None)
                events.pop(session, None)
            else:
                lying[session] = held.qsize()
        self._lying = lying

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

    def _is_over(self, session: str) -> bool:
        return session in self._queue.event_analytics and session not in self._queue.event_ids_to_events
