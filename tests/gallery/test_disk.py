"""A nearly full disk: nothing more is kept, and what is there stays."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cascade_app.errors import GalleryFull
from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.limits import Limits, check_disk
from tests.gallery.test_gallery import PICTURE, record_of

ANN = "a" * 32


def test_nothing_is_kept_where_too_little_would_be_left(tmp_path: Path):
    total = shutil.disk_usage(tmp_path).total
    for floor, fits in ((0, True), (1, True), (total + 1, False)):
        gallery = Gallery(tmp_path / str(floor), Limits(disk_free_bytes=floor))
        gallery.open()
        album = gallery.of(ANN)
        if fits:
            gallery.check_room()
            album.add(PICTURE.copy(), record_of("a boat"))
        else:
            for refuses in (gallery.check_room, lambda album=album: album.add(PICTURE.copy(), record_of("a boat"))):
                with pytest.raises(GalleryFull, match="nearly full"):
                    refuses()
        assert len(list(gallery.folder.rglob("*.png"))) == fits
        gallery.close()


def test_the_limit_and_what_there_is_are_told():
    check_disk(5_000_000, 1_000_000, Limits(disk_free_bytes=4_000_000))
    with pytest.raises(GalleryFull) as caught:
        check_disk(5_000_000, 1_000_001, Limits(disk_free_bytes=4_000_000))
    assert caught.value.message.startswith("The disk of this server is nearly full: 5 MB are free, and 4 MB stay so.")
