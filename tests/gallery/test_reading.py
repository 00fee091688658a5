"""Files from anywhere: ours come back whole, foreign ones as far as they go, and hostile ones are refused in a sentence."""

from __future__ import annotations

import functools
import io
import json
import struct
import tracemalloc
import zlib
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from PIL import Image, PngImagePlugin

from cascade_app.errors import InvalidRequest
from cascade_app.gallery.chunks import PARTS_LIMIT
from cascade_app.gallery.downloads import as_format
from cascade_app.gallery.gallery import Album, Gallery
from cascade_app.gallery.intake import take_in
from cascade_app.gallery.mark import PNG_KEY, XMP
from cascade_app.gallery.png import REQUEST_KEY, encode_png, parameters_line
from cascade_app.gallery.reading import Restored, UploadLimits, read
from cascade_app.negative import Negative, Noise, Start
from cascade_app.record import Record, new_id
from cascade_app.request import GenerationRequest
from tests.gallery.test_gallery import ANNA, ids
from tests.gallery.test_png import chunk, png_with, png_with_chunk

SIZE = 64
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
DIGITAL_SOURCE_TYPE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"


def record_of(prompt: str = "a boat", **values) -> Record:
    request = GenerationRequest.from_values({"prompt": prompt, "seed": 7, "width": SIZE, "height": SIZE, **values})
    negative = Negative.checked(struct.pack("<128e", *(n / 64 for n in range(128))), (2, 8, 8))
    start = Start(noise=Noise(mix=(Noise(1), Noise(2), 0.5)))
    return Record(new_id(), "picture", 1.5e9, request, action="vary", parents=(new_id(),), start=start, negative=negative)


def drawn() -> Image.Image:
    return Image.effect_noise((SIZE, SIZE), 60).convert("RGB")


def texted(**texts: str) -> bytes:
    """A foreign PNG with text chunks."""
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_itxt(key, text)
    buffer = io.BytesIO()
    drawn().save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def gallery(tmp_path_factory) -> Gallery:
    gallery = Gallery(tmp_path_factory.mktemp("gallery") / "pictures")
    gallery.open()
    yield gallery
    gallery.close()


@pytest.fixture
def album(gallery: Gallery) -> Album:
    album = gallery.of(ANNA)
    yield album
    for trash in (False, True):
        album.purge(ids(album, trash=trash))


# --- ours ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["a boat", "ein Boot, 船 🚤\n\"quoted\" \\ end", "x" * 2000])
def test_our_png_brings_everything_back(prompt: str):
    record, image = record_of(prompt), drawn()
    restored = read(encode_png(image, record))
    assert (restored.source, restored.record, restored.notes) == ("ours", record, ())
    assert restored.image.tobytes() == image.tobytes()
    assert GenerationRequest.from_values({**restored.values, "images": 1}) == record.request


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
@pytest.mark.parametrize("prompt", ["a boat", "ein Boot, 船 🚤\n\"quoted\" \\ end", '"🚤' * 1000], ids=["a", "odd", "longest"])
def test_jpeg_and_webp_keep_the_text_part(tmp_path, suffix: str, prompt: str):
    record = record_of(prompt, negative_prompt=prompt)
    (tmp_path / "a.png").write_bytes(encode_png(drawn(), record))
    restored = read(as_format(tmp_path / "a.png", suffix))
    assert restored.record == replace(record, negative=None)
    assert restored.image is None and "keeps no negative" in restored.notes[0]


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_what_cannot_be_made_again_from_the_text_alone_is_said(tmp_path, suffix: str):
    record = record_of()
    record = replace(record, start=Start(source=record.negative, strength=0.5))
    (tmp_path / "a.png").write_bytes(encode_png(drawn(), record))
    restored = read(as_format(tmp_path / "a.png", suffix))
    assert restored.record.start is None and "made from another negative" in restored.notes[1]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_a_plain_download_holds_nothing_but_pixels_and_the_mark(tmp_path, suffix: str):
    image = drawn()
    (tmp_path / "a.png").write_bytes(encode_png(image, record_of("secret words")))
    data = as_format(tmp_path / "a.png", suffix, plain=True)
    for trace in (b"secret", b"cascade", b"Cascade", b"Text", b"tEXt", b"eXIf", b"EXIF", b"Exif", b"tIME", b"iCCP"):
        assert trace not in data
    with Image.open(io.BytesIO(data)) as opened:
        known = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "loop", "background", "xmp"}
        assert set(opened.info) <= known | {PNG_KEY}
        if suffix == "png":
            assert opened.tobytes() == image.tobytes()
            assert {data[at + 4 : at + 8] for at in chunk_starts(data)} == {b"IHDR", b"iTXt", b"IDAT", b"IEND"}
            assert opened.text == {PNG_KEY: XMP}
    with pytest.raises(InvalidRequest, match="holds no settings"):
        read(data)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_every_download_says_that_a_model_made_it(tmp_path, suffix: str, plain: bool):
    (tmp_path / "a.png").write_bytes(encode_png(drawn(), record_of()))
    with Image.open(io.BytesIO(as_format(tmp_path / "a.png", suffix, plain=plain))) as opened:
        packet = opened.info[PNG_KEY] if suffix == "png" else opened.info["xmp"].decode()
    (said,) = ElementTree.fromstring(packet.removeprefix("\ufeff")).iter(f"{RDF}Description")
    assert set(said.attrib) == {f"{RDF}about", DIGITAL_SOURCE_TYPE}
    assert said.attrib[DIGITAL_SOURCE_TYPE].endswith("/digitalsourcetype/trainedAlgorithmicMedia")


