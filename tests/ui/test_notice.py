"""The notice of acceptable use: there where hosted, in the operator's words where they have some, and with the terms."""

from __future__ import annotations

import pytest

from cascade_app.published import LICENSE
from cascade_app.settings import Settings
from cascade_app.ui.blocks import build_ui
from cascade_app.ui.notice import OURS, acceptable_use, notice
from tests.fakes import FakeBackend


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, ""), ({"hosted": True}, OURS), ({"hosted": True, "acceptable_use": "off"}, ""),
        ({"acceptable_use": "Be kind."}, "Be kind."), ({"hosted": True, "acceptable_use": "Be kind."}, "Be kind."),
    ],
)  # fmt: skip
def test_where_it_is_and_what_it_says(settings, text):
    assert acceptable_use(Settings(**settings)) == text


def test_it_names_the_licence_of_the_weights_and_links_the_terms():
    for license, address in (("apache-2.0", "apache.org/licenses"), (LICENSE, "huggingface.co/stabilityai/stable-cascade/")):
        shown = notice("Be <kind>.", checkpoint="Pocket & co", license=license)
        assert "Be &lt;kind&gt;." in shown and "Pocket &amp; co" in shown
        assert f">{license}</a>" in shown and address in shown
    assert "see the <b>" not in notice("Be kind.", checkpoint="Mine", license="see the <b>checkpoint")
    assert notice("", checkpoint="Pocket", license="apache-2.0") == ""


def test_the_page_has_it(gallery):
    page = build_ui(FakeBackend(), gallery, checkpoint="pocket", acceptable_use="Be kind.")
    (shown,) = [block.value for block in page.blocks.values() if getattr(block, "elem_id", None) == "notice"]
    assert "Be kind." in shown and "Apache-2.0" in shown
