"""A picture file from anywhere, read for what made it: ours, or what other tools write. Nothing in it is believed unchecked.

    Reading(limits).read(data) -> Restored

Ours brings the whole record back. Of a foreign one each setting that we have too is taken if it fits its limits, and what is
not taken is said in sentences. Sizes are checked before a pixel is decoded, texts before they are parsed. Knows nothing of
visitors, rows or pages.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

from cascade_app.errors import InvalidRequest
from cascade_app.gallery import foreign
from cascade_app.gallery.chunks import Contents, contents, pixels_only
from cascade_app.gallery.png import PARAMETERS_KEY, REQUEST_KEY
from cascade_app.record import Record
from cascade_app.request import FIELD, GenerationRequest
from cascade_app.settings import Settings

COMFY_PROMPT_KEY, COMFY_WORKFLOW_KEY = "prompt", "workflow"
WANTED = frozenset({REQUEST_KEY, PARAMETERS_KEY, COMFY_PROMPT_KEY, COMFY_WORKFLOW_KEY})


@dataclass(frozen=True)
class UploadLimits:
    """What a file may be at most: bytes of the file, pixels of the picture."""

    n_bytes: int = Settings.upload_bytes
    pixels: int = Settings.upload_pixels

    @classmethod
    def of(cls, settings: Settings) -> UploadLimits:
        return cls(settings.upload_bytes, settings.upload_pixels)


@dataclass(frozen=True)
class Restored:
    """What a file gave.

    record: of a picture of ours; with its negative where the format keeps one.
    values: settings for the form, by their names in `request.FIELDS`.
    notes: sentences on what could not be restored.
    """

    source: Literal["ours", "parameters", "comfyui"]
    record: Record | None
    values: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    image: Image.Image | None = field(default=None, compare=False)  # of a PNG of ours that is what its record says


def read(data: bytes, limits: UploadLimits | None = None) -> Restored:
    """What the picture file `data` says about how it was made.

    Raises:
        InvalidRequest: too large, damaged, no picture, forged, or without anything that can be restored.
    """
    limits = limits or UploadLimits()
    if len(data) > limits.n_bytes:
        raise InvalidRequest(f"The file has {len(data) / 1e6:,.1f} MB; the limit is {limits.n_bytes / 1e6:,.1f} MB.")
    found = contents(io.BytesIO(data), wanted=WANTED)
    if found.width * found.height > limits.pixels:
        raise InvalidRequest(
            f"The picture has {found.width:,} x {found.height:,} pixels; the limit is {limits.pixels:,} in all."
        )
    if REQUEST_KEY in found.texts and (found.format == "PNG" or found.texts[REQUEST_KEY].startswith("{")):
        return _ours(found, data)
    if COMFY_PROMPT_KEY in found.texts or COMFY_WORKFLOW_KEY in found.texts:
        taken = foreign.comfyui(found.texts.get(COMFY_PROMPT_KEY, ""), found.texts.get(COMFY_WORKFLOW_KEY, ""))
        return _checked("comfyui", taken)
    if PARAMETERS_KEY in found.texts:
        return _checked("parameters", foreign.parameters(found.texts[PARAMETERS_KEY]))
    raise InvalidRequest("This picture holds no settings that can be read. Choose the original download, not a copy.")


def _ours(found: Contents, data: bytes) -> Restored:
    record = Record.from_json(found.texts[REQUEST_KEY])
    values = restorable(record.request)
    if found.format != "PNG":
        notes = [f"A {_NAMES[found.format]} keeps no negative: Generate makes it again, to develop it the PNG is needed."]
        if record.start is None and record.action in ("vary", "blend"):
            notes.append("It was made from another negative, so that its settings alone give another picture.")
        return Restored("ours", record, values, tuple(notes))
    if record.kind == "picture" and (found.width, found.height) != (record.request.width, record.request.height):
        note = "The picture's size is not what its settings say: it was changed after it was saved, and is not kept."
        return Restored("ours", record, values, (note,))
    return Restored("ours", record, values, image=_decoded(data))


_NAMES = {"JPEG": "JPEG", "WEBP": "WebP"}


def _decoded(data: bytes) -> Image.Image:
    try:
        with Image.open(io.BytesIO(pixels_only(data)), formats=["PNG"]) as opened:
            return opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidRequest("This picture file is damaged or was cut off. Choose the original download, not a copy.") from error


def restorable(request: GenerationRequest) -> dict[str, Any]:
    """The settings of `request` as the form takes them."""
    return {name: getattr(request, name) for name in FIELD if name != "images"}


def _checked(source: Literal["parameters", "comfyui"], taken: foreign.Taken) -> Restored:
    """What of `taken` fits our limits; the rest is said."""
    values: dict[str, Any] = {}
    notes = list(taken.notes)
    for name, value in taken.values.items():
        try:
            values[name] = FIELD[name].parse(value)
        except InvalidRequest as error:
            notes.append(f"Not restored: {error.message}")
    if "prompt" not in values and len(values) < 2:
        raise InvalidRequest("This picture's settings are of a kind that cannot be read here. " + " ".join(notes))
    notes.append("The picture was made by another program: its settings are restored, another picture will come out.")
    return Restored(source, None, values, tuple(notes))
