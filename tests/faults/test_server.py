"""Real faults happen to a real server, one by one: each ends in a sentence, a line of the log, and the next picture."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.faults.server import Server, begin, listen, make, until
from tests.faults.test_gallery import HOLD

SMALL_FILE = 12_000  # bytes; a picture has more, and so has what SQLite writes for one
# `app.py`, which waits for half a second where it would for half a minute until another process has done with the index.
IMPATIENT = "import sys, app; from cascade_app.gallery import index; index.BUSY_S = 0.5; sys.exit(app.main())"


@pytest.fixture(scope="module")
def server(pocket, tmp_path_factory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("faults")
    shutil.copytree(pocket, folder / "checkpoint")
    running = Server(folder, {"CASCADE_CHECKPOINT": str(folder / "checkpoint")}, ("-c", IMPATIENT)).start()
    yield running
    running.signal()
    assert running.ended() == 0
    assert not any("Traceback" in line for line in running.lines)


@pytest.fixture
def client(server) -> Iterator[httpx.Client]:
    """A visitor, who gets a picture whatever happened in the test."""
    one = server.visitor()
    yield one
    try:
        answer = make(one)
        assert answer.files, f"{answer}\n" + "\n".join(server.lines)
        health = one.get("/health")
        assert health.status_code == 200 and health.json()["state"] == "ready", health.text
    finally:
        one.close()


def says(sentence: str, server: Server) -> str:
    """The sentence without its reference, which is in the log, with no path and no traceback."""
    said, _, reference = sentence.rstrip(").").partition(" (reference ")
    assert reference, sentence
    line = server.logged(event="fault", reference=reference)
    assert line["level"] == "error" and line["at"]
    assert str(server.folder) not in sentence and "Traceback" not in sentence
    return said


@contextmanager
def full_disk(server: Server) -> Iterator[None]:
    """No file of the server can grow beyond a few pages, as on a disk that is full."""
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (SMALL_FILE, before[1]))
    try:
        yield
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)


def pictures(server: Server) -> list[Path]:
    """All visitors', the newest last."""
    return sorted((server.folder / "data" / "pictures").glob("*/*.png"), key=lambda path: path.name)


def test_the_disk_is_full_when_a_picture_is_saved(server, client):
    before = pictures(server)
    with full_disk(server):
        answer = make(client)
    assert says(answer.sentence, server).startswith("The picture could not be saved: File too large")
    assert pictures(server) == before and not list((server.folder / "data").rglob(".saving-*"))


def test_the_disk_is_full_when_a_file_comes(server, client):
    assert make(client).files
    kept, stranger = pictures(server)[-1].read_bytes(), server.visitor()
    with full_disk(server):
        dropped = stranger.post("/pictures", content=kept)
        uploaded = stranger.post("/gradio_api/upload", files={"files": ("a.png", b"x" * 100_000)})
    stranger.close()
    assert dropped.status_code == 507 and "could not be saved" in says(dropped.json()["error"], server)
    assert uploaded.status_code == 507 and "disk is full" in says(uploaded.json()["error"], server)


def test_the_disk_is_full_when_a_thumbnail_is_made(server, client):
    assert make(client).files
    id = pictures(server)[-1].stem[-32:]
    with full_disk(server):
        answer = client.get(f"/pictures/{id}/thumbnail.jpg")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"


def test_a_file_vanishes(server, client):
    assert make(client).files
    path = pictures(server)[-1]
    path.unlink()
    answer = client.get(f"/pictures/{path.stem[-32:]}.png")
    assert answer.status_code == 404 and answer.text == "There is no such picture here; it may have been removed."
    assert server.heard(lambda line: "have vanished, of 1 pictures" in line)


@contextmanager
def locked_index(server: Server) -> Iterator[None]:
    """Another process is writing to the gallery's index, and does not come to an end."""
    command = [sys.executable, "-c", HOLD, str(server.folder / "data" / "pictures" / "index.sqlite3")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline().strip() == "held"
        try:
            yield
        finally:
            holder.stdin.close()


def test_the_gallery_is_locked(server, client):
    assert make(client).files
    kept, stranger = pictures(server)[-1], server.visitor()
    with locked_index(server):
        answer = make(client)
        dropped = stranger.post("/pictures", content=kept.read_bytes())
        shown = client.get(f"/pictures/{kept.stem[-32:]}.png")
    stranger.close()
    assert says(answer.sentence, server).startswith("The gallery's index cannot be used: database is locked")
    assert dropped.status_code == 507 and "database is locked" in says(dropped.json()["error"], server)
    assert shown.content == kept.read_bytes(), "who only looks need not wait"


def test_the_whole_gallery_vanishes(server, client):
    assert make(client).files
    shutil.rmtree(server.folder / "data" / "pictures")
    assert client.get("/").status_code == 200
    assert make(client).files and len(pictures(server)) == 1


def test_the_index_alone_vanishes(server, client):
    assert make(client).files
    id = pictures(server)[-1].stem[-32:]
    for path in (server.folder / "data" / "pictures").glob("index.sqlite3*"):
        path.unlink()
    assert client.get(f"/pictures/{id}.png").status_code == 200, "found again from the files"


def test_the_checkpoint_is_deleted_while_in_use(server, client):
    checkpoint = server.folder / "checkpoint"
    checkpoint.rename(server.folder / "away")
    try:
        answer = make(client)
        assert "neither a known name" in answer.sentence and "Traceback" not in answer.sentence, answer
        assert server.logged(event="run ended", outcome="refused", error="CheckpointNotFound")
        assert client.get("/").status_code == 200
    finally:
        (server.folder / "away").rename(checkpoint)


def test_the_checkpoint_is_deleted_in_the_middle_of_a_run(server, client):
    checkpoint = server.folder / "checkpoint"
    number = begin(client, prior_steps=60, decoder_steps=60)
    until(lambda: "cascade_runs_in_progress 1.0" in client.get("/metrics").text, "it has begun")
    checkpoint.rename(server.folder / "away")
    try:
        assert listen(client, number).files, "its weights are at hand until it ends"
    finally:
        (server.folder / "away").rename(checkpoint)


def test_the_folder_of_temporary_files_vanishes(server, client):
    for folder in (server.folder / "temporary").glob("run-*"):
        shutil.rmtree(folder)
    uploaded = client.post("/gradio_api/upload", files={"files": ("a.png", b"x" * 1000)})
    assert uploaded.status_code == 200, uploaded.text


def test_no_prompt_is_in_the_log(server, client):
    assert make(client, prompt="an unmistakable heron").files
    assert make(client, prompt="an unmistakable heron", width=193).sentence
    with full_disk(server):
        assert make(client, prompt="an unmistakable heron").sentence
    assert not any("heron" in line or "unmistakable" in line for line in server.lines)
