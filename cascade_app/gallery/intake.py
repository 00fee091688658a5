"""A dropped file into a visitor's gallery: a picture of ours becomes a row like any other, of others the settings are read.

What is kept is written anew from the checked record and the decoded pixels, so that nothing else of the file stays. Knows
nothing of HTTP.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from cascade_app.errors import NotInGallery
from cascade_app.gallery.gallery import Album
from cascade_app.gallery.item import Item
from cascade_app.gallery.reading import Restored, UploadLimits, read
from cascade_app.record import new_id


@dataclass(frozen=True)
class Intake:
    """What became of a file: its settings, and its row where it is a picture of ours."""

    restored: Restored
    item: Item | None = None


def take_in(album: Album, data: bytes, limits: UploadLimits | None = None) -> Intake:
    """Read `data` and keep it if it is a picture of ours. One that is here already is not kept twice: it comes back from the
    trash if it lies there.

    Raises:
        InvalidRequest: what reading.py refuses.
        GalleryError: it cannot be kept.
    """
    restored = read(data, limits)
    record, image = restored.record, restored.image
    if record is None or image is None:
        return Intake(restored)
    if not 0 < record.created_s <= time.time():
        record = replace(record, created_s=time.time())
    try:
        if album.record(record.id) == record:
            return Intake(restored, album.restore([record.id])[0])
        record = replace(record, id=new_id())  # another picture that claims the same id: both are kept
    except NotInGallery:
        pass
    return Intake(replace(restored, record=record), album.add(image, record))
