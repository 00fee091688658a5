"""Whether everyone at the page and the API has been sent what there is to tell them, before the web server closes.

Reads Gradio's queue, which has no public way to ask.
"""

from __future__ import annotations

import time

import gradio as gr

LOOK_EVERY_S = 0.05


def wait_until_told(blocks: gr.Blocks, *, timeout_s: float) -> bool:
    """Wait until no call waits or runs and no message is unsent; False where that takes longer. Who never listens is let be."""
    end_s = time.monotonic() + timeout_s
    while not _told(blocks):
        if time.monotonic() >= end_s:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def _told(blocks: gr.Blocks) -> bool:
    queue = blocks._queue
    unsent = any(messages.qsize() for messages in list(queue.pending_messages_per_session.values()))
    return not (len(queue) or any(queue.active_jobs) or unsent)