def chunk_starts(data: bytes) -> list[int]:
    at, starts = 8, []
    while at < len(data):
        starts.append(at)
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return starts


def test_other_readers_find_the_line_in_a_jpeg(tmp_path):
    record = record_of("ein Boot, 船")
    (tmp_path / "a.png").write_bytes(encode_png(drawn(), record))
    for suffix in ("jpg", "webp"):
        with Image.open(io.BytesIO(as_format(tmp_path / "a.png", suffix))) as opened:
            comment = opened.getexif().get_ifd(0x8769)[0x9286]
        assert comment[8:].decode("utf-16-be") == parameters_line(record.request, width=SIZE, height=SIZE)


def test_a_dropped_picture_becomes_a_row_with_the_same_pixels(album: Album):
    record, image = record_of(), drawn()
    taken = take_in(album, encode_png(image, record) + b"and a tail, as polyglots have")
    assert ids(album) == [record.id] and album.record(record.id) == record
    with Image.open(album.path(record.id)) as kept:
        assert kept.tobytes() == image.tobytes()
    assert b"polyglot" not in album.path(record.id).read_bytes()
    assert taken.item == album.get(record.id)


def test_dropped_again_it_is_the_same_row_and_back_from_the_trash(album: Album):
    data = encode_png(drawn(), record_of())
    id = take_in(album, data).item.id
    album.delete([id])
    assert take_in(album, data).item.id == id
    assert ids(album) == [id] and album.usage().pictures == 1


def test_another_picture_that_claims_the_same_id_replaces_nothing(album: Album):
    record = record_of("mine")
    album.add(drawn(), record)
    taken = take_in(album, encode_png(drawn(), replace(record, request=replace(record.request, prompt="forged"))))
    assert taken.item.id != record.id and taken.restored.record.id == taken.item.id
    assert album.record(record.id) == record and album.usage().pictures == 2


def test_a_picture_from_the_future_or_of_version_1_gets_the_time_of_now(album: Album):
    future = replace(record_of(), created_s=9e10)
    assert take_in(album, encode_png(drawn(), future)).item.created_s < 5e9
    request = {"version": 1, "prompt": "old", "seed": 7, "width": 8, "height": 8}
    assert take_in(album, png_with(json.dumps(request))).item.created_s > 1e9


