"""A page with the stand-in engine and a gallery of its own, and the visitor who uses it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import gradio as gr
import pytest

from cascade_app.gallery.gallery import Gallery
from cascade_app.serving.visitors import COOKIE
from cascade_app.ui.blocks import lay_out
from cascade_app.ui.callbacks import Page
from tests.fakes import FakeBackend


def visitor(letter: str = "a") -> SimpleNamespace:
    """What a handler gets from a browser with that cookie."""
    return SimpleNamespace(headers={"cookie": f"{COOKIE}={letter * 43}"}, username=None)


@pytest.fixture
def gallery(tmp_path):
    one = Gallery(tmp_path / "pictures")
    one.open()
    yield one
    one.close()


@pytest.fixture(scope="session")
def elements(tmp_path_factory) -> Page:
    """Laid out once, which takes a second; no handler changes an element itself."""
    with gr.Blocks():
        return lay_out(FakeBackend(), Gallery(tmp_path_factory.mktemp("none")), checkpoint="pocket")


@pytest.fixture
def page(elements, gallery) -> Page:
    return replace(elements, backend=FakeBackend(), gallery=gallery)
