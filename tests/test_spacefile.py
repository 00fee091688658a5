"""The Spacefile is the one declaration: the README's front matter, the pins and the files must agree with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cascade_app.spacefile import declaration, front_matter, with_front_matter

ROOT = Path(__file__).resolve().parent.parent
SPACEFILE = (ROOT / "Spacefile").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
REQUIREMENTS = (ROOT / "requirements.txt").read_text(encoding="utf-8")


def test_readme_holds_the_spacefile():
    assert with_front_matter(README, SPACEFILE) == README, "run `make readme`"


def test_a_space_gets_what_it_needs():
    values = declaration(SPACEFILE)
    assert {"title", "emoji", "sdk", "sdk_version", "python_version", "app_file", "license"} <= set(values)
    assert values["sdk"] == "gradio"
    assert values["license"] == "apache-2.0"
    assert (ROOT / values["app_file"]).is_file()


def test_sdk_version_is_the_pinned_gradio():
    assert f"gradio=={declaration(SPACEFILE)['sdk_version']}" in REQUIREMENTS.splitlines()


def test_every_requirement_is_pinned():
    lines = [line for line in REQUIREMENTS.splitlines() if line and not line.startswith("#")]
    pinned = re.compile(r"[a-z0-9_]+==[0-9.]+(; python_version (<|>=) \"3\.11\")?")
    assert [line for line in lines if not pinned.fullmatch(line)] == []


def test_front_matter_keeps_order_and_text():
    body = "title: Süß\nsdk: gradio\npython_version: '3.12'\npinned: false\ntags:\n- a\n"
    assert front_matter(body) == front_matter(f"# a remark\n{body}") == f"---\n{body}---\n"


def test_front_matter_is_replaced_not_stacked():
    once = with_front_matter("# Hello\n\n---\n\nrule above\n", "title: A")
    assert once == "---\ntitle: A\n---\n# Hello\n\n---\n\nrule above\n"
    assert with_front_matter(once, "title: B") == "---\ntitle: B\n---\n# Hello\n\n---\n\nrule above\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "keys and values"),
        ("- a", "keys and values"),
        ("title: [", "valid YAML"),
        ("tilte: A", "tilte"),
        ("colorFrom: teal", "colorFrom is teal"),
        (f"short_description: {'x' * 61}", "61 characters"),
        ("python_version: 3.12", "must be quoted"),
        ("sdk_version: 6.3", "must be quoted"),
    ],
)
def test_what_the_hub_would_refuse_is_refused_here(text: str, why: str):
    with pytest.raises(ValueError, match=re.escape(why)):
        declaration(text)
