"""The blocklist: what is found however it is written, and what only looks like it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_app.errors import InvalidRequest, SettingsError
from cascade_app.safety import BUNDLED, Blocklist, parse_blocklist, read_blocklist
from cascade_app.ui.blocks import read_prompts

LIST = parse_blocklist("# a comment\ngrue  # a monster\nbad thing\nstab*\ncat | kitten + bath | bathing\n")


@pytest.mark.parametrize(
    "text",
    [
        "a grue", "A GRUE!", "grue", "the,grue,there", "grüe", "g\u0301rue", "ｇｒｕｅ", "𝕘𝕣𝕦𝕖", "gr\u200bue", "gr\u00adue",
        "grυe", "gruе", "gru3", "9rue", "g.r.u.e", "g-rue", "gr_ue", "g r u e", "g  r  u  e", "g, r, u, e", "g_r_u_e",
        "gruuue", "ggggggggrue", "a bad thing", "bad\nthing", "bad, thing", "badthing", "b@d th!ng", "b a d t h i n g",
        "stabbing", "stab", "a cat in the bath", "BATHING a small kitten", "(gr)(ue)x grue",
    ],
)  # fmt: skip
def test_is_found(text):
    assert LIST.found(text)
    with pytest.raises(InvalidRequest, match="not used here") as refused:
        LIST.check("fine", text)
    assert refused.value.field == "prompt"


@pytest.mark.parametrize(
    "text",
    [
        "", "gruel for breakfast", "a congruence", "a bad one and a good thing", "badthings", "a cat", "a bath",
        "catalogue of baths", "bathe the dog, not the category", "constable", "Scunthorpe, Penistone and Clitheroe",
    ],
)  # fmt: skip
def test_is_not_found(text):
    assert LIST.found(text) == ()
    LIST.check(text)


def test_says_what_was_written():
    assert LIST.found("one G.r.ü.e here") == ("G.r.ü.e",)
    assert LIST.found("a bathing big kitten") == ("kitten", "bathing")


def test_the_bundled_list_passes_what_people_ask_for():
    bundled = read_blocklist(BUNDLED)
    fine = [
        *read_prompts(), "children playing on a beach", "a nude statue in a museum", "a field of oilseed rape in bloom",
        "Sussex in spring", "a naked tree in winter", "between two mountains", "a baby elephant", "essex girl in a red coat",
        "a snuff box", "a therapist",
    ]  # fmt: skip
    assert {text: bundled.found(text) for text in fine if bundled.found(text)} == {}
    assert bundled.found("n u d e, of a ch1ld") and bundled.found("naked schoolgirls") and bundled.found("LOLI")


@given(st.text(max_size=200))
def test_any_text_can_be_looked_at(text):
    LIST.found(text)
    assert LIST.found(f"{text} grue {text}")


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["!", "1", "|", "@", "l1", "i!1", "g ", "g.", "1!", "n", " ", "_", "cat ", "rape "]), st.integers(1, 2000))
def test_no_text_takes_long(piece, count):
    begin = time.thread_time()
    read_blocklist(BUNDLED).found((piece * count)[:4000])
    assert time.thread_time() - begin < 5  # milliseconds; a search that goes through all readings takes hours


def test_an_empty_list_passes_everything():
    assert Blocklist().found("grue") == ()


@pytest.mark.parametrize("text", ["", "# nothing\n", "cat | + bath", "| cat", "*", "!!!", "cat +"])
def test_a_list_that_says_nothing_is_refused(text):
    with pytest.raises(SettingsError, match="blocklist"):
        parse_blocklist(text)


def test_a_list_that_cannot_be_read_is_refused(tmp_path):
    path = tmp_path / "list.txt"
    for content in (None, b"\xff\xfe\x00", b"a\n" * 2**20):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SettingsError, match="blocklist") as refused:
            read_blocklist(path)
        assert str(tmp_path) not in str(refused.value)
