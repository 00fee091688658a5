"""Sketch, develop and vary from the command line: a picture's file is all that is needed to go on from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from cascade_app.cli import main
from cascade_app.gallery.png import read_record
from cascade_app.negative import Start
from cascade_app.settings import Settings
from tests.fakes import FakeBackend

QUICK = ("--prior-steps", "3", "--decoder-steps", "2")


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the current one while the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> tuple[int, FakeBackend]:
    backend = FakeBackend()
    return main(words, make_backend=lambda settings: backend), backend


def one_line(text: str) -> str:
    assert text.count("\n") == 1 and text.endswith("\n") and "Traceback" not in text
    return text


def test_sketches_are_small_pictures_with_their_negatives(out: Path, capsys):
    code, backend = run("sketch", "a boat", "-o", "s.png", "--images", "3", "--seed", "7", "--json", *QUICK)
    assert code == 0 and backend.steps_done == backend.prior_steps_done == 3
    made = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [one["seed"] for one in made["images"]] == [7, 8, 9]
    for number in (1, 2, 3):
        record = read_record(out / f"s-{number}.png")
        assert (record.kind, record.action, record.request.seed) == ("sketch", "sketch", 6 + number)
        assert record.negative is not None
    assert run("sketch", "a boat", "-o", "one.png", "--seed", "7")[0] == 0
    assert "one.png: a sketch for 256 x 256 px, seed 7\n" in capsys.readouterr().out


def test_a_sketch_is_developed_to_the_picture_of_the_whole_run(out: Path, capsys):
    for command, name in (("sketch", "s.png"), ("generate", "g.png")):
        run(command, "a boat", "-o", name, "--seed", "7", *QUICK)
    code, backend = run("develop", "s.png", "-o", "d.png")
    assert code == 0 and backend.prior_steps_done == 0
    assert Image.open("d.png").tobytes() == Image.open("g.png").tobytes()
    record = read_record(out / "d.png")
    assert (record.kind, record.action, record.parents) == ("picture", "develop", (read_record(out / "s.png").id,))
    assert run("develop", "d.png", "-o", "e.png", "--decoder-steps", "4", "--decoder-guidance", "1.5")[0] == 0
    other = read_record(out / "e.png")
    assert (other.request.decoder_steps, other.request.decoder_guidance, other.parents) == (4, 1.5, (record.id,))
    assert other.negative == record.negative
    before = (out / "e.png").read_bytes()
    run("develop", "d.png", "-o", "e.png", "--decoder-steps", "4", "--decoder-guidance", "1.5")
    assert (out / "e.png").read_bytes() == before, "the same command writes the same bytes again"


def test_a_picture_is_varied(out: Path, capsys):
    run("generate", "a boat", "-o", "g.png", "--seed", "7", *QUICK)
    code, _ = run("vary", "g.png", "-o", "v.png", "--images", "2", "--amount", "subtle", "--seed", "50", "--sketch")
    assert code == 0
    first, second = (read_record(out / f"v-{number}.png") for number in (1, 2))
    assert (first.kind, first.action, first.parents) == ("sketch", "vary", (read_record(out / "g.png").id,))
    assert [one.start.noise.to_json()["mix"][:2] for one in (first, second)] == [[7, 50], [7, 51]]
    assert run("vary", "g.png", "-o", "r.png", "--how", "renoise", "--amount", "0.5", "--prompt", "a ship")[0] == 0
    other = read_record(out / "r.png")
    assert (other.kind, other.request.prompt) == ("picture", "a ship")
    assert isinstance(other.start, Start) and other.start.source == read_record(out / "g.png").negative


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("develop", "missing.png"), "missing.png is not a readable PNG file"),
        (("develop", "plain.png"), "plain.png holds no Cascade Studio settings"),
        (("develop", "."), "is not a readable PNG file"),
        (("develop", "g.png", "--decoder-steps", "0"), "Decoder steps is"),
        (("develop", "g.png", "--checkpoint", "pokcet"), "neither a known name"),
        (("vary", "g.png", "--amount", "wild"), "must be a number from 0 to 1"),
        (("vary", "g.png", "--amount", "nan"), "must be a number from 0 to 1"),
        (("vary", "g.png", "--how", "magic"), "choose slerp or renoise"),
        (("vary", "g.png", "--images", "17"), "Images is"),
        (("vary", "g.png", "--seed", "x"), "Seed must be a whole number"),
        (("vary", "g.png", "--prompt", " "), "Prompt is empty"),
        (("vary", "g.png", "--checkpoint", ""), "Checkpoint is empty"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_one_line_before_the_engine_loads(out: Path, capsys, words: tuple[str, ...], why: str):
    run("generate", "a boat", "-o", "g.png", *QUICK)
    Image.new("RGB", (8, 8)).save("plain.png")
    capsys.readouterr()

    def no_engine(settings: Settings) -> FakeBackend:
        raise AssertionError("the engine was loaded for what cannot be")

    assert main([*words, "-o", "a.png"], make_backend=no_engine) == 2
    assert why in one_line(capsys.readouterr().err) and not (out / "a.png").exists()
