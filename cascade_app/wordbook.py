"""The words that come with the app and those a user adds: styles and wildcards, read from plain files.

Styles are `assets/styles.json`; a wildcard `__name__` is `name.txt`, one choice a line, in the data folder's `wildcards/` or
in `assets/wildcards/`. Owns their limits and what may be a name; how they are drawn and joined is `words.py`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType

from cascade_app.errors import InvalidRequest
from cascade_app.request import shown

ASSETS = Path(__file__).resolve().parents[1] / "assets"
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]|_(?!_)){0,39}")  # no dot, no slash: it names a file
FILE_BYTES_LIMIT, LINES_LIMIT, LINE_LIMIT, FILES_LIMIT = 256 * 1024, 5000, 500, 1000


@dataclass(frozen=True)
class Style:
    """Words around a prompt: `prompt` holds "{prompt}" once, `negative` is added to the negative prompt."""

    name: str
    title: str
    prompt: str
    negative: str
    about: str


@dataclass(frozen=True)
class Wordbook:
    """The styles by name, and the folders with wildcards; an earlier folder's file hides a later one's of the same name."""

    styles: Mapping[str, Style]
    folders: tuple[Path, ...]

    @classmethod
    def of(cls, data_dir: Path | None = None) -> Wordbook:
        """The bundled one, with the wildcards of `data_dir` before it."""
        own = () if data_dir is None else (data_dir / "wildcards",)
        return cls(MappingProxyType(read_styles(ASSETS / "styles.json")), (*own, ASSETS / "wildcards"))

    def style(self, name: str) -> Style:
        """Raises InvalidRequest where there is none of that name."""
        found = self.styles.get(name) if isinstance(name, str) else None
        if found is None:
            raise InvalidRequest(f"There is no style {shown(name)}; {_nearest(name, self.styles)}", field="style")
        return found

    def wildcards(self) -> list[str]:
        """The names there are."""
        paths = (path for folder in self.folders if folder.is_dir() for path in islice(folder.glob("*.txt"), FILES_LIMIT))
        return sorted({path.stem for path in paths if NAME.fullmatch(path.stem)})

    def lines(self, name: str) -> tuple[str, ...]:
        """The choices of a wildcard: lines that are not empty and do not start with #.

        Raises:
            InvalidRequest: no such wildcard, or its file is too large, empty or no text.
        """
        if NAME.fullmatch(name):
            for folder in self.folders:
                path = folder / f"{name}.txt"
                if path.is_file():
                    return _read_lines(path)
        cure = r"write \_\_ for plain underscores."
        raise InvalidRequest(
            f"There is no wildcard {shown(name)}; {_nearest(name, self.wildcards()).rstrip('.')}, or {cure}", field="prompt"
        )


def read_styles(path: Path) -> dict[str, Style]:
    """The styles of a file, in its order."""
    styles = (Style(**fields) for fields in json.loads(path.read_text(encoding="utf-8")))
    return {style.name: style for style in styles}


def _nearest(name: object, names: Iterable[str]) -> str:
    known = list(names)
    near = difflib.get_close_matches(str(name)[:60].lower(), known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"choose one of {', '.join(known[:20])}{' ...' if len(known) > 20 else ''}." if known else "there are none."


def _read_lines(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_LIMIT + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise InvalidRequest(f"The wildcard {path.stem} cannot be read; save it as UTF-8 text.", field="prompt") from None
    lines = [line.strip().replace("\x00", "") for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(data) > FILE_BYTES_LIMIT or len(lines) > LINES_LIMIT or any(len(line) > LINE_LIMIT for line in lines):
        raise InvalidRequest(
            f"The wildcard {path.stem} is too large; the limits are {LINES_LIMIT:,} lines of {LINE_LIMIT} characters and "
            f"{FILE_BYTES_LIMIT // 1024} KB.",
            field="prompt",
        )
    if not lines:
        raise InvalidRequest(f"The wildcard {path.stem} is empty; write one choice a line.", field="prompt")
    return tuple(lines)
