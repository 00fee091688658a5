"""Every `CASCADE_*` environment variable, read once, in one place."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cascade_app.errors import SettingsError

PLACEMENTS = ("auto", "resident", "swap", "stream", "cpu", "resident+fp8", "swap+fp8")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class Settings:
    """How this process was asked to run.

    Attributes:
        host, port: where the page is served (`CASCADE_HOST`, `CASCADE_PORT`).
        checkpoint: name or folder of the checkpoint to start with (`CASCADE_CHECKPOINT`).
        accept_license: names of licences that were accepted, with commas (`CASCADE_ACCEPT_LICENSE`).
        data_dir: where pictures are kept (`CASCADE_DATA_DIR`).
        device: "auto", or a torch device name (`CASCADE_DEVICE`).
        dtype: "auto", "float32", "bfloat16" or "float16" for the networks' weights (`CASCADE_DTYPE`).
        threads: CPU threads for torch, 0 for torch's own choice (`CASCADE_THREADS`).
        placement: "auto", or the placement to insist on (`CASCADE_PLACEMENT`), "+fp8" added for Stage C in 8 bits.
        vram_budget_bytes: use at most so much of the device, 0 for all that is free (`CASCADE_VRAM_BUDGET`, "12GB").
        queue_size: requests that may wait before new ones are refused (`CASCADE_QUEUE_SIZE`).
        gallery_pictures, gallery_bytes: what a visitor may keep at most, 0 for no limit (`CASCADE_GALLERY_PICTURES`,
            `CASCADE_GALLERY_BYTES`, "20GB").
        gallery_all_pictures, gallery_all_bytes: and all visitors together (`CASCADE_GALLERY_ALL_PICTURES`, `..._ALL_BYTES`).
        gallery_trash_days: how long the trash is kept (`CASCADE_GALLERY_TRASH_DAYS`).
        upload_bytes, upload_pixels: of a file dropped on the page, at most (`CASCADE_UPLOAD_BYTES`, `CASCADE_UPLOAD_PIXELS`).
        hosted: whether people nobody knows use it (`CASCADE_HOSTED`, 0 or 1; 1 on a Space); it decides other defaults.
        debug: show the traceback of an unexpected error on the command line (`CASCADE_DEBUG`, 0 or 1).
    """

    host: str = "127.0.0.1"
    port: int = 7860
    checkpoint: str = "pocket"
    data_dir: Path = field(default_factory=lambda: Path("~/.local/share/cascade-studio").expanduser())
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0
    placement: str = "auto"
    vram_budget_bytes: int = 0
    queue_size: int = 64
    debug: bool = False
    accept_license: str = ""
    gallery_pictures: int = 10_000
    gallery_bytes: int = 20 * 10**9
    gallery_all_pictures: int = 100_000
    gallery_all_bytes: int = 100 * 10**9
    gallery_trash_days: int = 30
    upload_bytes: int = 32 * 10**6
    upload_pixels: int = 2**25
    hosted: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment (or `environ`).

        Raises:
            SettingsError: a value is not usable; says which, and what would be.
        """
        environ = os.environ if environ is None else environ
        return cls(
            host=_text(environ, "CASCADE_HOST", cls.host),
            port=_whole(environ, "CASCADE_PORT", cls.port, maximum=65535),
            checkpoint=_text(environ, "CASCADE_CHECKPOINT", cls.checkpoint),
            accept_license=_text(environ, "CASCADE_ACCEPT_LICENSE", cls.accept_license),
            data_dir=_data_dir(environ),
            device=_text(environ, "CASCADE_DEVICE", cls.device),
            dtype=_choice(environ, "CASCADE_DTYPE", cls.dtype, ("auto", "float32", "bfloat16", "float16")),
            threads=_whole(environ, "CASCADE_THREADS", cls.threads, maximum=1024),
            placement=_choice(environ, "CASCADE_PLACEMENT", cls.placement, PLACEMENTS),
            vram_budget_bytes=_bytes(environ, "CASCADE_VRAM_BUDGET", cls.vram_budget_bytes),
            queue_size=_whole(environ, "CASCADE_QUEUE_SIZE", cls.queue_size, maximum=100_000),
            gallery_pictures=_whole(environ, "CASCADE_GALLERY_PICTURES", cls.gallery_pictures, maximum=10**9),
            gallery_bytes=_bytes(environ, "CASCADE_GALLERY_BYTES", cls.gallery_bytes),
            gallery_all_pictures=_whole(environ, "CASCADE_GALLERY_ALL_PICTURES", cls.gallery_all_pictures, maximum=10**9),
            gallery_all_bytes=_bytes(environ, "CASCADE_GALLERY_ALL_BYTES", cls.gallery_all_bytes),
            gallery_trash_days=_whole(environ, "CASCADE_GALLERY_TRASH_DAYS", cls.gallery_trash_days, maximum=36_500),
            upload_bytes=_bytes(environ, "CASCADE_UPLOAD_BYTES", cls.upload_bytes),
            upload_pixels=_whole(environ, "CASCADE_UPLOAD_PIXELS", cls.upload_pixels, maximum=2**28),
            hosted=_whole(environ, "CASCADE_HOSTED", int(bool(_text(environ, "SPACE_ID", ""))), maximum=1) == 1,
            debug=_whole(environ, "CASCADE_DEBUG", cls.debug, maximum=1) == 1,
        )


def _text(environ: Mapping[str, str], name: str, default: str) -> str:
    return environ.get(name, "").strip() or default


def _shown(text: str) -> str:
    """A value as a message may show it: short, one line."""
    return " ".join(text[:40].split())


def _data_dir(environ: Mapping[str, str]) -> Path:
    data_home = _text(environ, "XDG_DATA_HOME", "~/.local/share")
    folder = Path(_text(environ, "CASCADE_DATA_DIR", f"{data_home}/cascade-studio"))
    try:
        return folder.expanduser()
    except RuntimeError:
        raise SettingsError(f'CASCADE_DATA_DIR is "{_shown(str(folder))}", but there is no such user; name a folder.') from None


def _whole(environ: Mapping[str, str], name: str, default: int, *, maximum: int) -> int:
    text = _text(environ, name, "")
    if not text:
        return default
    digits = text.lstrip("0") or "0"
    if not (text.isascii() and text.isdigit()) or len(digits) > len(str(maximum)) or int(digits) > maximum:
        raise SettingsError(f'{name} is "{_shown(text)}"; set it to a whole number from 0 to {maximum}.')
    return int(digits)


def _bytes(environ: Mapping[str, str], name: str, default: int) -> int:
    return parse_bytes(name, _text(environ, name, str(default)))


def _choice(environ: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    text = _text(environ, name, default)
    if text not in choices:
        raise SettingsError(f'{name} is "{_shown(text)}"; set it to one of {", ".join(choices)}.')
    return text


def parse_bytes(name: str, text: str) -> int:
    """A size as people write it, "12GB", "11.5 GiB" or "8000000000", in bytes; `name` is what a complaint calls it.

    Raises:
        SettingsError: not a size.
    """
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]{0,3})\s*", text, re.ASCII)
    if not match or match[2].upper() not in _UNITS:
        raise SettingsError(f'{name} is "{_shown(text)}"; write a size such as 12GB or 11.5GiB.')
    return int(float(match[1]) * _UNITS[match[2].upper()])
