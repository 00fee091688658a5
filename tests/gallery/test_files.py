"""A picture under its name is whole, names are safe and sort like times, and failing to save is said in one sentence."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest

from cascade_app.errors import GalleryError
from cascade_app.gallery import files
from cascade_app.gallery.gallery import Album, Gallery
from tests.gallery.test_gallery import ANNA, PICTURE, record_of


@pytest.fixture
def album(tmp_path: Path) -> Album:
    gallery = Gallery(tmp_path / "pictures")
    gallery.open()
    yield gallery.of(ANNA)
    gallery.close()


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a Boat, on the SEA!", "a-boat-on-the-sea"),
        ("../../etc/passwd", "etc-passwd"),
        ("船 🚤", "picture"),
        ("con\r\nnul", "con-nul"),
        ("word " * 100, "word-word-word-word-word-word-word-word"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_names_are_safe_on_any_system(album: Album, prompt: str, words: str):
    record = record_of(prompt)
    item = album.add(PICTURE.copy(), record)
    assert item.name[20:] == f"{words}-7-{record.id}.png"
    assert [found.name for found in files.scan(album.home)] == [item.name]


def test_names_sort_like_times():
    record = record_of()
    names = [files.file_name(record, at_s) for at_s in (0, 0.5, 1, 999_999_999.999, 1e9, 1.5e9, 4e9)]
    assert names == sorted(names) and len(set(names)) == len(names)
    assert names[1].startswith("19700101-000000-500-a-boat-7-")


def test_a_record_without_a_seed_has_a_name_too(album: Album):
    record = record_of()
    record = replace(record, request=replace(record.request, seed=None), kind="sketch")
    assert [found.id for found in files.scan(album.add(PICTURE.copy(), record) and album.home)] == [record.id]


def test_a_full_disk_leaves_nothing_behind_and_is_a_sentence(album: Album):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    album.home.mkdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))
    try:
        with pytest.raises(GalleryError, match="could not be saved|cannot be used") as caught:
            album.add(PICTURE.copy(), record_of())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "CASCADE_DATA_DIR" in caught.value.message and "\n" not in caught.value.message
    assert list(album.home.iterdir()) == [] and album.page().items == ()


def test_a_folder_that_is_a_file_is_a_sentence(album: Album):
    album.home.write_text("in the way")
    with pytest.raises(GalleryError, match="could not be saved"):
        album.add(PICTURE.copy(), record_of())
    assert album.page().items == ()


def test_nothing_but_whole_pictures_is_found(album: Album):
    item = album.add(PICTURE.copy(), record_of())
    names = (".saving-x.tmp", "x.png", f"{item.name}.tmp", item.name.upper(), item.name.replace(".png", ".jpg"))
    for name in names:
        (album.home / name).write_bytes(b"x")
    (album.home / item.name.replace("20", "19", 1)).symlink_to("/etc/passwd")
    (album.home / item.name.replace("20", "18", 1)).mkdir()
    assert [found.name for found in files.scan(album.home)] == [item.name]
