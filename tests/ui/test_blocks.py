"""The page as a whole: what of it others may call."""

from __future__ import annotations

from cascade_app.gallery.gallery import Gallery
from cascade_app.ui.blocks import build_ui
from tests.fakes import FakeBackend


def test_six_functions_are_public_under_their_names_and_all_else_is_private(tmp_path):
    blocks = build_ui(FakeBackend(), Gallery(tmp_path / "pictures"), checkpoint="pocket")
    described = blocks.get_api_info()
    assert list(described["named_endpoints"]) == ["/generate", "/sketch", "/develop", "/vary", "/checkpoints", "/plan"]
    assert not described["unnamed_endpoints"]
    others = [one for one in blocks.fns.values() if f"/{one.api_name}" not in described["named_endpoints"]]
    assert len(others) > 20 and {one.api_visibility for one in others} == {"private"}
