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
        login: "" for everyone, "hub" for whoever signs in at the hub, or "name:password" (`CASCADE_LOGIN`; "@" and a path
            for the first line of that file).
        proxies: how many proxies in front of this server add to X-Forwarded-For (`CASCADE_PROXIES`; 1 on a Space). 0 leaves
            the header unread: anybody may write one.
        visitor_waiting, visitor_pictures: of one visitor, requests waiting at once and pictures an hour, 0 for no limit
            (`CASCADE_VISITOR_WAITING`, `CASCADE_VISITOR_PICTURES`; hosted 4 and 120).
        request_pixels: of all pictures of a request together, 0 for no limit (`CASCADE_REQUEST_PIXELS`; hosted 2**24).
        job_seconds: a run's time from its turn on, 0 for no limit (`CASCADE_JOB_SECONDS`; hosted 600).
        body_bytes: of any request (`CASCADE_BODY_BYTES`). streams: connections that are kept open (`CASCADE_STREAMS`).
        disk_free_bytes: what is left free of the disk, at least (`CASCADE_DISK_FREE`).
        hosted: whether people nobody knows use it (`CASCADE_HOSTED`, 0 or 1; 1 on a Space); it decides other defaults.
        blocklist: words that no prompt may have: "auto" (the bundled list where hosted), "off", or a file (`CASCADE_BLOCKLIST`).
        image_checker: "auto" (where hosted), "off", or the folder or hub name of one (`CASCADE_IMAGE_CHECKER`).
        acceptable_use: what the page says about it; "auto" is a text of ours where hosted (`CASCADE_ACCEPTABLE_USE`).
        log_format: "auto" (json where hosted), "json" or "text" (`CASCADE_LOG_FORMAT`).
        log_prompts: write what visitors wrote into the log (`CASCADE_LOG_PROMPTS`, 0 or 1).
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
    login: str = field(default="", repr=False)
    proxies: int = 0
    visitor_waiting: int = 0
    visitor_pictures: int = 0
    request_pixels: int = 0
    job_seconds: int = 0
    body_bytes: int = 40 * 10**6
    streams: int = 1000
    disk_free_bytes: int = 200 * 10**6
    hosted: bool = False
    blocklist: str = "auto"
    image_checker: str = "auto"
    acceptable_use: str = "auto"
    log_format: str = "auto"
    log_prompts: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment (or `environ`).

        Raises:
            SettingsError: a value is not usable; says which, and what would be.
        """
        environ = os.environ if environ is None else environ
        on_space = bool(_text(environ, "SPACE_ID", ""))
        hosted = _whole(environ, "CASCADE_HOSTED", int(on_space), maximum=1) == 1
        usual = HOSTED if hosted else cls
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
            login=_login(environ),
            proxies=_whole(environ, "CASCADE_PROXIES", int(on_space), maximum=16),
            visitor_waiting=_whole(environ, "CASCADE_VISITOR_WAITING", usual.visitor_waiting, maximum=100_000),
            visitor_pictures=_whole(environ, "CASCADE_VISITOR_PICTURES", usual.visitor_pictures, maximum=10**6),
            request_pixels=_whole(environ, "CASCADE_REQUEST_PIXELS", usual.request_pixels, maximum=2**40),
            job_seconds=_whole(environ, "CASCADE_JOB_SECONDS", usual.job_seconds, maximum=10**6),
            body_bytes=_bytes(environ, "CASCADE_BODY_BYTES", cls.body_bytes),
            streams=_whole(environ, "CASCADE_STREAMS", cls.streams, maximum=10**6),
            disk_free_bytes=_bytes(environ, "CASCADE_DISK_FREE", cls.disk_free_bytes),
            hosted=hosted,
            blocklist=_text(environ, "CASCADE_BLOCKLIST", cls.blocklist),
            image_checker=_text(environ, "CASCADE_IMAGE_CHECKER", cls.image_checker),
            acceptable_use=_text(environ, "CASCADE_ACCEPTABLE_USE", cls.acceptable_use),
            log_format=_choice(environ, "CASCADE_LOG_FORMAT", cls.log_format, ("auto", "json", "text")),
            log_prompts=_whole(environ, "CASCADE_LOG_PROMPTS", cls.log_prompts, maximum=1) == 1,
            debug=_whole(environ, "CASCADE_DEBUG", cls.debug, maximum=1) == 1,
        )


# What a server that people nobody knows use has in place of the other defaults.
HOSTED = Settings(visitor_waiting=4, visitor_pictures=120, request_pixels=2**24, job_seconds=600, hosted=True)


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


def _login(environ: Mapping[str, str]) -> str:
    """Who may come in. A password is never part of a message."""
    text = _text(environ, "CASCADE_LOGIN", "")
    if text.startswith("@"):
        try:
            lines = Path(text[1:]).expanduser().read_text(encoding="utf-8").strip().splitlines()
        except (OSError, ValueError, RuntimeError):
            raise SettingsError("CASCADE_LOGIN names a file that cannot be read; write @ and the path of a text file.") from None
        text = lines[0].strip() if lines else ":"
    user, colon, password = text.partition(":")
    if text and text != "hub" and not (colon and user and password and text.isprintable()):
        raise SettingsError("CASCADE_LOGIN holds no login; write name:password, or hub to have people sign in at the hub.")
    return text


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
