"""The command that makes the index again, as a user would run it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cascade_app.gallery.__main__ import main
from cascade_app.gallery.gallery import Gallery
from tests.gallery.test_gallery import busy, everything


def test_the_index_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    gallery = Gallery(tmp_path / "pictures")
    gallery.open()
    busy(gallery)
    before = everything(gallery)
    with gallery.index.write() as db:
        db.execute("DELETE FROM picture WHERE kind = 'picture'")
    monkeypatch.setenv("CASCADE_DATA_DIR", str(tmp_path))
    assert main() == 0
    assert capsys.readouterr().out == "7 pictures are in the gallery.\n"
    assert everything(gallery) == before
    gallery.close()


def test_what_is_wrong_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CASCADE_DATA_DIR", str(tmp_path / "file"))
    assert main() == 2
    assert capsys.readouterr().err.count("\n") == 1
