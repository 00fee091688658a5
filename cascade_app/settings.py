"""Every `CASCADE_*` environment variable, read once, in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cascade_app.errors import SettingsError


@dataclass(frozen=True)
class Settings:
    """How this process was asked to run.

    Attributes:
        host, port: where the page is served (`CASCADE_HOST`, `CASCADE_PORT`).
        checkpoint: name or folder of the checkpoint to start with (`CASCADE_CHECKPOINT`).
        data_dir: where pictures are kept (`CASCADE_DATA_DIR`).
        device: "auto", or a torch device name (`CASCADE_DEVICE`).
        dtype: "auto", "float32", "bfloat16" or "float16" for the networks' weights (`CASCADE_DTYPE`).
        threads: CPU threads for torch, 0 for torch's own choice (`CASCADE_THREADS`).
        queue_size: requests that may wait before new ones are refused (`CASCADE_QUEUE_SIZE`).
    """

    host: str = "127.0.0.1"
    port: int = 7860
    checkpoint: str = "pocket"
    data_dir: Path = Path("~/.local/share/cascade-studio")
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0
    queue_size: int = 64

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the environment (or `environ`).

        Raises:
            SettingsError: a value is not usable; says which, and what would be.
        """
        environ = os.environ if environ is None else environ
        data_home = environ.get("XDG_DATA_HOME") or "~/.local/share"
        return cls(
            host=environ.get("CASCADE_HOST", cls.host),
            port=_whole(environ, "CASCADE_PORT", cls.port, maximum=65535),
            checkpoint=environ.get("CASCADE_CHECKPOINT", cls.checkpoint),
            data_dir=Path(environ.get("CASCADE_DATA_DIR") or Path(data_home) / "cascade-studio").expanduser(),
            device=environ.get("CASCADE_DEVICE", cls.device),
            dtype=_choice(environ, "CASCADE_DTYPE", cls.dtype, ("auto", "float32", "bfloat16", "float16")),
            threads=_whole(environ, "CASCADE_THREADS", cls.threads, maximum=1024),
            queue_size=_whole(environ, "CASCADE_QUEUE_SIZE", cls.queue_size, maximum=100_000),
        )


def _whole(environ: Mapping[str, str], name: str, default: int, *, maximum: int) -> int:
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) > maximum:
        raise SettingsError(f'{name} is "{text}"; set it to a whole number from 0 to {maximum}.')
    return int(text)


def _choice(environ: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    text = environ.get(name, "").strip() or default
    if text not in choices:
        raise SettingsError(f'{name} is "{text}"; set it to one of {", ".join(choices)}.')
    return text
