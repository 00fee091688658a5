"""The front door's own decisions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import app
from cascade_app.settings import Settings

ROOT = Path(app.__file__).parent


@pytest.mark.parametrize(
    ("variables", "host"),
    [
        ({}, "127.0.0.1"),
        ({"SPACE_ID": "someone/cascade"}, "0.0.0.0"),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, "0.0.0.0"),
        ({"SPACE_ID": "someone/cascade", "CASCADE_HOST": "10.0.0.1"}, "10.0.0.1"),
    ],
)
def test_a_hosted_space_is_reachable_from_outside(monkeypatch, variables, host):
    for name in ("SPACE_ID", "GRADIO_SERVER_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert app.hosted(Settings.from_env()).host == host


def test_a_bad_setting_is_a_sentence_and_status_2(monkeypatch, capfd):
    monkeypatch.setenv("CASCADE_DTYPE", "float8")
    assert app.main() == 2
    assert capfd.readouterr().err.startswith('CASCADE_DTYPE is "float8"')


def test_gradio_tabulates_none_of_its_events(tmp_path):
    """Its table of the last 10,000 would be made anew after every one."""
    code = """
import app
def serve(settings, temporary):
    import gradio
    queue = gradio.Blocks()._queue
    queue.events_recorded = 5000
    print(queue.compute_analytics_summary([{"function": "a", "status": "success", "process_time": 1.0}]))
    return 0
app.serve = serve
app.main()
"""
    variables = {"CASCADE_DATA_DIR": str(tmp_path / "data"), "GRADIO_TEMP_DIR": str(tmp_path / "temporary")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True)
    assert done.stdout.strip() == "{'functions': {}}", done.stderr
