"""Every benchmark at its smallest, on a random cascade: it runs, and its last line holds what the issue names."""

from __future__ import annotations

import json
import os
import sys
import time

import pytest
import torch
from PIL import Image

from cascade_app.bench import batch, compare, develop, gpu, interval, previews, profile, scaling, startup, waiting
from cascade_app.bench.studio import STAGES, Made, Studio, ask
from cascade_app.bench.weights import mid_size
from cascade_app.diffusion.packed import can_pack
from cascade_app.runtime import loader
from cascade_app.runtime.footprint import count_unet
from tests.small import write_checkpoint, x0_scheduler

SMALL = ["--rounds", "1", "--steps", "2+1", "--size", "64x64"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(write_checkpoint(tmp_path_factory.mktemp("bench"), scheduler=x0_scheduler()))


def last_line(capsys) -> dict:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


def test_compare(folder, capsys):
    compare.main([*SMALL, "--steps", "2+2", "--size", "128x128", "--checkpoint", folder, "--no-rss"])
    result = last_line(capsys)
    assert {"ratio_float32", "ratio_default", "ratio_default_best", "max_pixel_difference"} <= set(result)
    assert result["max_pixel_difference"] <= 1
    assert set(result["seconds"]) == set(compare.SIDES)
    for seconds in result["seconds"].values():
        assert set(seconds) == {*STAGES, "total"} and seconds["prior"] > 0
        assert sum(seconds[stage] for stage in STAGES) <= 1.05 * seconds["total"]


def test_ratios_of_memory():
    peaks = {"studio-default": 3, "diffusers-model-card": 4, "studio-float32": 5, "diffusers-float32": 10}
    result = compare.memory(peaks.get)
    assert (result["rss_ratio"], result["rss_ratio_float32"]) == (0.75, 0.5)
    assert compare.memory({**peaks, "diffusers-model-card": None}.get)["rss_ratio"] is None


@pytest.mark.parametrize(("slow", "quicker"), [("diffusers-float32", True), ("studio-float32", False)])
def test_compare_sees_a_slowed_side(slow, quicker):
    arguments = compare._arguments(["--rounds", "3"])
    result = compare.compare({name: side(0.2 if name == slow else 0.01) for name in compare.FLOAT32}, arguments)
    assert (result["ratio_float32"] > 1) == quicker
    assert (result["stage_ratio_float32"]["prior"] > 1) == quicker


def test_compare_sees_another_picture():
    arguments = compare._arguments(["--rounds", "1"])
    sides = dict(zip(compare.FLOAT32, (side(0, colour=10), side(0, colour=17)), strict=True))
    assert compare.compare(sides, arguments)["max_pixel_difference"] == 7


def side(seconds: float, *, colour: int = 0):
    """A side that sleeps, and makes a picture of one colour."""

    def make(_request) -> Made:
        time.sleep(seconds)
        picture = Image.new("RGB", (8, 8), (colour, 0, 0))
        return Made([picture], {**dict.fromkeys((*STAGES, "total"), 0.01 + seconds)})

    return make


def test_previews(folder, capsys):
    previews.main([*SMALL, "--checkpoint", folder])
    result = last_line(capsys)
    assert result["ratio"] > 0 and result["same_picture"] is True
    assert result["previews_on"] > 0 == result["previews_off"]


def test_develop(folder, capsys):
    develop.main([*SMALL, "--checkpoint", folder])
    result = last_line(capsys)
    assert result["ratio"] > 0 and result["same_picture"] is True
    assert result["text_encoder_calls"] == 0 and result["negative_bytes"] == 2 * 16 * 2 * 2


def test_batch(folder, capsys):
    batch.main([*SMALL, "--checkpoint", folder, "--images", "1,2", "--dtype", "float32"])
    result = last_line(capsys)
    assert result["ratio"]["1"] == 1 and set(result["ratio"]) == {"1", "2"}
    assert result["max_pixel_difference"] <= 1


def test_interval(folder, capsys):
    interval.main([*SMALL, "--checkpoint", folder, "--intervals", "0-0.5,0-1"])
    result = last_line(capsys)
    assert result["intervals"]["0-1"]["mean_difference"] == 0 and result["intervals"]["0-1"]["psnr_db"] == 99
    assert result["intervals"]["0-0.5"]["mean_difference"] > 0 < result["another_seed"]["mean_difference"]


def test_scaling(folder, capsys):
    scaling.main(["--rounds", "1", "--steps", "1+1", "--checkpoint", folder, "--no-memory",
                  "--sides", "64,128", "--times", "1,2", "--images", "1,2"])  # fmt: skip
    result = last_line(capsys)
    assert set(result["worst_time"]) == {"resolution", "steps", "images"}
    flop = {axis: [row["flop"] for row in rows] for axis, rows in result["growth"].items()}
    assert (
        2.5 < flop["resolution"][1] / flop["resolution"][0] < 4.5
    )  # four times the pixels, and a part that is constant
    assert 1.9 < flop["images"][1] / flop["images"][0] <= 2.01


def test_operations_of_packed_layers_are_counted(folder, monkeypatch):
    """Packed, queries are made along with the keys and values of the conditioning: a little more."""
    arguments = scaling._arguments(["--steps", "2+2", "--size", "64x64", "--checkpoint", folder])

    def flop(packs: bool) -> int:
        with monkeypatch.context() as patch:
            patch.setattr(loader, "can_pack", lambda dtype: packs)
            return scaling.counted(Studio(folder, dtype="float32"), ask(arguments, 0))[0]

    assert flop(False) <= flop(can_pack(torch.float32)) < 1.1 * flop(False)


def test_waiting(folder, capsys):
    waiting.main([*SMALL, "--checkpoint", folder, "--busy", "1"])
    result = last_line(capsys)
    assert set(result["seconds"]["1"]) == set(waiting.SIDES) and min(result["seconds"]["1"].values()) > 0
    assert set(result["ratio_asleep"]) == set(result["ratio_spinning"]) == {"1"}


def test_busy_processes_end_with_what_they_stood_beside():
    with waiting.busy_processes(2) as running:
        assert [process.poll() for process in running] == [None, None]
    assert None not in [process.poll() for process in running] and len(running) == 2


def test_growth_beyond_the_operations_is_seen():
    rows = [{"flop": 1, "seconds": 1.0}, {"flop": 4, "seconds": 6.0}, {"flop": 8, "seconds": 8.0}]
    assert scaling.worst(rows, "seconds", "flop") == 1.5
    assert scaling.worst(rows, "activation_bytes", "pixels") is None


def test_the_middle_size_lies_between():
    prior, decoder = (count_unet(mid_size().parts[name].config).total for name in ("prior", "decoder"))
    assert 50e6 < prior < 100e6 and 20e6 < decoder < 50e6


def test_startup(folder):
    slow = "import time; time.sleep(0.3)"
    result = startup.measure_rounds(1, folder, 1, everything=slow, loading=slow, warmups=0)
    assert result["import_everything_s"] >= 0.3 <= result["loading_s"]
    assert 0 < result["page_s"] < result["first_preview_s"] < result["first_picture_s"]
    assert result["page_ratio"] == pytest.approx(result["page_s"] / result["import_everything_s"], rel=1e-2)
    fair = result["page_s"] + result["loading_s"] + 2 * result["warm_picture_s"]
    assert result["first_picture_ratio"] == pytest.approx(result["first_picture_s"] / fair, rel=1e-2)


def test_startup_of_what_does_not_start(folder):
    with pytest.raises(RuntimeError, match="exit code 3"):
        startup.app_seconds([sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ))


# torch takes a minute to trace what it compiles.
@pytest.mark.parametrize(
    "sides",
    [("studio", "diffusers-eager", "sdxl"), pytest.param(gpu.SIDES, marks=pytest.mark.slow)],
    ids=["quick", "all"],
)
def test_gpu_walks_its_code_without_one(sides, folder, capsys):
    options = ["--dry-run", "--warmups", "1", "--batches", "1,2", "--sides", ",".join(sides)]
    gpu.main([*SMALL, "--size", "128x128", *options, "--checkpoint", folder])
    result = last_line(capsys)
    assert result["dry_run"] is True and set(result["batches"]) == {"1", "2"}
    for row in result["batches"].values():
        assert set(sides) < set(row) and row["studio"]["tflop"] > 0
        assert {f"ratio_{name}" for name in sides[1:]} < set(row)


def test_profile(folder, capsys):
    profile.main([*SMALL, "--checkpoint", folder, "--dtype", "float32"])
    captured = capsys.readouterr()
    result = json.loads(captured.out.strip().splitlines()[-1])
    assert len(result["largest"]) == 3 and all(0 < row["share"] < 1 for row in result["largest"])
    table = captured.err
    assert "aten::linear" in table and table.count(" times its floor") == 3


def test_a_profiles_floor_is_the_longer_of_multiplying_and_moving():
    row = profile.Row("aten::linear", calls=1, seconds=1.0, flops=4e9, bytes=1e9)
    assert row.floor_s(peak_flops=8e9, bandwidth=1e10) == 0.5
    assert row.floor_s(peak_flops=8e10, bandwidth=1e10) == 0.1
    text = profile.lines([row], 2.0, peak=8e9, bandwidth=1e10, most=3)
    assert any(line.split()[:3] == ["aten::linear", "1", "50.0%"] and line.split()[-1] == "2.0" for line in text)


@pytest.mark.parametrize(
    ("name", "shapes", "flops"),
    [
        ("aten::linear", [[2, 36, 8], [32, 8], [32]], 2 * 72 * 8 * 32),
        ("aten::addmm", [[32], [72, 8], [8, 32]], 2 * 72 * 8 * 32),
        ("mkldnn::_linear_pointwise", [[2, 36, 8], [32, 8], [], [], [], []], 2 * 72 * 8 * 32),
        ("mkldnn::_linear_pointwise", [[2, 36, 8], [2, 36, 32], [32, 8], [32], []], 2 * 72 * 8 * 32),
        ("aten::conv2d", [[2, 8, 6, 6], [8, 1, 3, 3], [8]], 2 * 2 * 8 * 36 * 9),
        ("aten::gelu", [[2, 36, 8]], 0),
    ],
)
def test_operations_are_counted_from_their_shapes(name, shapes, flops):
    class Event:
        def __init__(self):
            self.name, self.input_shapes = name, shapes

    assert profile._flops(Event()) == flops


@pytest.mark.skipif(torch.cuda.is_available(), reason="says so only without CUDA")
def test_gpu_says_that_it_needs_one():
    with pytest.raises(SystemExit, match="needs a CUDA device"):
        gpu.main([])
    with pytest.raises(SystemExit, match="mean nothing"):
        gpu.main(["--dry-run", "--save"])
