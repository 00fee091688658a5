"""The front door's own decisions."""

from __future__ import annotations

import pytest

import app
from cascade_app.settings import Settings


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
