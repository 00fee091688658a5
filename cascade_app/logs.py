"""The log: one line an event on the error stream, as JSON where hosted and for a person's eyes on a desk.

    set_up(settings)                            once, by app.py
    event(log, "run ended", reference=...)      a line with fields
    explained(error, log, otherwise=SENTENCE)   at the border to a user: writes the line, returns the sentence

A fault's sentence ends with a reference, "(reference 7f3a9c04d1)", which its line in the log has too. What a visitor wrote is not
in the log unless CASCADE_LOG_PROMPTS asks for it: of exceptions that are not ours only the kind and the place are written
(their messages quote values), of other libraries' lines only what cannot quote any. A traceback is one line like the rest.
Knows nothing of runs.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import secrets
import sys
import threading
import traceback
from datetime import datetime, timezone
from typing import Any, TextIO

from cascade_app.errors import (
    CascadeError,
    CheckpointDamaged,
    DownloadFailed,
    GalleryError,
    GalleryFull,
    InvalidRequest,
    NotInGallery,
    NoVisitor,
    RenderFailed,
)
from cascade_app.settings import Settings

# Of our own errors those that a user can do little about, and their kinds that a user can.
_FAULTS = (CheckpointDamaged, DownloadFailed, GalleryError, RenderFailed)
_NO_FAULTS = (NotInGallery, NoVisitor, GalleryFull)
FRAMES = 12  # of a traceback, the innermost ones
_OURS = "cascade_app"
_TRUSTED = ("uvicorn.error", "asyncio", "py.warnings", "huggingface_hub")  # their first lines quote no visitor
_log = logging.getLogger(__name__)


def set_up(settings: Settings, stream: TextIO | None = None) -> None:
    """Send every logger's lines, and what libraries print to the error stream, through one formatter to `stream`."""
    stream = stream or sys.stderr
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and settings.hosted)
    handler = _Handler(stream)
    handler.setFormatter(Lines(as_json=as_json, prompts=settings.log_prompts))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_OURS).setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):  # they come with handlers of their own
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.captureWarnings(True)
    sys.stderr = Printed(stream, prompts=settings.log_prompts)


def event(
    log: logging.Logger, what: str, *, level: int = logging.INFO, raised: BaseException | None = None, **fields: Any
) -> None:
    """One line: what happened, and facts about it by name. `fields` must not hold what a visitor wrote."""
    log.log(level, what, exc_info=raised, extra={"fields": fields})


def new_reference() -> str:
    """For a fault outside of any run, as `serving.caller.new_request_id` for one inside."""
    return secrets.token_hex(5)


def visitor_shown(visitor: str) -> str:
    """A visitor as the log names one: lines of the same one can be told, and it opens no gallery."""
    return hashlib.sha256(f"log:{visitor}".encode("utf-8", "surrogatepass")).hexdigest()[:8] if visitor else ""


def is_fault(error: BaseException) -> bool:
    """Whether somebody should look into the log for it: nothing that a user can put right or has only to wait for."""
    return not isinstance(error, CascadeError) or (isinstance(error, _FAULTS) and not isinstance(error, _NO_FAULTS))


def explained(error: BaseException, log: logging.Logger, *, otherwise: str, reference: str = "") -> str:
    """The sentence a user gets about `error`, `otherwise` where it is not one of ours; a fault is in the log once."""
    if not is_fault(error):
        return error.message
    reference = noted(error, log, reference=reference)
    sentence = error.message if isinstance(error, CascadeError) else otherwise
    return f"{sentence.rstrip('.')} (reference {reference})."


def noted(error: BaseException, log: logging.Logger, *, reference: str = "") -> str:
    """The reference of a fault's line in the log, which is written unless it was before."""
    known = getattr(error, "reference", "")
    if known:
        return known
    error.reference = reference or new_reference()
    event(log, "fault", level=logging.ERROR, raised=error, reference=error.reference)
    return error.reference


# --- how a line looks ------------------------------------------------------------------------------------------------


