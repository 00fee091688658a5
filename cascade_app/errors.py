"""Every error the house raises on purpose.

    CascadeError                   anything we can explain to a user in one sentence
    |-- InvalidRequest             the user asked for something that cannot be: fix the field it names
    |   `-- NothingFits            no placement of the weights fits into the memory there is
    |-- SettingsError              an environment variable holds a value we cannot use
    |-- CheckpointError            a checkpoint cannot be used
    |   |-- CheckpointNotFound     no such name, folder or file
    |   |-- CheckpointDamaged      a file is missing, truncated, or not what its name says
    |   |-- LicenseNotAccepted     its licence asks to be accepted first
    |   `-- DownloadFailed         it could not be fetched from the hub
    |-- NotReady                   the engine is still loading, or could not load
    |-- Withheld                   what was made is not shown, or nothing may be made: the safety checks say so
    |-- ShuttingDown               the server is being shut down
    |-- Busy                       the queue is full: try again later
    |   `-- OverLimit              this visitor has had, or waits for, as much as one may
    |-- TookTooLong                a run was ended at the limit of time
    |-- GalleryError               pictures cannot be kept or looked up
    |   |-- NotInGallery           no picture of that id belongs to this visitor
    |   |-- GalleryFull            a limit is reached and only favourites are left
    |   `-- NoVisitor              a browser that keeps no cookie, and no login
    `-- RenderFailed               the computation itself failed (out of memory, not-a-number)

A message says what, the value, the limit and the cure, and is safe to show to anyone: it never holds
a traceback. What is not a CascadeError is a bug.
"""

from __future__ import annotations


class CascadeError(Exception):
    """Base of all errors with a message meant for the user (plain text, one sentence)."""

    @property
    def message(self) -> str:
        return str(self)


class InvalidRequest(CascadeError):
    """A field of a request is out of its limits.

    Attributes:
        field: name of the field in `request.FIELDS`, or "" when no single one is at fault.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class NothingFits(InvalidRequest):
    """No placement fits; the message says what the least would take."""


class SettingsError(CascadeError):
    """A `CASCADE_*` variable holds an unusable value."""


class CheckpointError(CascadeError):
    """A checkpoint cannot be used."""


class CheckpointNotFound(CheckpointError):
    """No checkpoint of that name, folder or file."""


class CheckpointDamaged(CheckpointError):
    """A checkpoint is there, but one of its files is missing, truncated or of the wrong kind."""


class LicenseNotAccepted(CheckpointError):
    """A checkpoint's licence has to be accepted before its weights are used.

    Attributes:
        license: its name, as `CASCADE_ACCEPT_LICENSE` takes it.
    """

    def __init__(self, message: str, *, license: str = "") -> None:
        super().__init__(message)
        self.license = license


class DownloadFailed(CheckpointError):
    """A file could not be fetched from the hub; what was there before is untouched, and trying again goes on from there."""


class NotReady(CascadeError):
    """The engine has not finished loading, or failed to."""


class Withheld(CascadeError):
    """The safety checks let nothing through: the image checker took every picture, or cannot be asked."""


class ShuttingDown(CascadeError):
    """The server is about to end; nothing new begins, and what waits is told."""


class Busy(CascadeError):
    """Too much is waiting already."""


class OverLimit(Busy):
    """One visitor's limit is reached; the message says which, and how long to wait."""


class TookTooLong(CascadeError):
    """A run was ended because it took, or held the engine, longer than it may."""


class GalleryError(CascadeError):
    """The gallery cannot keep or look up pictures."""


class NotInGallery(GalleryError):
    """No picture of that id, or somebody else's: the answer is the same."""


class GalleryFull(GalleryError):
    """A limit of pictures or bytes is reached, and what is left are favourites."""


class NoVisitor(GalleryError):
    """Nobody can tell whose pictures are meant."""


class RenderFailed(CascadeError):
    """The computation failed after the request was accepted."""
