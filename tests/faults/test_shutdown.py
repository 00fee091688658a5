"""A server that is asked to end in the middle of runs: it ends in time, everyone is told, and nothing half is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from cascade_app.gallery.gallery import Gallery, Reconciled
from tests.faults.server import ROOT, Server, begin, listen, until

LONG = {"prior_steps": 100, "decoder_steps": 100, "images": 8, "width": 256, "height": 256}


def left(server: Server) -> list[str]:
    """Half files and temporary ones."""
    pictures = [path.name for path in (server.folder / "data").rglob(".saving-*")]
    return pictures + [path.name for path in (server.folder / "temporary").rglob("*")]


@pytest.fixture
def server(tmp_path, pocket):
    """One that follows another on the same folders, which was killed with an upload in its hands."""
    killed = Server(tmp_path).start()
    client = killed.visitor()
    client.post("/gradio_api/upload", files={"files": ("a.png", b"x")}).raise_for_status()
    killed.kill()
    assert left(killed)
    running = Server(tmp_path).start()
    yield running
    running.kill()


def test_everyone_is_told_and_nothing_half_is_left(server):
    ann, ben = server.visitor(), server.visitor()
    runs = [(client, begin(client, **LONG)) for client in (ann, ben)]
    answers = {}
    threads = [
        threading.Thread(target=lambda at=at, run=run: answers.__setitem__(at, listen(*run))) for at, run in enumerate(runs)
    ]
    for thread in threads:
        thread.start()
    until(lambda: sum(line["event"] == "run started" for line in server.log) == 2, "both have begun or wait")
    server.signal()
    for thread in threads:
        thread.join(60)
    assert [answers[at].sentence.startswith("The server is being shut down") for at in answers] == [True, True]
    assert server.ended() == 0
    stopped = server.logged(event="server has stopped")
    assert stopped["runs_ended"] and stopped["everyone_told"]
    assert not any("Traceback" in line for line in server.lines) and left(server) == []
    gallery = Gallery(server.folder / "data" / "pictures")
    assert gallery.open() == Reconciled(), "every file has its row, and every row its file"
    gallery.close()


def test_a_signal_is_heard_whatever_the_server_does_just_then():
    """Also at the moment in which it begins to wait for one: 400 of them, at any time, while other threads hold it up."""
    script = """
import os, random, signal, sys, threading, time
import app

def spin():
    while True:
        sum(range(50))

def send():
    time.sleep(random.random() * 2e-3)
    os.kill(os.getpid(), signal.SIGTERM)

sys.setswitchinterval(1e-5)
for _ in range(2):
    threading.Thread(target=spin, daemon=True).start()
for _ in range(400):
    stop = app._stop_on_signals()
    threading.Thread(target=send, daemon=True).start()
    stop()
print("heard", flush=True)
os._exit(0)
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.communicate(timeout=120)[0].strip() == "heard"
    finally:
        process.kill()


def test_a_second_signal_ends_it_at_once():
    # In short waits, as the server's own: Python runs a handler whose signal came just before a wait when the wait is over.
    script = "import app, time; stop = app._stop_on_signals(); print('on', flush=True); stop(); " \
        "print('stopping', flush=True)\nwhile True: time.sleep(app.LOOK_UP_S)"  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for word in ("on", "stopping"):
        assert process.stdout.readline().strip() == word
        process.send_signal(signal.SIGINT)
    assert process.wait(60) == 128 + signal.SIGINT


def test_a_signal_before_the_page_is_up_ends_it_at_once(tmp_path):
    variables = {"CASCADE_DATA_DIR": str(tmp_path / "data"), "GRADIO_TEMP_DIR": str(tmp_path / "temporary")}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CASCADE_", "GRADIO_"))}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=kept | variables, stdout=subprocess.PIPE, text=True)
    until(lambda: list((tmp_path / "temporary").glob("run-*/.alive")), "it has begun")
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and said == "" and list((tmp_path / "temporary").iterdir()) == []
