"""The Spacefile is the one declaration: the README's front matter, the pins and the files must agree with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from huggingface_hub import SpaceHardware

from cascade_app.spacefile import KEYS, SUGGESTED_HARDWARE, declaration, front_matter, with_front_matter

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
        ("title: ''", "title is ''"),
        ("emoji: C", "one emoji"),
        ("emoji: 7", "one emoji"),
        ("colorFrom: teal", "colorFrom is 'teal'"),
        ("colorTo: Indigo", "colorTo is 'Indigo'"),
        ("sdk: streamlit", "gradio, docker or static"),
        (f"short_description: {'x' * 61}", "at most 60 characters"),
        ("python_version: 3.12", "in quotes"),
        ("python_version: '2.7'", "python_version is '2.7'"),
        ("sdk_version: 6.3", "in quotes"),
        ("sdk_version: latest", "a version"),
        ("app_file: ../app.py", "a path in the repository"),
        ("suggested_hardware: zero-a10g", "one of a100-large, a100x4"),
        ("startup_duration_timeout: long", "such as 30m"),
        ("startup_duration_timeout: 30", "such as 30m"),
        ("models: stable-cascade", "a list of repositories"),
        ("tags: [1]", "a list of words"),
        ("pinned: 'false'", "true or false"),
        ("header: large", "mini or default"),
        ("base_path: page", "begins with /"),
        ("hf_oauth: 1", "true or false"),
        ("hf_oauth_expiration_minutes: 43201", "1 to 43200"),
        ("custom_headers: {x-frame-options: deny}", "cross-origin-embedder-policy"),
        ("custom_headers: {cross-origin-opener-policy: Same-Origin}", "lower-case"),
        ("thumbnail: assets/icon.svg", "an address"),
        ("license: Apache License", "such as apache-2.0"),
    ],
)
def test_what_the_hub_would_refuse_is_refused_here(text: str, why: str):
    with pytest.raises(ValueError, match=re.escape(why)):
        declaration(text)


def test_what_the_hub_takes_is_taken():
    text = """
    title: A
    emoji: 🎞️
    colorFrom: pink
    colorTo: gray
    sdk: gradio
    sdk_version: 6.31.0
    python_version: 3.12.12
    app_file: app.py
    suggested_hardware: t4-small
    startup_duration_timeout: 1h
    short_description: Short
    models: [stabilityai/stable-cascade]
    datasets: []
    tags: [a]
    thumbnail: https://example.org/a.png
    pinned: true
    header: mini
    fullWidth: true
    base_path: /page
    hf_oauth: true
    hf_oauth_scopes: [openid]
    hf_oauth_expiration_minutes: 480
    preload_from_hub: [stabilityai/stable-cascade vqgan/config.json]
    disable_embedding: false
    custom_headers: {cross-origin-opener-policy: same-origin}
    license: apache-2.0
    """
    assert set(declaration(text)) == set(KEYS)


def test_changed_keys_are_checked_and_none_leaves_one_out():
    assert front_matter("title: A\nheader: mini", title="B", header=None) == "---\ntitle: B\n---\n"
    with pytest.raises(ValueError, match="title is ''"):
        front_matter("title: A", title="")


def test_the_hub_has_every_hardware_a_space_may_suggest():
    assert {hardware.value for hardware in SpaceHardware} >= SUGGESTED_HARDWARE
