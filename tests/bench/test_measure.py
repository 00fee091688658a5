"""Timing in turn, ratios within rounds, and the line of JSON: with sides that sleep, so that what is slower is known."""

from __future__ import annotations

import json
import sys
import time

import pytest

from cascade_app.bench import measure


def test_sides_take_turns_and_warm_up_uncounted():
    seen: list[tuple[str, int]] = []
    sides = {name: lambda number, name=name: seen.append((name, number)) for name in ("a", "b")}
    times = measure.interleaved(sides, rounds=2)
    assert seen == [("b", -1), ("a", -1), ("a", 0), ("b", 0), ("b", 1), ("a", 1)]
    assert {name: len(one.wall_s) for name, one in times.items()} == {"a": 2, "b": 2}


def test_a_ratio_is_that_of_the_rounds():
    assert measure.ratio([2.0, 40.0, 3.0], [1.0, 10.0, 3.0]) == 2  # not 3 / 3, the ratio of the medians
    assert measure.quartiles([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]) == [1.5, 2.5]


def test_a_slowed_side_changes_the_ratio():
    def ratio(slow: str) -> float:
        sides = {name: lambda _number, s=(0.2 if name == slow else 0.01): time.sleep(s) for name in ("ours", "theirs")}
        times = measure.interleaved(sides, rounds=3, warmups=0)
        return measure.compared(times["theirs"], times["ours"])["ratio"]

    assert ratio("theirs") > 1 > ratio("ours")


def test_cpu_seconds_are_not_those_of_waiting():
    times = measure.interleaved({"sleeps": lambda _number: time.sleep(0.3)}, rounds=1, warmups=0)["sleeps"]
    assert times.wall_s[0] >= 0.3 > times.cpu_s[0]


def test_a_report_is_one_line_and_can_be_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results")
    measure.report("some", {"ratio": 2.0}, save=True)
    line = json.loads(capsys.readouterr().out)
    assert line == json.loads((tmp_path / "results" / "some-cpu.json").read_text())
    assert line["benchmark"] == "some" and line["ratio"] == 2.0 and line["device"] and line["threads"] >= 1


def test_a_process_of_its_own_counts_its_own_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "ROOT", tmp_path)
    held = "json.dumps({'peak': measure.peak_rss_bytes()})"
    (tmp_path / "large.py").write_text(
        f"import json\nfrom cascade_app.bench import measure\nx = b'1' * 200_000_000\nprint('more')\nprint({held})\n"
    )
    (tmp_path / "broken.py").write_text("raise ValueError('no such thing')\n")
    path = {"PYTHONPATH": f"{tmp_path}:{sys.path[0]}:{measure.__file__.rpartition('/cascade_app')[0]}"}
    assert 200e6 < measure.in_a_process("large", environment=path)["peak"] < 1e9
    assert measure.in_a_process("broken", environment=path)["error"] == "exit code 1: ValueError: no such thing"


@pytest.mark.parametrize("text", ["20", "20+", "a+b"])
def test_steps_are_two_numbers(text):
    with pytest.raises(SystemExit):
        measure.parser("", rounds=1).parse_args(["--steps", text])
    assert measure.parser("", rounds=1).parse_args(["--steps", "3+2"]).steps == (3, 2)
