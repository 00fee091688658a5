"""The command line: one table of fields with the page, one line for every mistake, and whole files or none."""

from __future__ import annotations

import argparse
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from cascade_app.cli import SECONDS, Bar, build_parser, flag_of, main
from cascade_app.errors import CheckpointDamaged, DownloadFailed, RenderFailed
from cascade_app.events import Event, ImageReady, StageStarted, StepDone, Waiting
from cascade_app.gallery.png import read_request
from cascade_app.request import FIELDS, GenerationRequest
from cascade_app.settings import Settings
from cascade_app.work import WHOLE, Work
from tests.fakes import SPEC, FakeBackend

ROOT = Path(__file__).resolve().parent.parent
KEYS = ["path", "seed", "prompt", "width", "height", "checkpoint", "seconds"]


@pytest.fixture
def checkpoint(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint without weights, made the default one; the engine of these tests needs none."""
    folder = tmp_path_factory.mktemp("checkpoint") / "small"
    folder.mkdir()
    sizes = {name: getattr(SPEC, name) for name in ("default_size_px", "min_size_px", "max_size_px", "size_step_px")}
    studio = {"name": "Small", "license": "ours", "defaults": {"prior_steps": 6, "decoder_steps": 3}, **sizes}
    (folder / "model_index.json").write_text(json.dumps({"studio": studio}))
    monkeypatch.setenv("CASCADE_CHECKPOINT", str(folder))
    return folder


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, the current one while the test runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def engine(**options) -> Callable[[Settings], FakeBackend]:
    return lambda settings: FakeBackend(**options)


def no_engine(settings: Settings) -> FakeBackend:
    raise AssertionError("the engine was loaded for a request that cannot be")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def one_line(text: str) -> str:
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert "Traceback" not in text
    assert len(text) < 700
    return text.strip()


def test_a_picture_is_written_with_its_request(checkpoint: Path, out: Path, capsys):
    assert main(["generate", "a boat", "-o", "a.png", "--seed", "7"], make_backend=engine()) == 0
    said = capsys.readouterr()
    assert said.err == "", "no progress off a terminal"
    assert said.out.startswith("a.png: 256 x 256 px, seed 7\n")
    assert names(out) == ["a.png"]
    request = read_request(out / "a.png")
    assert (request.prompt, request.seed, request.width) == ("a boat", 7, 256)
    assert (request.prior_steps, request.decoder_steps) == (6, 3), "the checkpoint's own defaults, as on the page"
    assert request.checkpoint == str(checkpoint)
    assert (out / "a.png").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_every_field_has_its_flag(checkpoint: Path, out: Path):
    typed = {
        "negative_prompt": "fog", "width": "320", "height": "256", "images": "1", "seed": "7", "prior_steps": "3",
        "prior_guidance": "2.5", "decoder_steps": "2", "decoder_guidance": "1.5", "sampler": "ddim", "prior_shift": "2",
        "guidance_rescale": "0.7", "guidance_start": "0.1", "guidance_stop": "0.9", "checkpoint": str(checkpoint),
    }  # fmt: skip
    assert {"prompt", *typed} == {field.name for field in FIELDS}
    flags = [word for field in FIELDS if field.name in typed for word in (flag_of(field), typed[field.name])]
    assert main(["generate", "a boat", "-o", "a.png", *flags], make_backend=engine()) == 0
    assert read_request(out / "a.png") == GenerationRequest.from_values({"prompt": "a boat", **typed})


def test_the_documented_flags_exist():
    parser = build_parser()
    given = parser.parse_args(["generate", "x", "-o", "a.png"])
    for flag in (
        "--negative --prior-steps --prior-guidance --decoder-steps --decoder-guidance --width --height --images --seed "
        "--sampler --checkpoint"
    ).split():
        assert any(flag == flag_of(field) for field in FIELDS), flag
    assert isinstance(given, argparse.Namespace)


def test_json_is_the_last_line_and_has_the_documented_keys(checkpoint: Path, out: Path, capsys):
    assert main(["generate", "a boat", "-o", "a.png", "--seed", "7", "--json"], make_backend=engine()) == 0
    made = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(made) == KEYS
    assert tuple(made["seconds"]) == SECONDS
    assert (made["path"], made["seed"], made["width"], made["height"]) == ("a.png", 7, 256, 256)
    assert made["checkpoint"] == str(checkpoint)


def test_several_images_are_numbered(checkpoint: Path, out: Path, capsys):
    command = ["generate", "a boat", "-o", "a.b.png", "--seed", "7", "--images", "3", "--json"]
    assert main(command, make_backend=engine()) == 0
    made = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(made) == [*KEYS, "images"]
    assert (made["path"], made["seed"]) == ("a.b-1.png", 7)
    assert made["images"] == [{"path": f"a.b-{n + 1}.png", "seed": 7 + n, "prompt": "a boat"} for n in range(3)]
    assert names(out) == ["a.b-1.png", "a.b-2.png", "a.b-3.png"]
    assert [read_request(out / one["path"]).seed for one in made["images"]] == [7, 8, 9]


def test_words_are_drawn_and_told_before_the_run(checkpoint: Path, out: Path, capsys):
    command = ["generate", "a {red|blue|green|teal} boat", "-o", "a.png", "--seed", "3", "--images", "4", "--style", "night"]
    assert main([*command, "--json"], make_backend=engine()) == 0
    said = capsys.readouterr()
    told = [one["prompt"] for one in json.loads(said.out)["images"]]
    assert said.err.splitlines() == [f"Sends: {text}" for text in dict.fromkeys(told)]
    assert len(set(told)) > 1 and all(text.endswith(" boat, at night, stars, a white moon") for text in told)
    assert [read_request(out / f"a-{n}.png").prompt for n in range(1, 5)] == told
    assert main([*command[:3], "b.png", "--style", "nigth"], make_backend=no_engine) == 2
    assert one_line(capsys.readouterr().err) == 'There is no style "nigth"; did you mean night?'


def test_a_prompt_that_is_cut_is_told(checkpoint: Path, out: Path, capsys):
    notice = "The encoder reads the first word of the prompt; left out: boat."
    assert main(["generate", "a boat", "-o", "a.png"], make_backend=engine(notice=notice)) == 0
    assert one_line(capsys.readouterr().err) == notice


def test_an_open_seed_is_drawn_and_told(checkpoint: Path, out: Path, capsys):
    seeds = []
    for _ in range(2):
        assert main(["generate", "a boat", "-o", "a.png", "--json"], make_backend=engine()) == 0
        seeds.append(json.loads(capsys.readouterr().out)["seed"])
        assert read_request(out / "a.png").seed == seeds[-1]
    assert seeds[0] != seeds[1]


def test_an_older_picture_is_replaced_by_a_whole_one(checkpoint: Path, out: Path):
    (out / "a.png").write_bytes(b"older")
    assert main(["generate", "a boat", "-o", "a.png"], make_backend=engine()) == 0
    assert read_request(out / "a.png").prompt == "a boat"
    assert names(out) == ["a.png"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([""], "Prompt is empty"),
        (["  \n "], "Prompt is empty"),
        (["x" * 20_000], "Prompt has 20,000 characters; the limit is 2,000"),
        (["a \udcff boat"], "not valid text"),
        (["x", "--negative", "x" * 20_000], "Negative prompt has 20,000"),
        (["x", "--seed", "nan"], "Seed must be a whole number"),
        (["x", "--seed", "-1"], "Seed is"),
        (["x", "--seed", "4294967296"], "Seed is"),
        (["x", "--prior-steps", "2.5"], "Prior steps must be a whole number from 1 to 200"),
        (["x", "--prior-steps", "0"], "Prior steps is"),
        (["x", "--prior-guidance", "inf"], "Prior guidance must be a number"),
        (["x", "--prior-guidance=-inf"], "Prior guidance must be a number"),
        (["x", "--decoder-guidance", "1e400"], "Decoder guidance must be a number"),
        (["x", "--decoder-steps", "[1, 2]"], "Decoder steps must be"),
        (["x", "--images", "17"], "Images is"),
        (["x", "--sampler", "euler"], "choose one of ddpm, ddim"),
        (["x", "--width", "250"], "Choose 224 or 256"),
        (["x", "--width", "64"], "Small makes 128 to 512 px"),
        (["x", "--height", "1e9"], "Height is"),
        (["x", "--guidance-start", "0.9", "--guidance-stop", "0.1"], "Guidance from"),
        (["x", "--checkpoint", "pokcet"], 'Checkpoint "pokcet" is neither a known name'),
        (["x", "--checkpoint", ""], "Checkpoint is empty"),
        (["x", "--checkpoint", "a\nb"], 'Checkpoint "a b"'),
        (["x", "--checkpoint", "~nobody-of-that-name"], "neither a known name"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_mistake_is_one_line_and_exit_code_2(checkpoint: Path, out: Path, capsys, words: list[str], why: str):
    assert main(["generate", "-o", "a.png", *words], make_backend=no_engine) == 2
    said = capsys.readouterr()
    assert why in one_line(said.err)
    assert said.out == ""
    assert names(out) == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["generate"], "required: -o/--output, PROMPT"),
        (["generate", "x"], "required: -o/--output"),
        (["generate", "x", "-o"], "expected one argument"),
        (["generate", "x", "-o", "a.png", "--steps", "4"], "unrecognized arguments: --steps 4"),
        (["generate", "x", "-o", "a.png", "--prior", "4"], "unrecognized arguments: --prior 4"),
        (["generate", "x", "-o", "a.png", "--seed"], "expected one argument"),
        (["generate", "x", "-o", "a.png", "y"], "unrecognized arguments: y"),
        (["generate", "x", "-o", "a.png", "--seed", "7", "--no\nsuch"], "unrecognized arguments: --no such"),
        (["paint"], "invalid choice: 'paint'"),
        (["generate", "x", "-o", "a.png", "z" * 50_000], "unrecognized arguments: zzz"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_wrong_usage_is_one_line_and_exit_code_2(out: Path, capsys, words: list[str], why: str):
    with pytest.raises(SystemExit) as caught:
        main(words, make_backend=no_engine)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert why in one_line(said.err)
    assert said.out == ""


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("a.jpg", "must end in .png"),
        ("a", "must end in .png"),
        ("", "must end in .png"),
        ("folder.png", "is a folder"),
        ("missing/a.png", "cannot be written: No such file"),
        ("file/a.png", "cannot be written: Not a directory"),
        ("x" * 300 + ".png", "cannot be written: File name too long"),
        ("/proc/a.png", "cannot be written"),
    ],
    ids=lambda value: value[:12],
)
def test_an_output_that_cannot_be_is_refused_before_rendering(checkpoint: Path, out: Path, capsys, output: str, why: str):
    (out / "folder.png").mkdir()
    (out / "file").write_text("in the way")
    assert main(["generate", "x", "-o", output], make_backend=no_engine) == 2
    assert why in one_line(capsys.readouterr().err)
    assert names(out) == ["file", "folder.png"]


def test_one_folder_among_several_outputs_is_found_before_rendering(checkpoint: Path, out: Path, capsys):
    (out / "a-2.png").mkdir()
    assert main(["generate", "x", "-o", "a.png", "--images", "3"], make_backend=no_engine) == 2
    assert '"a-2.png" is a folder' in one_line(capsys.readouterr().err)


def test_a_folder_without_permission(checkpoint: Path, out: Path, capsys):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (out / "locked").mkdir(mode=0o500)
    assert main(["generate", "x", "-o", "locked/a.png"], make_backend=no_engine) == 2
    assert "Permission denied" in one_line(capsys.readouterr().err)


def test_a_bad_setting_is_a_mistake(checkpoint: Path, out: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CASCADE_DTYPE", "float8")
    assert main(["generate", "x", "-o", "a.png"], make_backend=no_engine) == 2
    assert "CASCADE_DTYPE" in one_line(capsys.readouterr().err)


def test_serve_takes_its_port_as_the_setting(capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CASCADE_PORT", "1")
    assert main(["serve", "--port", "70000"]) == 2
    assert 'CASCADE_PORT is "70000"' in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("failure", "code", "why"),
    [
        (CheckpointDamaged("prior/config.json is missing. Copy the checkpoint again."), 2, "prior/config.json is missing."),
        (DownloadFailed("prior/ could not be fetched. Try again later."), 1, "Try again later."),
        (RenderFailed("The device ran out of memory; choose a smaller size."), 1, "ran out of memory"),
        (ZeroDivisionError("division\nby zero"), 1, "ZeroDivisionError: division by zero (unexpected; CASCADE_DEBUG=1"),
    ],
)
def test_a_run_that_fails_leaves_one_line_and_no_file(checkpoint: Path, out: Path, capsys, failure, code: int, why: str):
    assert main(["generate", "x", "-o", "a.png"], make_backend=engine(failure=failure)) == code
    said = capsys.readouterr()
    assert why in one_line(said.err)
    assert said.out == ""
    assert names(out) == []


def test_an_unexpected_error_shows_where_when_asked(checkpoint: Path, out: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CASCADE_DEBUG", "1")
    assert main(["generate", "x", "-o", "a.png"], make_backend=engine(failure=ZeroDivisionError("oh"))) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.splitlines()[-1].startswith("ZeroDivisionError: oh")


class Interrupted(FakeBackend):
    """An engine during whose third step someone presses Ctrl+C; `after` pictures are ready by then."""

    def generate(self, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
        events = super().generate(request, work)
        try:
            for number, event in enumerate(events):
                yield event
                if number == 3 and request.images == 1:
                    raise KeyboardInterrupt
                if isinstance(event, ImageReady) and event.index == 1:
                    raise KeyboardInterrupt
        finally:
            events.close()


def test_ctrl_c_stops_the_engine_and_leaves_no_half_file(checkpoint: Path, out: Path, capsys):
    backend = Interrupted()
    assert main(["generate", "x", "-o", "a.png"], make_backend=lambda _: backend) == 130
    said = capsys.readouterr()
    assert one_line(said.err) == "Cancelled."
    assert said.out == ""
    assert names(out) == []
    assert backend.closed_early == 1
    assert backend.lock.acquire(blocking=False), "the engine is free again"


def test_ctrl_c_keeps_what_was_finished(checkpoint: Path, out: Path):
    command = ["generate", "x", "-o", "a.png", "--images", "3", "--seed", "1"]
    assert main(command, make_backend=lambda _: Interrupted()) == 130
    assert names(out) == ["a-1.png", "a-2.png"]
    assert read_request(out / "a-2.png").seed == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "70")
    screen = Terminal()
    bar = Bar(screen)
    bar.show(Waiting("Loading Pocket"))
    bar.show(StageStarted("prior", 20))
    bar.show(StepDone("prior", 5, 20, 0.25, 3.0, 9.0))
    bar.close()
    frames = screen.getvalue().split("\r\x1b[K")[1:]
    assert frames[0] == "Loading Pocket"
    assert frames[1] == "Stage C, the prior"
    assert frames[2].startswith("[#######---------------------]  25%  Stage C, the prior, step 5 of 20")
    assert len(frames[2]) < 70, "a line that wraps could not be drawn over"
    assert frames[-1] == "", "the line is cleared at the end"


def test_no_bar_elsewhere():
    stream = io.StringIO()
    bar = Bar(stream)
    bar.show(Waiting("Loading"))
    bar.close()
    assert stream.getvalue() == ""


def python(*words: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cascade_app", *words], cwd=ROOT, capture_output=True, text=True, timeout=300, **options
    )


def test_without_a_command_it_says_what_there_is():
    done = python()
    assert (done.returncode, done.stderr) == (0, "")
    assert "generate" in done.stdout
    assert "serve" in done.stdout


def test_help_lists_every_flag_with_its_limits():
    text = " ".join(python("generate", "--help").stdout.split())
    for field in FIELDS:
        assert field.help.rstrip(".") in text
        assert field.name == "prompt" or f"{flag_of(field)} " in text
    assert "0 to 4294967295" in text
    assert "FILE-1.png" in text


def test_a_mistake_is_found_before_the_engine_is_imported(checkpoint: Path):
    code = (
        "import sys; from cascade_app.cli import main; code = main(['generate', 'x', '-o', '/tmp/x.png', '--seed', 'x']);"
        "print(code, *({'torch', 'gradio', 'diffusers'} & set(sys.modules)))"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2"]
    assert time.monotonic() - started < 5, "well under a second on a free machine"


# --- with the real engine and the bundled checkpoint -----------------------------------------------------------------

QUICK = ("--prior-steps", "4", "--decoder-steps", "3")


def start(*words: str, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cascade_app", "generate", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **options)


def test_the_same_seed_gives_the_same_pixels_in_another_process(pocket: Path, tmp_path: Path):
    prompt = "a red sun over blue mountains"
    command = (prompt, "--seed", "7", "--images", "2", "--json", *QUICK)
    runs = {name: start(*command, "-o", str(tmp_path / f"{name}.png"), stderr=subprocess.PIPE) for name in "ab"}
    for process in runs.values():
        said, complaints = process.communicate(timeout=300)
        assert (process.returncode, complaints) == (0, "")
        made = json.loads(said.splitlines()[-1])
        assert list(made) == [*KEYS, "images"]
        assert tuple(made["seconds"]) == SECONDS
        assert made["seconds"]["total"] > made["seconds"]["prior"] > 0
        assert [read_request(Path(one["path"])).seed for one in made["images"]] == [7, 8]
    pixels = {path.stem: Image.open(path).convert("RGB") for path in tmp_path.glob("*.png")}
    assert all(image.size == (made["width"], made["height"]) for image in pixels.values())
    assert pixels["a-1"].tobytes() == pixels["b-1"].tobytes()
    assert pixels["a-2"].tobytes() == pixels["b-2"].tobytes()
    assert pixels["a-1"].tobytes() != pixels["a-2"].tobytes()
    assert read_request(tmp_path / "a-1.png").prompt == prompt


def test_a_truncated_checkpoint_is_one_line(pocket: Path, tmp_path: Path):
    broken = tmp_path / "broken"
    shutil.copytree(pocket, broken)
    weights = next((broken / "prior").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1000])
    process = start("x", "--checkpoint", str(broken), "-o", str(tmp_path / "a.png"), stderr=subprocess.PIPE)
    said, complaints = process.communicate(timeout=300)
    assert process.returncode == 2
    assert said == ""
    assert weights.name in one_line(complaints)
    assert names(tmp_path) == ["broken"]


def test_ctrl_c_in_the_middle_of_a_real_run(pocket: Path, tmp_path: Path):
    ours, theirs = pty.openpty()
    try:
        process = start(
            "x", "-o", str(tmp_path / "a.png"), "--prior-steps", "200", "--images", "4", stderr=theirs,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        os.close(theirs)
        screen = ""
        while "step 2 of 200" not in screen:
            screen += os.read(ours, 4096).decode()
        process.send_signal(signal.SIGINT)
        pressed = time.monotonic()
        said, _ = process.communicate(timeout=120)
        took_s = time.monotonic() - pressed
        screen = _read_rest(ours)
    finally:
        os.close(ours)
    assert process.returncode == 130
    assert said == ""
    assert screen.replace("\r", "").splitlines()[-1].endswith("Cancelled.")
    assert names(tmp_path) == []
    assert took_s < 20, "it stops within a step"


def _read_rest(terminal: int) -> str:
    text = b""
    try:
        while data := os.read(terminal, 4096):
            text += data
    except OSError:  # how Linux says that the other end is closed
        pass
    return text.decode(errors="replace")
