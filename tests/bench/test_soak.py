"""The soak, short and against a real server whose engine draws."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cascade_app.bench import measure, soak, verdict

SERVER = (sys.executable, "-m", "tests.hostile.server")
# The same, and gone with the sixth picture.
MORTAL = """
import os
import sys
sys.path.pop(0)  # where this file is, which is named as the one it serves
from tests.hostile import server

class Mortal(server.QuickEngine):
    left = 6

    def _run(self, request, work):
        Mortal.left -= 1
        if not Mortal.left:
            os._exit(3)
        yield from super()._run(request, work)

server.QuickEngine = Mortal
server.main()
"""


@pytest.fixture
def quick(monkeypatch):
    """The soak's server with an engine that draws."""
    real = soak.soak
    monkeypatch.setattr(soak, "soak", lambda arguments: real(arguments, SERVER))


def test_a_short_soak(quick, capsys):
    result = soak.main(["--clients", "31", "--seconds", "6", "--drain", "240", "--warm-up", "0", "--steps", "1+1"])
    assert result["benchmark"] == "soak" and f'"answers": {result["answers"]}' in capsys.readouterr().out
    assert result["lost"] == 0 and result["errors"] == {} and result["exit_status"] == 0 and verdict.faults(result) == []
    assert set(result["given_up"]) == set(soak.BAD), "one client of each kind that misbehaves"
    refused = sum(result["announced"].values())
    assert result["asked"] == result["answers"] + refused + sum(result["given_up"].values())
    assert result["answers"] >= 28 and result["pictures_per_min"] > 0
    for kind in ("page", "api"):
        assert result["fairness"][kind]["largest_over_smallest"] >= 1 <= result["fairness"][kind]["p95_over_median"]


def test_everyone_s_first_wait_is_left_out():
    waits = [(1, "page", 9.0), (2, "api", 8.0), (1, "page", 2.0), (2, "api", 3.0), (3, "page", 1.0), (1, "page", 4.0)]
    tally = soak.Tally(waits=waits)
    assert tally.later_waits("page") == [(1, 2.0), (1, 4.0)] and tally.later_waits("api") == [(2, 3.0)]


def test_a_soak_whose_first_picture_is_refused_says_so(quick):
    with pytest.raises(RuntimeError, match="no first picture"):
        soak.main(["--clients", "1", "--seconds", "1", "--size", "9000x9000"])


def test_a_soak_whose_server_dies_is_a_failure(tmp_path):
    """As a user runs it, with an `app.py` that is gone after a few pictures."""
    (tmp_path / "app.py").write_text(MORTAL, encoding="utf-8")
    script = "import runpy, sys, pathlib; from cascade_app.bench import measure; measure.ROOT = pathlib.Path(sys.argv.pop(1)); " \
        "runpy.run_module('cascade_app.bench.soak', run_name='__main__', alter_sys=True)"  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), "--clients", "8", "--seconds", "6", "--steps", "1+1"],
        cwd=measure.ROOT, env={**os.environ, "PYTHONPATH": str(measure.ROOT)}, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["exit_status"] == 3 and "The server ended with the status 3." in done.stderr
    assert result["lost"] >= 1 and f"{result['lost']} of {result['asked']} answers were lost" in done.stderr


def test_refusals_in_a_sentence_are_apart_from_errors():
    tally = soak.Tally()
    for sentence in ("The queue is full: 64 wait already.", "The queue is full: 65 wait already.", "null", ""):
        tally.refused(sentence)
    assert tally.announced == {"The queue is full: # wait already.": 2} and tally.errors == {"null": 1, "no sentence": 1}
