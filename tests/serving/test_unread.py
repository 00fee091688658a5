"""Runs of a live page that nobody listens to: their messages go, those of runs and of listeners stay."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import gradio as gr
import httpx
import pytest

from cascade_app.serving.unread import FEW, Unread


@pytest.fixture
def page() -> Iterator[tuple[gr.Blocks, str, threading.Event]]:
    """One whose function says ten things, and does not end before the event is set."""
    may_end = threading.Event()

    def talk() -> Iterator[str]:
        for number in range(FEW + 3):
            yield f"message {number}"
        may_end.wait(60)

    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.Button().click(talk, None, gr.Textbox())
    _app, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    yield blocks, address, may_end
    may_end.set()
    blocks.close(verbose=False)


def join(address: str, session: str) -> None:
    body = {"data": [], "fn_index": 0, "session_hash": session}
    httpx.post(f"{address}gradio_api/queue/join", json=body).raise_for_status()


def until(condition) -> None:
    """Wait, for as long as a test may take."""
    waiting = threading.Event()
    for _ in range(600):
        if condition():
            return
        waiting.wait(0.1)
    pytest.fail("it did not come to pass")


def test_messages_that_nobody_fetches_go(page):
    blocks, address, may_end = page
    queue, unread = blocks._queue, Unread(blocks)
    join(address, "deaf")
    until(lambda: "deaf" in queue.pending_messages_per_session and queue.pending_messages_per_session["deaf"].qsize() > FEW)
    for _ in range(3):
        unread.sweep()
    assert "deaf" in queue.pending_messages_per_session, "its run goes on"
    may_end.set()
    until(lambda: not queue.event_ids_to_events)
    unread.sweep()
    assert "deaf" in queue.pending_messages_per_session, "somebody may be just about to fetch them"
    unread.sweep()
    assert "deaf" not in queue.pending_messages_per_session and "deaf" not in queue.pending_event_ids_session
    join(address, "deaf")  # the session is as good as new
    with httpx.stream("GET", f"{address}gradio_api/queue/data", params={"session_hash": "deaf"}, timeout=60) as stream:
        assert "process_completed" in "".join(stream.iter_text())
    unread.sweep()
    unread.sweep()
