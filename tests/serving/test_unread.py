"""What calls of a live page leave behind: it goes once nobody comes back for it, what runs and listeners need stays."""

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

    def brief() -> str:
        return "done"

    with gr.Blocks(analytics_enabled=False) as blocks:
        gr.Button().click(talk, None, gr.Textbox(), api_name="talk")
        gr.api(brief, api_name="brief")
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


def test_whoever_never_listens_and_asks_again_and_again_keeps_no_more_than_the_last_runs(page):
    blocks, address, may_end = page
    queue, unread = blocks._queue, Unread(blocks)
    may_end.set()
    for _ in range(5):
        join(address, "deaf")
        until(lambda: not queue.event_ids_to_events)
        unread.sweep()
    # as many as one says, after each of the last two sweeps: the one just over, and the one before
    assert FEW < queue.pending_messages_per_session["deaf"].qsize() < 3 * (FEW + 7)
    assert len(queue.pending_event_ids_session["deaf"]) <= 3
    may_end.clear()
    join(address, "deaf")
    until(lambda: queue.pending_messages_per_session["deaf"].qsize() > FEW)
    for _ in range(4):
        unread.sweep()
    assert len(queue.pending_event_ids_session["deaf"]) == 1, "of the run that goes on nothing is lost"
    may_end.set()
    with httpx.stream("GET", f"{address}gradio_api/queue/data", params={"session_hash": "deaf"}, timeout=60) as stream:
        told = "".join(stream.iter_text())
    assert all(f"message {number}" in told for number in range(1, FEW + 3)) and told.count("process_completed") == 1


def test_a_session_keeps_one_copy_of_each_element():
    """A value after an update, as every run of the page has them."""

    def change(value: str) -> Iterator[object]:
        yield gr.update(visible=True)
        yield value

    with gr.Blocks(analytics_enabled=False) as blocks:
        box = gr.Textbox()
        gr.Button().click(change, box, box)
    _app, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False)
    try:
        unread = Unread(blocks)
        for number in range(5):
            body = {"data": [f"text {number}"], "fn_index": 0, "session_hash": "a page"}
            httpx.post(f"{address}gradio_api/queue/join", json=body).raise_for_status()
            until(lambda: not blocks._queue.event_ids_to_events)
        state = blocks.state_holder.session_data["a page"]
        assert len(state.blocks_config.blocks) >= len(blocks.blocks) + 5, "Gradio keeps all: if no longer, sweep no longer"
        unread.sweep()
        kept = set(state.blocks_config.blocks)
        assert kept >= set(blocks.blocks) and len(kept) == len(blocks.blocks) + 1 and set(state.config_values) <= kept
        current = state.blocks_config.blocks[box._id]
        assert current._id in kept and state.config_values[current._id]["props"]["value"] == "text 4"
    finally:
        blocks.close(verbose=False)


def call(address: str) -> str:
    """A call of the API, of no session."""
    answer = httpx.post(f"{address}gradio_api/call/talk", json={"data": []})
    return answer.raise_for_status().json()["event_id"]


def fetch(address: str, event: str) -> str:
    with httpx.stream("GET", f"{address}gradio_api/call/talk/{event}", timeout=60) as stream:
        return "".join(stream.iter_text())


def test_nothing_stays_of_a_call_that_is_over_and_answered(page):
    blocks, address, may_end = page
    queue, sessions, unread = blocks._queue, blocks.state_holder.session_data, Unread(blocks)
    running = call(address)
    join(address, "a page")
    until(lambda: running in sessions and "a page" in sessions)
    for _ in range(3):
        unread.sweep()
    assert running in sessions and running in queue.pending_messages_per_session, "it runs"
    may_end.set()
    until(lambda: not queue.event_ids_to_events)
    unread.sweep()
    assert running not in sessions and "a page" in sessions, "a page's session has what is on the page"
    assert "event: complete" in fetch(address, running)
    unread.sweep()
    unread.sweep()
    assert running not in queue.pending_messages_per_session and running not in queue.pending_event_ids_session
    assert running not in blocks.state_holder.time_last_used and "a page" in blocks.state_holder.time_last_used


def test_the_answer_of_a_call_waits(page):
    blocks, address, may_end = page
    unread = Unread(blocks)
    may_end.set()
    event = httpx.post(f"{address}gradio_api/call/brief", json={"data": []}).json()["event_id"]
    until(lambda: not blocks._queue.event_ids_to_events)
    for _ in range(4):
        unread.sweep()
    with httpx.stream("GET", f"{address}gradio_api/call/brief/{event}", timeout=60) as stream:
        assert "event: complete" in "".join(stream.iter_text())


def test_nothing_stays_of_a_call_whose_caller_hung_up(page):
    blocks, address, may_end = page
    queue, unread = blocks._queue, Unread(blocks)
    event = call(address)
    with httpx.stream("GET", f"{address}gradio_api/call/talk/{event}", timeout=60) as stream:
        lines = stream.iter_lines()
        while f"message {FEW + 2}" not in next(lines):
            pass
        held = queue.event_ids_to_events[event]
    until(lambda: not held.alive)
    may_end.set()
    until(lambda: not queue.event_ids_to_events)
    unread.sweep()
    unread.sweep()
    assert event not in queue.pending_event_ids_session and event not in blocks.state_holder.session_data
