"""What nobody fetched: the messages of runs whose callers never listened, which Gradio would keep for 2,000 sessions.

A run of the page leaves a message an event, with a preview inside: megabytes. They are dropped once the session's runs are over
and its messages have lain untouched from one sweep to the next. An answer of the API, a message or two, is left to wait for
whoever comes back for it. Knows Gradio's queue by the names of its fields, and nothing of what the messages say.
"""

from __future__ import annotations

from typing import Any

SWEEP_S = 60.0
FEW = 8  # messages that may wait for ever: the last answer of a call


class Unread:
    """Call `sweep` every SWEEP_S. `blocks` is the page that is served."""

    def __init__(self, blocks: Any) -> None:
        self._queue = blocks._queue
        self._lying: dict[str, int] = {}  # messages by session, as of the last sweep

    def sweep(self) -> None:
        """Drop what lay there at the last one and has not changed since."""
        messages, events = self._queue.pending_messages_per_session, self._queue.pending_event_ids_session
        lying = {}
        for session, held in list(messages.items()):
            running = any(event in self._queue.event_ids_to_events for event in list(events.get(session, ())))
            if held.qsize() <= FEW or running:
                continue
            if self._lying.get(session) == held.qsize():
                messages.pop(session, None)
                events.pop(session, None)
            else:
                lying[session] = held.qsize()
        self._lying = lying