class Lines(logging.Formatter):
    """A record as one line."""

    def __init__(self, *, as_json: bool, prompts: bool = False) -> None:
        super().__init__()
        self._as_json, self._prompts = as_json, prompts

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        what = self._what(record)
        fields = dict(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[1] is not None:
            fields |= described(record.exc_info[1], prompts=self._prompts)
        if self._as_json:
            head = {"time": moment.isoformat(timespec="milliseconds"), "level": record.levelname.lower(), "logger": record.name}
            return json.dumps({**head, "event": what, **fields}, default=str)
        shown = " ".join(f"{name}={_word(value)}" for name, value in fields.items() if value not in ("", None))
        line = f"{moment.astimezone():%H:%M:%S} {record.levelname.lower()} {what} {shown}".rstrip()
        return line.encode("utf-8", "backslashreplace").decode()

    def _what(self, record: logging.LogRecord) -> str:
        if record.name.split(".")[0] == _OURS or self._prompts:
            return " ".join(record.getMessage().split())
        if record.name in _TRUSTED:
            return record.getMessage().partition("\n")[0]
        return str(record.msg).partition("\n")[0].partition(":")[0][:120]  # neither its values nor what was put in before


def described(error: BaseException, *, prompts: bool = False) -> dict[str, Any]:
    """An exception in plain values: its kind, its reason where that quotes nobody, its place, and what led to it."""
    names = [type(error).__name__]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    while cause is not None and len(names) < 4:
        names.append(type(cause).__name__)
        error_before, cause = cause, cause.__cause__ or cause.__context__
        if cause is error_before:
            break
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    at = [f"{_place(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": " from ".join(names), "reason": _reason(error, prompts), "at": " < ".join(reversed(at))}


def _reason(error: BaseException, prompts: bool) -> str:
    if prompts or (isinstance(error, CascadeError) and not isinstance(error, InvalidRequest)):
        text = str(error)
    elif isinstance(error, OSError):
        text = error.strerror or ""  # not the file's name, which holds words of a prompt
    elif type(error).__module__ == "sqlite3" or type(error).__name__ == "OutOfMemoryError":
        text = str(error)
    else:
        text = ""
    return " ".join(text.split())[:500]


def _place(path: str) -> str:
    parts = path.replace("\\", "/").split("/")
    for root in ("site-packages", _OURS):
        if root in parts:
            return "/".join(parts[parts.index(root) + (root == "site-packages") :])
    return "/".join(parts[-2:])


def _word(value: Any) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text and '"' not in text else json.dumps(text, ensure_ascii=False)


class _Handler(logging.StreamHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """A log that cannot be written (a full disk) stops nothing, and is not complained about in the log."""


class Printed(io.TextIOBase):
    """An error stream whose text becomes lines of the log: what libraries print to it, tracebacks above all."""

    def __init__(self, stream: TextIO, *, prompts: bool = False) -> None:
        self._stream, self._prompts = stream, prompts
        self._begun = threading.local()

    @property
    def encoding(self) -> str:
        return self._stream.encoding or "utf-8"

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self._stream.flush()

    def write(self, text: str) -> int:
        begun = self._begun
        *lines, begun.rest = (getattr(begun, "rest", "") + text).split("\n")
        for line in lines:
            self._take(line)
        return len(text)

    def _take(self, line: str) -> None:
        begun = self._begun
        if line.startswith("Traceback (most recent call last)"):
            begun.at = []
        elif getattr(begun, "at", None) is None:
            self._tell(line)
        elif line.startswith('  File "'):
            path, _, rest = line[8:].partition('", line ')
            begun.at.append(f"{_place(path)}:{rest.replace(', in ', ' ')}")
        elif line.strip() and not line.startswith(" "):
            kind, _, reason = line.partition(":")
            fields = {"error": kind.rpartition(".")[2], "reason": reason.strip() if self._prompts else ""}
            event(_log, "a library failed", level=logging.ERROR, **fields, at=" < ".join(reversed(begun.at[-FRAMES:])))
            begun.at = None

    def _tell(self, line: str) -> None:
        if not line.strip() or "exception occurred" in line or "direct cause of" in line:
            return
        if self._prompts:
            event(_log, line.strip(), level=logging.WARNING)
        else:
            what = "a library printed something; CASCADE_LOG_PROMPTS=1 shows it"
            event(_log, what, level=logging.WARNING, characters=len(line))
