"""The text inside picture files, read by ourselves: bounded in bytes whatever the file claims, and no pixel is decoded.

A library that opens a picture may inflate its texts or set aside memory for its pixels first; a few kilobytes can ask for
gigabytes that way. So size and texts are read here, from the file's own structure, before anything else touches it. Knows
nothing of what the texts mean.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from cascade_app.errors import InvalidRequest

TEXT_LIMIT_BYTES = 4 * 2**20  # a record with two negatives of the greatest size has 3 MB
CHUNKS_LIMIT = 20_000
PARTS_LIMIT = 20_000  # lists, objects and values in a text, which is JSON mostly; a picture of ours has some hundreds
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")  # what the pixels are made of
_EXIF_TEXTS = {0x010E: "cascade_studio", 0x9286: "parameters"}  # where downloads.py puts them; others use the second too
_EXIF_IFD = 0x8769


@dataclass(frozen=True)
class Contents:
    """What a file says of itself: its format (as Pillow names it), its size, and those of its texts that are asked for."""

    format: str
    width: int
    height: int
    texts: dict[str, str] = field(default_factory=dict)


def contents(file: BinaryIO, *, wanted: frozenset[str]) -> Contents:
    """Read `file` from its start. Of texts only those named in `wanted`.

    Raises:
        InvalidRequest: no PNG, JPEG or WebP, damaged, cut off, or a text beyond the limit.
    """
    start = file.read(12)
    file.seek(0)
    if start.startswith(PNG_SIGNATURE):
        reader = _png
    elif start.startswith(b"\xff\xd8\xff"):
        reader = _jpeg
    elif start[:4] == b"RIFF" and start[8:] == b"WEBP":
        reader = _webp
    else:
        raise InvalidRequest("This file is no PNG, JPEG or WebP picture. Choose one saved by Cascade Studio or another tool.")
    try:
        found = reader(file, wanted)
    except (struct.error, IndexError, zlib.error) as error:
        raise _damaged() from error
    for text in found.texts.values():  # a megabyte of brackets parses into a hundred megabytes of lists
        if text.count("[") + text.count("{") + text.count(",") > PARTS_LIMIT:
            raise InvalidRequest("The settings in this picture have more parts than any picture needs; they are not read.")
    return found


def pixels_only(data: bytes) -> bytes:
    """A PNG with nothing but what its pixels are made of; for a decoder that would inflate the rest."""
    parts = [PNG_SIGNATURE]
    for kind, start, end in _png_chunks(_Bytes(data)):
        if kind in _NEEDED:
            parts.append(data[start - 8 : end + 4])
    return b"".join(parts)


def is_whole_png(file: BinaryIO) -> bool:
    """Whether a PNG has its end, from its last bytes."""
    file.seek(0, 2)
    file.seek(max(0, file.tell() - len(PNG_END)))
    return file.read() == PNG_END


def _damaged() -> InvalidRequest:
    return InvalidRequest("This picture file is damaged or was cut off. Choose the original download, not a copy.")


def _too_long() -> InvalidRequest:
    return InvalidRequest(f"The text in this picture is longer than {TEXT_LIMIT_BYTES // 2**20} MB; it is not one of ours.")


# --- PNG -------------------------------------------------------------------------------------------------------------


class _Bytes:
    """Bytes with the two methods that walking over chunks needs."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        self._at += len(part)
        return part

    def seek(self, offset: int) -> None:
        self._at = offset


