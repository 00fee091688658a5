"""Files that need not last: whose folder is cleared when, and whose is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cascade_app.temporary import LOCK, Temporary, every

ROOT = Path(__file__).resolve().parent.parent
HOLD = "import sys, pathlib; from cascade_app.temporary import Temporary\n" \
    "one = Temporary.begin(pathlib.Path(sys.argv[1])); (one.folder / 'upload').write_text('x')\n" \
    "print(one.folder, flush=True); sys.stdin.read(); one.end()"  # fmt: skip


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """`Temporary.begin` in a folder of the test's own."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "base"))
    begun = []

    def make() -> Temporary:
        begun.append(Temporary.begin(tmp_path / "base"))
        return begun[-1]

    yield make
    for one in begun:
        one.end()


def aged(path: Path, seconds: float) -> Path:
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_gradio_keeps_its_files_there_and_they_go_at_the_end(begin, tmp_path):
    one = begin()
    assert os.environ["GRADIO_TEMP_DIR"] == str(one.folder) and one.folder.parent == tmp_path / "base"
    (one.folder / "upload").write_text("x")
    others = tmp_path / "base" / "another-program"
    others.mkdir()
    one.end()
    assert [path.name for path in (tmp_path / "base").iterdir()] == ["another-program"]


def test_sweeping_takes_what_is_old_and_the_folders_it_leaves(begin):
    one = begin()
    old, new = one.folder / "aa" / "old.png", one.folder / "bb" / "new.png"
    for path in (old, new):
        path.parent.mkdir()
        path.write_text("x")
    aged(old, 4000)
    assert one.sweep() == 1
    aged(old.parent, 4000)
    aged(new.parent, 4000)
    assert one.sweep() == 0
    assert not old.parent.exists() and new.exists() and (one.folder / LOCK).exists()


def test_a_link_is_removed_and_not_followed(begin, tmp_path):
    one = begin()
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "picture.png").write_text("x")
    aged(kept / "picture.png", 4000)
    (one.folder / "link").symlink_to(kept)
    one.sweep(kept_s=-60)
    assert (kept / "picture.png").exists()


def test_the_folder_of_a_killed_process_goes_at_the_next_start_and_a_living_ones_stays(begin, tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "base")]
    processes = [subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    killed, living = (Path(process.stdout.readline().strip()) for process in processes)
    processes[0].send_signal(signal.SIGKILL)
    processes[0].wait()
    assert (killed / "upload").exists()
    begin()
    assert not killed.exists() and (living / "upload").exists()
    processes[1].communicate("")
    assert not living.exists() and processes[1].returncode == 0


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX users")
def test_somebody_elses_folder_or_link_is_not_used(tmp_path, monkeypatch):
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / f"cascade-studio-{os.getuid()}").symlink_to(elsewhere)
    one = Temporary.begin()
    assert not list(elsewhere.iterdir())
    one.end()


def test_a_timer_goes_on_after_a_failure(caplog):
    failed, again = threading.Event(), threading.Event()

    def action() -> None:
        if failed.is_set():
            again.set()
        failed.set()
        raise OSError(13, "Permission denied")

    ended = every(0.01, action)
    assert again.wait(30)
    ended.set()
    assert "clearing up failed" in caplog.text
