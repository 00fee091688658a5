"""Pictures as PNG files that carry their request.

Owns the names of the text chunks and their form; knows nothing of folders, rows or browsers.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, PngImagePlugin

from cascade_app.errors import InvalidRequest
from cascade_app.gallery.chunks import contents, is_whole_png
from cascade_app.gallery.mark import PNG_KEY, XMP
from cascade_app.record import Record
from cascade_app.request import GenerationRequest

REQUEST_KEY = "cascade_studio"  # the request as JSON, one picture's own seed inside
PARAMETERS_KEY = "parameters"  # one readable line in the form other tools write and read


def parameters_line(request: GenerationRequest, *, width: int, height: int) -> str:
    """The settings as other tools write them: prompt, negative prompt, then `Name: value` pairs."""
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    lines.append(
        f"Steps: {request.prior_steps}, Sampler: {request.sampler}, CFG scale: {request.prior_guidance:g}, "
        f"Seed: {request.seed}, Size: {width}x{height}, Model: {Path(request.checkpoint).name}, "
        f"Decoder steps: {request.decoder_steps}, Decoder CFG scale: {request.decoder_guidance:g}"
    )
    return "\n".join(lines)


def marked() -> PngImagePlugin.PngInfo:
    """The text of a PNG that says nothing but what made it."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt(PNG_KEY, XMP)
    return info


def encode_png(image: Image.Image, record: Record) -> bytes:
    """`image` as a PNG file with its record inside, and the mark that a model made it."""
    request = record.request
    info = marked()
    info.add_itxt(REQUEST_KEY, record.to_json())
    info.add_itxt(PARAMETERS_KEY, parameters_line(request, width=request.width, height=request.height))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def read_record(path: Path) -> Record:
    """The record inside a PNG that `encode_png` made. No pixel is decoded.

    Raises:
        InvalidRequest: not a whole PNG, or one without (readable) settings of ours.
    """
    try:
        with path.open("rb") as file:
            found = contents(file, wanted=frozenset({REQUEST_KEY}))
            whole = found.format == "PNG" and is_whole_png(file)
    except (OSError, InvalidRequest) as error:
        raise _no_png(path) from error
    if not whole:
        raise _no_png(path)
    if REQUEST_KEY not in found.texts:
        raise InvalidRequest(f"{path.name} holds no Cascade Studio settings. Choose the original download, not a copy.")
    return Record.from_json(found.texts[REQUEST_KEY])


def _no_png(path: Path) -> InvalidRequest:
    return InvalidRequest(f"{path.name} is not a readable PNG file. Choose a picture saved by Cascade Studio.")


def read_request(path: Path) -> GenerationRequest:
    """The request inside a PNG that `encode_png` made. Raises InvalidRequest like `read_record`."""
    return read_record(path).request