def test_a_picture_changed_after_it_was_saved_gives_its_settings_only(album: Album):
    record = record_of()
    taken = take_in(album, encode_png(drawn().resize((SIZE, SIZE // 2)), record))
    assert taken.item is None and taken.restored.record == record and "changed after it was saved" in taken.restored.notes[0]
    assert ids(album) == []


def test_jpegs_and_foreign_pictures_are_not_kept(album: Album, tmp_path):
    (tmp_path / "a.png").write_bytes(encode_png(drawn(), record_of()))
    for data in (as_format(tmp_path / "a.png", "jpg"), texted(parameters="a boat\nSteps: 5, Seed: 3")):
        assert take_in(album, data).item is None
    assert ids(album) == []


# --- foreign ---------------------------------------------------------------------------------------------------------

A1111 = """a boat, (red:1.2)
on the sea
Negative prompt: fog,
mist
Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 6.5, Seed: 1234567, Size: 512x768, Model hash: 6ce0161689, \
Model: someModel_v1, Lora hashes: "a: 1b, c: 2d", Version: v1.7.0"""


def notes_of(restored: Restored) -> str:
    return " ".join(restored.notes)


def test_a_parameters_text():
    restored = read(texted(parameters=A1111))
    assert restored.source == "parameters" and restored.record is None
    assert restored.values == {
        "prompt": "a boat, (red:1.2)\non the sea", "negative_prompt": "fog,\nmist", "prior_steps": 28, "prior_guidance": 6.5,
        "seed": 1234567, "width": 512, "height": 768,
    }  # fmt: skip
    for said in ('"DPM++ 2M Karras" is not one of ours', '"someModel_v1"', "Lora hashes", "another picture will come out"):
        assert said in notes_of(restored)


def test_our_own_line_comes_back_whole():
    request = record_of(sampler="ddim", decoder_steps=12, decoder_guidance=1.5, negative_prompt="fog").request
    values = read(texted(parameters=parameters_line(request, width=SIZE, height=SIZE))).values
    assert GenerationRequest.from_values(values) == request


def test_a_parameters_text_in_a_jpeg():
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\x00" + A1111.encode("utf-16-le")
    buffer = io.BytesIO()
    drawn().save(buffer, "JPEG", exif=exif.tobytes())
    assert read(buffer.getvalue()).values["negative_prompt"] == "fog,\nmist"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Steps: 28, Seed: -1", "Seed is"), ("Steps: 28, Seed: 99999999999999999999", "Seed is"),
        ("Steps: 9999", "Prior steps is"),
        ("Steps: many, Seed: 1", "Prior steps must be"), ("Steps: 1, CFG scale: nan", "Prior guidance must be"),
        ("Steps: 1, Size: 99999x8", "Width is"), ("Steps: 1, Sampler: \x1b[2J\x07", "is not one of ours"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_and_the_rest_taken(line: str, said: str):
    restored = read(texted(parameters=f"a boat\n{line}"))
    assert restored.values["prompt"] == "a boat" and said in notes_of(restored)
    assert notes_of(restored).isprintable()


def test_control_characters_do_not_reach_the_form():
    restored = read(texted(parameters="a\x1b[2J boat\x00\x07\u202e\nSteps: 5"))
    assert restored.values["prompt"].isprintable()


def comfy_cascade() -> dict:
    """The graph of Stable Cascade as ComfyUI's examples have it."""
    return {
        "3": {"class_type": "KSampler", "inputs": {
            "seed": 42, "steps": 20, "cfg": 4.0, "sampler_name": "euler_ancestral", "scheduler": "simple", "denoise": 1.0,
            "model": ["41", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["34", 0]}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a lighthouse", "clip": ["41", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "text, watermark", "clip": ["41", 1]}},
        "33": {"class_type": "KSampler", "inputs": {
            "seed": 7, "steps": 11, "cfg": 1.1, "sampler_name": "euler_ancestral", "model": ["42", 0], "positive": ["36", 0],
            "negative": ["40", 0], "latent_image": ["34", 1]}},
        "34": {"class_type": "StableCascade_EmptyLatentImage", "inputs": {
            "width": 1024, "height": 768, "compression": 42, "batch_size": 1}},
        "36": {"class_type": "StableCascade_StageB_Conditioning", "inputs": {"conditioning": ["6", 0], "stage_c": ["3", 0]}},
        "40": {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["7", 0]}},
        "41": {"class_type": "UNETLoader", "inputs": {"unet_name": "stage_c.safetensors"}},
    }  # fmt: skip


CASCADE_VALUES = {
    "prompt": "a lighthouse", "negative_prompt": "text, watermark", "seed": 42, "prior_steps": 20, "prior_guidance": 4.0,
    "width": 1024, "height": 768, "decoder_steps": 11, "decoder_guidance": 1.1,
}  # fmt: skip


def test_a_comfyui_graph_of_stable_cascade():
    restored = read(texted(prompt=json.dumps(comfy_cascade())))
    assert restored.source == "comfyui" and restored.values == CASCADE_VALUES
    assert '"euler_ancestral" is not one of ours' in notes_of(restored) and "models and LoRAs" in notes_of(restored)


def test_a_comfyui_graph_whose_words_come_from_another_node():
    graph = comfy_cascade()
    graph["6"]["inputs"]["text"] = ["50", 0]
    graph["50"] = {"class_type": "PrimitiveString", "inputs": {"value": "words from afar"}}
    assert read(texted(prompt=json.dumps(graph))).values["prompt"] == "words from afar"


def test_a_comfyui_workflow_as_it_is_on_the_screen():
    names = {"KSampler": ["seed", "control", "steps", "cfg", "sampler_name", "scheduler", "denoise"], "CLIPTextEncode": ["text"],
             "StableCascade_EmptyLatentImage": ["width", "height", "compression", "batch_size"]}  # fmt: skip
    nodes, links = [], []
    for id, node in comfy_cascade().items():
        inputs = []
        for name, value in node["inputs"].items():
            if isinstance(value, list):
                links.append([len(links) + 1, int(value[0]), value[1], int(id), 0, "ANY"])
                inputs.append({"name": name, "link": len(links)})
        values = [node["inputs"].get(name, "fixed") for name in names.get(node["class_type"], [])]
        nodes.append({"id": int(id), "type": node["class_type"], "inputs": inputs, "widgets_values": values})
    restored = read(texted(workflow=json.dumps({"nodes": nodes, "links": links, "version": 0.4})))
    assert restored.values == CASCADE_VALUES


def hostile_graphs() -> dict[str, str]:
    loop = comfy_cascade()
    loop["6"] = {"class_type": "CLIPTextEncode", "inputs": {"text": ["6", 0], "conditioning": ["6", 0]}}
    loop["36"]["inputs"]["conditioning"] = ["36", 0]
    wrong = {"1": {"class_type": "KSampler", "inputs": {"seed": [1], "steps": {}, "cfg": None, "positive": 7, "negative": [[]]}}}
    return {
        "not JSON": "{", "a list": "[1]", "empty": "{}", "deep": "[" * 19_000, "nodes of wrong types": '{"1": 7, "2": []}',
        "inputs of wrong types": json.dumps(wrong), "no sampler": '{"1": {"class_type": "x", "inputs": {}}}',
        "huge number": '{"1": {"class_type": "KSampler", "inputs": {"seed": 1' + "0" * 5000 + "}}}",
        "infinite": '{"1": {"class_type": "KSampler", "inputs": {"seed": 1e999, "steps": NaN, "cfg": -Infinity}}}',
        "wrong workflow": '{"nodes": [7, {"type": 1}, {"type": "KSampler", "inputs": 7, "widgets_values": 7}], "links": 7}',
        "many parts": "[" + "0," * PARTS_LIMIT + "0]", "loop without words": json.dumps({"3": loop["3"], "6": loop["6"]}),
    }  # fmt: skip


@pytest.mark.parametrize("graph", hostile_graphs().values(), ids=hostile_graphs().keys())
@pytest.mark.parametrize("key", ["prompt", "workflow"])
def test_hostile_graphs_give_a_sentence_or_sound_values(key: str, graph: str):
    try:
        restored = read(texted(**{key: graph}))
    except InvalidRequest as error:
        assert error.message.isprintable() and len(error.message) < 400
    else:
        assert set(restored.values) <= set(CASCADE_VALUES) and restored.notes


# --- hostile files ---------------------------------------------------------------------------------------------------


def forged(**changes) -> bytes:
    """A picture of ours whose record says something else."""
    values = json.loads(record_of().to_json())
    for name, value in changes.items():
        values[name] = value
    return png_with(json.dumps(values))


@functools.cache
def bomb(n_bytes: int = 60_000_000) -> bytes:
    return zlib.compress(bytes(n_bytes), 1)


def packed(kind: bytes, n_bytes: int) -> bytes:
    text = bomb(n_bytes)
    return png_with_chunk(kind, REQUEST_KEY.encode() + (b"\0\0" if kind == b"zTXt" else b"\0\1\0\0\0") + text)


def latent(shape: list, data: str, dtype: str = "float16") -> dict:
    return {"dtype": dtype, "shape": shape, "data": data}


def jpeg_claiming(width: int, height: int) -> bytes:
    return b"\xff\xd8\xff\xc0" + struct.pack(">HBHH", 11, 8, height, width) + b"\x01\x01\x11\x00\xff\xd9"


def webp_claiming(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x1e\0\0\0WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + size


def png_claiming(width: int, height: int) -> bytes:
    text = REQUEST_KEY.encode() + b"\0\0\0\0\0" + record_of().to_json().encode()
    header = chunk(b"IHDR", struct.pack(">II", width, height) + b"\x08\x02\0\0\0")
    return png_with(None)[:8] + header + chunk(b"iTXt", text) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


NAN = "AH4="  # one float16 that is none
HOSTILE = {
    "empty": lambda: b"", "text": lambda: b"hello", "signature alone": lambda: png_with(None)[:8],
    "cut off in a chunk": lambda: encode_png(drawn(), record_of())[:5000],
    "cut off in the text": lambda: encode_png(drawn(), record_of())[:300],
    "no end": lambda: encode_png(drawn(), record_of())[:-12],
    "damaged text": lambda: encode_png(drawn(), record_of()).replace(b"a boat", b"a goat", 1),
    "no IHDR": lambda: png_with(None)[:8] + chunk(b"IEND", b""),
    "two IHDRs": lambda: png_with(None)[:33] + png_with(None)[8:],
    "no pixels in it": lambda: png_claiming(SIZE, SIZE),
    "zTXt bomb": lambda: packed(b"zTXt", 60_000_000), "iTXt bomb": lambda: packed(b"iTXt", 300_000_000),
    "zTXt a little over": lambda: packed(b"zTXt", 4 * 2**20 + 1),
    "text that unpacks to none": lambda: png_with_chunk(b"zTXt", REQUEST_KEY.encode() + b"\0\0" + b"no zlib"),
    "text cut off while packed": lambda: png_with_chunk(b"zTXt", REQUEST_KEY.encode() + b"\0\0" + zlib.compress(b"{}")[:-3]),
    "long plain text": lambda: png_with_chunk(b"tEXt", REQUEST_KEY.encode() + b"\0" + b" " * 5_000_000),
    "chunk longer than the file": lambda: png_with(None)[:33] + b"\x7f\xff\xff\xffiTXt" + REQUEST_KEY.encode() + b"\0",
    "very many chunks": lambda: png_with(None)[:33] + chunk(b"tEXt", b"x\0y") * 30_000 + png_with(None)[33:],
    "deep nesting": lambda: png_with('{"version": 2, "id": ' + "[" * 19_000), "many parts": lambda: png_with("[" + "[]," * 10**6),
    "wrong version": lambda: forged(version=99), "true as version": lambda: forged(version=True),
    "unknown field": lambda: forged(surprise=1), "id that is a path": lambda: forged(id="../../etc/passwd"),
    "id of wrong case": lambda: forged(id="A" * 32), "kind": lambda: forged(kind="film"), "action": lambda: forged(action=["x"]),
    "many parents": lambda: forged(parents=["a" * 32] * 500), "parents of wrong type": lambda: forged(parents="a" * 32),
    "time that is none": lambda: forged(created_s=float("nan")), "negative time": lambda: forged(created_s=-1),
    "request of wrong type": lambda: forged(request=[]),
    "request out of limits": lambda: forged(request={"version": 1, "prompt": ""}),
    "half a surrogate": lambda: png_with('{"version": 1, "prompt": "\\ud800"}'),
    "NaN latent": lambda: forged(negative=latent([1, 1, 1], NAN)),
    "latent of the wrong shape": lambda: forged(negative=latent([2, 2, 2], "AAAA")),
    "latent of huge shape": lambda: forged(negative=latent([10**9, 10**9, 10**9], "AAAA")),
    "latent of negative shape": lambda: forged(negative=latent([-1, -1, 1], "AAA=")),
    "latent of no base64": lambda: forged(negative=latent([1, 1, 1], "!!!!")),
    "latent of another dtype": lambda: forged(negative=latent([1, 1, 1], "AAA=", "object")),
    "start of wrong type": lambda: forged(start=[1]), "noise mixed very deep": lambda: forged(start={"noise": deep_noise(5000)}),
    "digest of wrong type": lambda: forged(checkpoint_digest={}),
    "PNG of 60,000 px": lambda: png_claiming(60_000, 60_000), "PNG of no px": lambda: png_claiming(0, 8),
    "PNG of the most px": lambda: png_claiming(2**31 - 1, 2**31 - 1),
    "JPEG of 65,000 px": lambda: jpeg_claiming(65_000, 65_000), "JPEG without settings": lambda: jpeg_claiming(8, 8),
    "JPEG cut off": lambda: jpeg_claiming(8, 8)[:9], "JPEG of segments": lambda: b"\xff\xd8\xff" + b"\xe1\x00\x02\xff" * 30_000,
    "WebP of 16,000,000 px": lambda: webp_claiming(2**24, 2**24), "WebP cut off": lambda: webp_claiming(8, 8)[:14],
    "WebP of nothing": lambda: b"RIFF\x04\0\0\0WEBP",
    "EXIF that points at itself": lambda: exif_jpeg(b"MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x08"),
    "EXIF that points outside": lambda: exif_jpeg(b"MM\0*\xff\xff\xff\xff"),
    "EXIF of many entries": lambda: exif_jpeg(b"MM\0*\0\0\0\x08\xff\xff" + b"\x01\x0e\0\x02\xff\xff\xff\xff\0\0\0\0" * 3000),
    "GIF": lambda: saved("GIF"), "TIFF": lambda: saved("TIFF"), "BMP": lambda: saved("BMP"),
    "a zip": lambda: b"PK\x03\x04" + b"\0" * 99,
    "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "HTML in front": lambda: b"<script>" + encode_png(drawn(), record_of()),
}  # fmt: skip


def deep_noise(depth: int) -> object:
    noise: object = 1
    for _ in range(min(depth, 400)):  # as deep as json can write it
        noise = {"mix": [noise, 2, 0.5]}
    return noise


def exif_jpeg(exif: bytes) -> bytes:
    segment = b"Exif\0\0" + exif
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg_claiming(8, 8)[2:]


def saved(format: str) -> bytes:
    buffer = io.BytesIO()
    drawn().save(buffer, format)
    return buffer.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_a_sentence_and_little_memory(album: Album, name: str):
    data = HOSTILE[name]()
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest) as caught:
            take_in(album, data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.message.isprintable() and 10 < len(caught.value.message) < 400
    assert "Traceback" not in caught.value.message
    assert peak < 40 * 2**20, f"{peak / 2**20:.0f} MB"
    assert ids(album) == [] and album.usage().pictures == 0


def test_a_bomb_under_a_name_nobody_asks_for_is_not_unpacked():
    comment = chunk(b"zTXt", b"Comment\0\0" + bomb())
    profile = chunk(b"iCCP", b"x\0\0" + bomb())
    whole = encode_png(drawn(), record_of())
    data = whole[:33] + comment + profile + whole[33:]
    tracemalloc.start()
    try:
        assert read(data).image is not None
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_pixels_that_go_on_for_ever_are_read_as_far_as_the_picture_goes():
    whole = encode_png(drawn(), record_of())
    rows = b"".join(b"\0" + b"\x07" * 3 * SIZE for _ in range(SIZE))
    endless = chunk(b"IDAT", zlib.compress(rows + bytes(30_000_000), 1))
    data = whole[: whole.index(b"IDAT") - 4] + endless + chunk(b"IEND", b"")
    try:
        assert read(data).image.size == (SIZE, SIZE)
    except InvalidRequest as error:
        assert "damaged" in error.message


def test_limits_of_bytes_and_pixels_are_settings():
    data = encode_png(drawn(), record_of())
    with pytest.raises(InvalidRequest, match="the limit is 0.0 MB"):
        read(data, UploadLimits(n_bytes=100))
    with pytest.raises(InvalidRequest, match="64 x 64 pixels; the limit is 4,095"):
        read(data, UploadLimits(pixels=SIZE * SIZE - 1))
    assert read(data, UploadLimits(n_bytes=len(data), pixels=SIZE * SIZE)).record is not None