def _png_chunks(file: BinaryIO | _Bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each chunk's content, to IEND. The caller may read in between."""
    at = len(PNG_SIGNATURE)
    for _ in range(CHUNKS_LIMIT):
        file.seek(at)
        header = file.read(8)
        if len(header) < 8:
            raise _damaged()
        length, kind = struct.unpack(">I4s", header)
        yield kind, at + 8, at + 8 + length
        if kind == b"IEND":
            return
        at += 12 + length
    raise _damaged()


def _png(file: BinaryIO, wanted: frozenset[str]) -> Contents:
    width = height = 0
    texts: dict[str, str] = {}
    for kind, start, end in _png_chunks(file):
        if (kind == b"IHDR") != (width == 0):
            raise _damaged()  # the first one is IHDR, and no other
        if kind == b"IHDR":
            width, height = struct.unpack(">II", _checked(file, kind, 13)[:8])
            if not width or not height:
                raise _damaged()
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            key = file.read(80).partition(b"\x00")[0].decode("latin-1")
            if key in wanted and key not in texts:  # of two with one name the first counts, as in other readers
                if end - start > TEXT_LIMIT_BYTES:
                    raise _too_long()
                file.seek(start)
                texts[key] = _text(kind, _checked(file, kind, end - start))
    return Contents("PNG", width, height, texts)


def _checked(file: BinaryIO, kind: bytes, length: int) -> bytes:
    """A chunk's content, if its checksum says that it is what was written."""
    content = file.read(length)
    checksum = file.read(4)
    if len(content) < length or len(checksum) < 4 or zlib.crc32(content, zlib.crc32(kind)) != struct.unpack(">I", checksum)[0]:
        raise _damaged()
    return content


def _text(kind: bytes, content: bytes) -> str:
    _key, _, rest = content.partition(b"\x00")
    if kind == b"tEXt":
        return rest.decode("latin-1")
    if kind == b"zTXt":
        return _inflated(rest[1:]).decode("latin-1")
    packed, rest = rest[0], rest[2:]
    rest = rest.split(b"\x00", 2)[2]  # after the language and the translated keyword
    return (_inflated(rest) if packed else rest).decode("utf-8", "replace")


def _inflated(data: bytes) -> bytes:
    """`data` unpacked, no further than the limit."""
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(data, TEXT_LIMIT_BYTES)
    if not unpacking.eof:
        raise _too_long() if unpacking.unconsumed_tail else _damaged()
    return text


# --- JPEG and WebP ---------------------------------------------------------------------------------------------------


def _jpeg(file: BinaryIO, wanted: frozenset[str]) -> Contents:
    texts: dict[str, str] = {}
    at = 2
    for _ in range(CHUNKS_LIMIT):
        file.seek(at)
        mark, kind, length = struct.unpack(">BBH", file.read(4))
        if mark != 0xFF or length < 2:
            raise _damaged()
        if kind == 0xE1 and not texts:
            content = file.read(length - 2)
            if content.startswith(b"Exif\x00\x00"):
                texts = _exif(content[6:], wanted)
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # the frame: its size, and no text comes after it
            height, width = struct.unpack(">HH", file.read(5)[1:])
            if not width or not height:
                raise _damaged()
            return Contents("JPEG", width, height, texts)
        at += 2 + length
    raise _damaged()


def _webp(file: BinaryIO, wanted: frozenset[str]) -> Contents:
    texts: dict[str, str] = {}
    width = height = 0
    at = 12
    for _ in range(CHUNKS_LIMIT):
        file.seek(at)
        header = file.read(8)
        if len(header) < 8:
            break
        kind, length = struct.unpack("<4sI", header)
        if kind == b"VP8X":
            content = file.read(10)
            width = 1 + int.from_bytes(content[4:7], "little")
            height = 1 + int.from_bytes(content[7:10], "little")
        elif kind == b"VP8 " and not width:
            width, height = (side & 0x3FFF for side in struct.unpack("<HH", file.read(10)[6:]))
        elif kind == b"VP8L" and not width:
            bits = int.from_bytes(file.read(5)[1:], "little")
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        elif kind == b"EXIF" and not texts:
            if length > TEXT_LIMIT_BYTES:
                raise _too_long()
            content = file.read(length)
            texts = _exif(content.removeprefix(b"Exif\x00\x00"), wanted)
        at += 8 + length + length % 2
    if not width or not height:
        raise _damaged()
    return Contents("WEBP", width, height, texts)


def _exif(data: bytes, wanted: frozenset[str]) -> dict[str, str]:
    """The texts of an EXIF block: the image description and the user comment."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(data[:4])
    if order is None:
        return {}
    texts: dict[str, str] = {}
    folders = [struct.unpack(f"{order}I", data[4:8])[0]]
    for folder in folders:  # at most two: the first one may name the second
        count = struct.unpack_from(f"{order}H", data, folder)[0]
        for entry in range(folder + 2, folder + 2 + 12 * count, 12):
            tag, _type, length, offset = struct.unpack_from(f"{order}HHII", data, entry)
            if tag == _EXIF_IFD and len(folders) == 1:
                folders.append(offset)
            elif _EXIF_TEXTS.get(tag) in wanted:
                at = offset if length > 4 else entry + 8
                texts[_EXIF_TEXTS[tag]] = _exif_text(data[at : at + length], order)
    return texts


def _exif_text(content: bytes, order: str) -> str:
    if content.startswith(b"UNICODE\x00"):
        content = content[8:]
        # Some write it in the file's order, most in the big one's: in text with ASCII in it, the zeros tell.
        little = content[1::2].count(0) > content[::2].count(0)
        return content.decode("utf-16-le" if little else "utf-16-be", "replace")
    return content.removeprefix(b"ASCII\x00\x00\x00").rstrip(b"\x00").decode("utf-8", "replace")
