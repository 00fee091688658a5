"""The soak, short and against a real server whose engine draws; and its arithmetic, on numbers whose answer is known."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest

from cascade_app.bench import measure, soak

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
    assert result["lost"] == 0 and result["errors"] == {} and result["exit_status"] == 0 and soak.faults(result) == []
    assert set(result["given_up"]) == set(soak.BAD), "one client of each kind that misbehaves"
    refused = sum(result["announced"].values())
    assert result["asked"] == result["answers"] + refused + sum(result["given_up"].values())
    assert result["answers"] >= 28 and result["pictures_per_min"] > 0
    for kind in ("page", "api"):
        assert result["fairness"][kind]["largest_over_smallest"] >= 1 <= result["fairness"][kind]["p95_over_median"]


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


def test_what_makes_a_soak_fail():
    well = {"asked": 9, "answers": 7, "lost": 0, "lost_by": {}, "errors": {}, "exit_status": 0}
    assert soak.faults(well) == []
    for changed in ({"lost": 1}, {"errors": {"HTTP 500": 2}}, {"answers": 0}, {"exit_status": -9}):
        assert len(soak.faults(well | changed)) == 1, changed


def test_the_slope_of_a_line_and_of_noise():
    slope, low, high = measure.least_squares([(x, 3 * x + 1) for x in range(10)])
    assert slope == pytest.approx(3) and low == pytest.approx(3) and high == pytest.approx(3)
    slope, low, high = measure.least_squares([(0, 0.0), (1, 1.0), (2, 0.0), (3, 1.0)])
    # by hand: slope 0.2, residual variance 0.8 / 2, spread of x 5, t(2) 4.303
    assert slope == pytest.approx(0.2) and high - slope == pytest.approx(4.303 * (0.4 / 5) ** 0.5, abs=1e-3)
    assert low < 0 < high


@pytest.mark.parametrize(("freedom", "known"), [(1, 12.706), (2, 4.303), (4, 2.776), (10, 2.228), (30, 2.042), (1000, 1.962)])
def test_t(freedom: int, known: float):
    assert measure.t_quantile(freedom) == pytest.approx(known, abs=0.03)


@pytest.mark.parametrize("slope", [0.0, 6e6])
def test_memory_that_grows_and_memory_that_does_not(slope: float):
    """The interval holds the true slope in about 95 of 100 cases, and is no wider than the noise makes it."""
    held = 0
    for seed in range(100):
        dice = random.Random(seed)
        low, high = soak.memory([(s, 4e8 + slope * s / 60 + dice.gauss(0, 1e5)) for s in range(200)])["interval"]
        held += low <= slope <= high
        assert high - low < 2e5
    assert 88 <= held < 100
    assert soak.memory([(0, 1), (1, 2)])["slope_bytes_per_min"] is None


def test_fairness_is_between_clients():
    alike = soak.fairness([(client, 2.0) for client in range(4)])
    starved = soak.fairness([(0, 8.0), (0, 12.0), *((client, 2.0) for client in range(1, 21))])
    assert alike["largest_over_smallest"] == alike["p95_over_median"] == 1
    assert starved["largest_over_smallest"] == 5 and starved["longest_s"] == 12 and starved["clients"] == 21
    assert soak.fairness([]) == {"clients": 0}


def test_refusals_in_a_sentence_are_apart_from_errors():
    tally = soak.Tally()
    for sentence in ("The queue is full: 64 wait already.", "The queue is full: 65 wait already.", "null", ""):
        tally.refused(sentence)
    assert tally.announced == {"The queue is full: # wait already.": 2} and tally.errors == {"null": 1, "no sentence": 1}
