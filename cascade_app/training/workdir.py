"""Where training keeps its state: caches, checkpoints of running parts, logs. Never inside the repository."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np


def work_dir(path: str | Path | None = None) -> Path:
    """The folder given, else CASCADE_TRAIN_DIR, else one in the user's cache; created."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(path or os.environ.get("CASCADE_TRAIN_DIR") or Path(cache) / "cascade-studio" / "train")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def keep(path: Path, array: np.ndarray) -> None:
    """Write `array` as `path`, whole or not at all: parts that train side by side may make the same file."""
    temporary = path.with_suffix(f".{os.getpid()}.npy")
    np.save(temporary, array)
    temporary.replace(path)


def add_work_dir_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--work-dir", help="where training state is kept (default: CASCADE_TRAIN_DIR or the user's cache)"
    )
