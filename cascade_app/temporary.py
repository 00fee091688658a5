"""Files that need not last: a folder of this process alone, cleared of what is old while it runs and removed at its end.

    temporary = Temporary.begin()     makes it, points Gradio at it, and removes those of processes that were killed
    temporary.sweep()                 on a timer: what is older than KEPT_S, and the empty folders that leaves
    temporary.end()

Uploads, Gradio's copies and what the API hands over lie there. A process holds a lock on its folder while it lives, so that
nobody clears another one's. Of downloads that were broken off the part is kept in the hub's cache, where the next try goes on
from it. Knows nothing of what the files are.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cascade_app.logs import event

KEPT_S = 3600.0
SWEEP_S = 600.0
PREFIX, LOCK = "run-", ".alive"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Temporary:
    """A folder, and the handle whose lock says that its process lives."""

    folder: Path
    _lock: int

    @classmethod
    def begin(cls, base: Path | None = None) -> Temporary:
        """Under `base`, by default GRADIO_TEMP_DIR or the system's folder for such files.

        Raises:
            OSError: nothing can be written there.
        """
        base = base or _base()
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        clear_dead(base)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
        lock = os.open(folder / f"{LOCK}-soon", os.O_RDWR | os.O_CREAT, 0o600)
        _take(lock)
        os.rename(folder / f"{LOCK}-soon", folder / LOCK)  # under this name it was never seen without its lock
        os.environ["GRADIO_TEMP_DIR"] = str(folder)
        return cls(folder, lock)

    def sweep(self, *, kept_s: float = KEPT_S) -> int:
        """Remove what is older than `kept_s`, a file at a time; returns how many. What cannot be removed is left."""
        before_s, count = time.time() - kept_s, 0
        for root, folders, names in os.walk(self.folder, topdown=False):
            for path in (Path(root, name) for name in names if name != LOCK):
                count += _removed(path, before_s, os.unlink)
            for path in (Path(root, name) for name in folders):
                _removed(path, before_s, os.rmdir)  # one with something in it stays
        return count

    def end(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            os.close(self._lock)


def clear_dead(base: Path) -> None:
    """Remove the folders in `base` whose process is gone. Anything else there is let be."""
    for folder in base.glob(f"{PREFIX}*"):
        with suppress(OSError):
            lock = os.open(folder / LOCK, os.O_RDWR)
            try:
                if _take(lock):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def every(seconds: float, *actions: Callable[[], object]) -> threading.Event:
    """Do `actions` in the background every so often, until the event that is returned is set. One that fails is in the log."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(seconds):
            for action in actions:
                try:
                    action()
                except Exception as error:  # the others, and the next time, are not to suffer
                    event(_log, "clearing up failed", level=logging.ERROR, raised=error)

    threading.Thread(target=work, name="cascade-sweep", daemon=True).start()
    return ended


def _base() -> Path:
    if given := os.environ.get("GRADIO_TEMP_DIR"):
        return Path(given)
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    base = Path(tempfile.gettempdir(), f"cascade-studio-{user}")
    with suppress(FileNotFoundError):
        facts = base.lstat()  # a name that anyone can foresee may be somebody else's folder, or a link to one
        if not stat.S_ISDIR(facts.st_mode) or (hasattr(os, "getuid") and facts.st_uid != os.getuid()):
            return Path(tempfile.mkdtemp(prefix="cascade-studio-"))
    return base


def _take(lock: int) -> bool:
    """Lock the file, if nobody has it; it is given back when the process ends, however it does."""
    try:
        import fcntl
    except ImportError:  # Windows removes no open file anyway
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _removed(path: Path, before_s: float, remove: Callable[[Path], None]) -> bool:
    with suppress(OSError):
        if path.lstat().st_mtime < before_s:
            remove(path)
            return True
    return False
