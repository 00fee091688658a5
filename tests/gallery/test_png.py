"""A picture's file carries the request that made it, and other files are refused in one sentence."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import InvalidRequest
from cascade_app.gallery.png import PARAMETERS_KEY, REQUEST_KEY, encode_png, parameters_line, read_request
from cascade_app.plan import GenerationPlan, make_plan, own_request
from cascade_app.record import Record
from cascade_app.request import GenerationRequest

SPEC = CheckpointSpec(
    "pocket", "Pocket", Path("pocket"), "ours", default_size_px=64, min_size_px=64, max_size_px=128, size_step_px=32
)


def planned(**values) -> GenerationPlan:
    return make_plan(GenerationRequest.from_values({"prompt": "a boat", "seed": 7, **values}), SPEC)


def record_of(plan: GenerationPlan, seed: int) -> Record:
    return Record("0123456789abcdef" * 2, "picture", 1.5e9, own_request(plan, seed))


def picture(plan: GenerationPlan) -> Image.Image:
    return Image.effect_noise((plan.width, plan.height), 60).convert("RGB")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"prompt": "ein Boot, 船 🚤\n\"quoted\" \\ end", "negative_prompt": "fog\tand mist", "sampler": "ddim"},
        {"images": 3, "width": 96, "prior_guidance": 0.1, "guidance_stop": 0.35, "seed": 2**32 - 1},
        {"prompt": "x" * 2000, "negative_prompt": "船" * 2000},
    ],
    ids=["plain", "odd text", "numbers", "long"],
)  # fmt: skip
def test_round_trip(tmp_path: Path, values: dict):
    plan = planned(**values)
    drawn = picture(plan)
    path = tmp_path / "picture.png"
    for seed in plan.seeds:
        path.write_bytes(encode_png(drawn, record_of(plan, seed)))
        request = read_request(path)
        assert request == own_request(plan, seed)
        assert (request.seed, request.images) == (seed, 1)
        assert (request.width, request.height) == (plan.width, plan.height)
        assert request.prompt == plan.request.prompt
        assert make_plan(request, SPEC).prior_shape == plan.prior_shape
        with Image.open(path) as read:
            assert read.convert("RGB").tobytes() == drawn.tobytes()


def test_the_same_picture_gives_the_same_bytes():
    plan = planned()
    drawn = picture(plan)
    assert encode_png(drawn, record_of(plan, 7)) == encode_png(drawn, record_of(plan, 7))


def test_other_tools_can_read_the_settings():
    plan = planned(negative_prompt="fog", prior_guidance=4.5)
    with Image.open(io.BytesIO(encode_png(picture(plan), record_of(plan, 7)))) as read:
        assert json.loads(read.info[REQUEST_KEY])["request"]["seed"] == 7
        lines = read.info[PARAMETERS_KEY].splitlines()
    assert lines[:2] == ["a boat", "Negative prompt: fog"]
    assert lines[2].startswith("Steps: 20, Sampler: ddpm, CFG scale: 4.5, Seed: 7, Size: 64x64, Model: pocket")
    assert parameters_line(planned().request, width=64, height=64).count("\n") == 1


def test_a_checkpoints_folder_is_shown_by_its_last_name():
    assert "Model: weights," in parameters_line(planned(checkpoint="/home/someone/weights").request, width=64, height=64)


def png_with(text: str | None) -> bytes:
    info = PngImagePlugin.PngInfo()
    if text is not None:
        info.add_itxt(REQUEST_KEY, text)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def png_with_chunk(kind: bytes, data: bytes) -> bytes:
    whole = png_with(None)
    return whole[:33] + chunk(kind, data) + whole[33:]  # after the signature and IHDR


def bomb() -> bytes:
    """A text chunk of a few kilobytes that unpacks to far more than any settings take."""
    return png_with_chunk(b"iTXt", REQUEST_KEY.encode() + b"\0\1\0\0\0" + zlib.compress(b"x" * 300_000_000, 9))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (lambda: b"", "not a readable PNG"),
        (lambda: b"hello", "not a readable PNG"),
        (lambda: encode_png(picture(planned()), record_of(planned(), 7))[:50], "not a readable PNG|holds no"),
        (lambda: png_with(None)[:20], "not a readable PNG"),
        (lambda: png_with(None), "holds no Cascade Studio settings"),
        (lambda: png_with(""), "not valid JSON"),
        (lambda: png_with("{"), "not valid JSON"),
        (lambda: png_with("[" * 19_000), "not valid JSON"),
        (lambda: png_with("[" * 100_000), "not a readable PNG"),
        (lambda: png_with('{"version": 9}'), "format version 9"),
        (lambda: png_with('{"version": 1, "prompt": "a", "seed": NaN}'), "Seed must be"),
        (lambda: png_with_chunk(b"tEXt", REQUEST_KEY.encode() + b"\0[1]"), "not a JSON object"),
        (lambda: png_with_chunk(b"iTXt", b"\0"), "not a readable PNG|holds no"),
        (lambda: png_with_chunk(b"iTXt", REQUEST_KEY.encode() + b"\0\1\0\0\0not zlib"), "not a readable PNG|holds no"),
        (bomb, "not a readable PNG|holds no"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data, why: str):
    path = tmp_path / "given.png"
    path.write_bytes(data())
    with pytest.raises(InvalidRequest, match=why) as caught:
        read_request(path)
    assert "\n" not in caught.value.message
    assert str(tmp_path) not in caught.value.message


def test_a_jpeg_named_png_a_folder_and_nothing_are_refused(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png", "JPEG")
    (tmp_path / "folder.png").mkdir()
    for name in ("photo.png", "folder.png", "nothing.png"):
        with pytest.raises(InvalidRequest, match="not a readable PNG"):
            read_request(tmp_path / name)


def test_a_huge_picture_is_not_unpacked(tmp_path: Path):
    """A few bytes that claim 60,000 x 60,000 pixels."""
    header = (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    path = tmp_path / "bomb.png"
    path.write_bytes(png_with(None)[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)))
    with pytest.raises(InvalidRequest):
        read_request(path)
