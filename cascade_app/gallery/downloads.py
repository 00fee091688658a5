"""Pictures on their way out: other formats, with the text part or without it, small for the shelf, many as a zip.

JPEG and WebP have no room for a negative, so they carry the record without it, in EXIF, beside the line that other tools read.
Each says that a model made it (mark.py), the ones without text too. Knows nothing of browsers.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from cascade_app.errors import InvalidRequest
from cascade_app.gallery.mark import XMP
from cascade_app.gallery.png import marked, parameters_line, read_record
from cascade_app.record import Record

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "zip": "application/zip"}
QUALITY = 92
THUMBNAIL_PX = 384
# EXIF tags: a description for people, "user comment" as other tools fill it, and the software's name beside our record.
DESCRIPTION, SOFTWARE, USER_COMMENT, EXIF_IFD = 0x010E, 0x0131, 0x9286, 0x8769
EXIF_LIMIT_BYTES = 65_000
UNICODE = b"UNICODE\x00"


def as_format(path: Path, suffix: str, *, plain: bool = False) -> bytes:
    """A saved picture as `suffix` (a key of FORMATS); `plain` leaves out prompts and settings.

    A PNG that is not plain is the file itself. The pixels of a PNG are the same in each case.
    """
    if suffix == "png" and not plain:
        return path.read_bytes()
    with Image.open(path, formats=["PNG"]) as opened:
        picture = Image.new("RGB", opened.size)  # a new one: nothing of the file's comes along
        picture.paste(opened)
    buffer = io.BytesIO()
    options = {"pnginfo": marked()} if suffix == "png" else {"quality": QUALITY, "xmp": XMP.encode()}
    if not plain:
        options["exif"] = text_part(read_record(path))
    picture.save(buffer, FORMATS[suffix], **options)
    return buffer.getvalue()


def text_part(record: Record) -> bytes:
    """EXIF with the record's JSON (without negatives) as the description and the readable line as the user comment."""
    exif = Image.Exif()
    exif[DESCRIPTION] = record.to_json(with_negatives=False).encode()
    exif[SOFTWARE] = "Cascade Studio"
    request = record.request
    line = parameters_line(request, width=request.width, height=request.height)
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = UNICODE + line.encode("utf-16-be", "replace")
    if len(data := exif.tobytes()) <= EXIF_LIMIT_BYTES:
        return data
    del exif.get_ifd(EXIF_IFD)[USER_COMMENT]  # prompts of the greatest length, all of it to be escaped: ours comes first
    return exif.tobytes()


def thumbnail(path: Path) -> bytes:
    """A small JPEG of a saved picture."""
    with Image.open(path, formats=["PNG"]) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def zipped(paths: Iterable[Path]) -> Iterator[bytes]:
    """A zip of saved pictures, each with its record as JSON beside it, a piece at a time; what has gone meanwhile is left out.

    PNGs are packed already, so they are stored as they are.
    """
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w") as archive:
        for path in paths:
            try:
                data = path.read_bytes()
                record = read_record(path)
            except (OSError, InvalidRequest):
                continue
            archive.writestr(path.name, data)
            archive.writestr(f"{path.stem}.json", record.to_json(with_negatives=False))
            yield pieces.taken()
    yield pieces.taken()


class _Pieces(io.RawIOBase):
    """A file that is only written to and whose bytes are taken away as they come."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
