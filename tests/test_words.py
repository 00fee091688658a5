"""Words: what the seed draws, what the brackets weigh, and that nothing a visitor writes gets out of hand."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_app.errors import InvalidRequest
from cascade_app.plan import make_plan, own_request
from cascade_app.request import FIELD, GenerationRequest
from cascade_app.wordbook import FILE_BYTES_LIMIT, Wordbook
from cascade_app.words import DRAWS_LIMIT, Span, Words, draw, draws, expand, heard, styled, unread, weigh
from tests.fakes import SPEC

BOOK = Wordbook.of()
# Everything the grammar knows, in any order.
PARTS = ["red", " ", "{", "}", "|", "(", ")", "[", "]", ":", "1.3", "\\", "__", "_", "2::", "__colour__", "{a|b}", "(a)"]
WRITTEN = st.lists(st.sampled_from(PARTS), max_size=30).map("".join)


def request(prompt: str, **values) -> GenerationRequest:
    return GenerationRequest.from_values({"prompt": prompt, "seed": 0, **values})


# --- weights ---


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("a red boat", [("a red boat", 1)]),
        ("a (red:1.3) boat", [("a ", 1), ("red", 1.3), (" boat", 1)]),
        ("(red)", [("red", 1.1)]),
        ("[red]", [("red", round(1 / 1.1, 6))]),
        ("((red))", [("red", 1.21)]),
        ("(a (red:2) boat:0.5)", [("a ", 0.5), ("red", 1), (" boat", 0.5)]),
        ("([red])", [("red", 1)]),
        ("(red : .5)", [("red ", 0.5)]),
        ("(red:0)", [("red", 0)]),
        ("(a red boat: at night)", [("a red boat: at night", 1.1)]),
        (r"\(red:1.3\) \[x\] \{y\} a\_b \\", [("(red:1.3) [x] {y} a_b \\", 1)]),
        (r"(16\:9)", [("16:9", 1.1)]),
        (r"C:\boats", [(r"C:\boats", 1)]),
        ("a smile :) and 2] b} | c", [("a smile :) and 2] b} | c", 1)]),
        ("()", []),
        ("(red:1)(blue:1)", [("redblue", 1)]),
    ],
)
def test_weights(text, spans):
    assert weigh(text) == tuple(Span(*span) for span in spans)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a (red boat", r'The \( before "red boat" is never closed; add \) or write \\\( for a plain one'),
        ("a [red boat", r"The \[ before .* add \] or"),
        ("(red]", r"never closed"),
        ("(red:7)", r'weight 7 in "\(red:7\)" is out of range; weights go from 0 to 3'),
        ("(red:-1)", r"weight -1 in"),
        ("((red:2):2)", r"weight 4 in"),
        (f"(red:{'9' * 400})", r"weight inf in"),
        ("[red:0.5]", r"number in square brackets"),
        ("(" * 17 + "red" + ")" * 17, r"more than 16 deep"),
    ],
)
def test_weights_that_cannot_be_read(text, sentence):
    with pytest.raises(InvalidRequest, match=sentence) as refused:
        expand(request("x", negative_prompt=text), BOOK, seed=1)
    assert refused.value.field == "negative_prompt"


# --- alternatives, wildcards, styles ---


def test_text_without_any_of_it_stays_as_it_is():
    text = "a  red , boat (16:9 not) at 3 o'clock | __ ____ snake_case_name"
    assert draw(text.replace("16:9", "x"), BOOK, seed=3) == text.replace("16:9", "x") and not draws(text)


def test_the_seed_draws():
    text = "a {red|blue|{dark|light} green} {boat|}, __time__"
    drawn = [draw(text, BOOK, seed=seed) for seed in range(400)]
    assert drawn == [draw(text, BOOK, seed=seed) for seed in range(400)]
    assert len(set(drawn)) == 4 * 2 * 5
    assert all(re.fullmatch(r"a (red|blue|(dark|light) green)( boat)?, at \w+", one) for one in drawn)


def test_what_a_seed_draws_stays_the_same_in_later_versions():
    text = "a {red|blue|green|teal} {boat|tent|house} {2::at dawn|at dusk}"
    drawn = [draw(text, BOOK, seed=seed) for seed in (0, 1, 2**32 - 1)]
    assert drawn == ["a green boat at dawn", "a green house at dawn", "a blue boat at dawn"]


def test_pieces_that_meet_spell_no_wildcard():
    text = draw("{_|_}{_|_}colour{__|__}", BOOK, seed=1)
    assert not draws(text) and draw(text, BOOK, seed=2) == text and heard(text) == "__colour__"


def test_chances():
    drawn = Counter(draw("{3::red|blue|0::green}", BOOK, seed=seed) for seed in range(1000))
    assert set(drawn) == {"red", "blue"} and 680 < drawn["red"] < 820


def test_the_two_prompts_are_drawn_apart():
    words = [expand(request("{a|b}", negative_prompt="{a|b}"), BOOK, seed=seed) for seed in range(64)]
    assert {(one.prompt, one.negative_prompt) for one in words} == {(x, y) for x in "ab" for y in "ab"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a {red|blue", r'The \{ before "red\|blue" is never closed; add \} or write \\\{ for it'),
        ("a __color__ boat", r'no wildcard "color"; did you mean colour\?, or write'),
        ("__../../etc/passwd__", r'no wildcard "\.\./\.\./etc/passwd"; choose one of colour, icon'),
        ("__init__.py", r"no wildcard"),
        ("{0::red|0::blue}", r"chance 0"),
        ("{" * 17 + "red" + "}" * 17, r"more than 16 deep"),
        ("{a|b}" * (DRAWS_LIMIT + 1), r"More than 200"),
        ("{|}", r"Prompt is empty"),
    ],
)
def test_what_cannot_be_drawn(text, sentence):
    with pytest.raises(InvalidRequest, match=sentence) as refused:
        draw(text, BOOK, seed=1)
    assert refused.value.field == "prompt" and len(refused.value.message) < 400


def test_wildcards_of_the_data_folder(tmp_path):
    folder = tmp_path / "wildcards"
    folder.mkdir()
    (folder / "pet.txt").write_text("\ufeff# ours\n\n  a {grey|black} cat  \n", encoding="utf-8")
    (folder / "colour.txt").write_text("mauve\n")
    (folder / "loop.txt").write_text("__loop__ __loop__\n")
    (folder / "ends.txt").write_text("red\\\n")
    (folder / "empty.txt").write_text("# nothing\n")
    (folder / "large.txt").write_text("x\n" * FILE_BYTES_LIMIT)
    (folder / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "secret.txt").write_text("secret")
    book = Wordbook.of(tmp_path)
    assert draw("__pet__, __colour__", book, seed=1) in ("a grey cat, mauve", "a black cat, mauve")
    assert weigh(draw("__ends__(blue)", book, seed=1)) == (Span("red\\"), Span("blue", 1.1))
    assert "pet" in book.wildcards() and "shape" in book.wildcards() and "secret" not in book.wildcards()
    for text, sentence in {
        "__loop__": "16 deep", "__empty__": "is empty", "__large__": "too large", "__bytes__": "UTF-8",
        "__../secret__": "no wildcard", "__/etc/hostname__": "no wildcard",
    }.items():  # fmt: skip
        with pytest.raises(InvalidRequest, match=sentence):
            draw(text, book, seed=1)


def test_the_bundled_wildcards_and_styles_can_be_drawn():
    for name in BOOK.wildcards():
        for line in BOOK.lines(name):
            assert weigh(draw(line, BOOK, seed=5))
    assert 8 <= len(BOOK.styles) <= 12
    for style in BOOK.styles.values():
        whole = styled(request("a boat", negative_prompt="fog"), BOOK, style=style.name)
        words = expand(whole, BOOK, seed=1)
        assert "a boat" in words.prompt and words.negative_prompt.startswith("fog") and style.about and style.title


def test_styles():
    plain = request("a {prompt} boat")
    assert styled(plain, BOOK, style="") == plain
    assert styled(plain, BOOK, style="night").prompt == "a {prompt} boat, at night, stars, a white moon"
    for name in ("nigth", "", None, 3, "x" * 5000):
        if name:
            with pytest.raises(InvalidRequest, match="no style") as refused:
                styled(plain, BOOK, style=name)
            assert len(refused.value.message) < 300
    with pytest.raises(InvalidRequest, match="did you mean night"):
        styled(plain, BOOK, style="nigth")


def test_a_long_expansion_is_refused_where_it_passes_the_limit(tmp_path):
    (tmp_path / "wildcards").mkdir()
    (tmp_path / "wildcards" / "long.txt").write_text("word " * 99 + "\n")
    book = Wordbook.of(tmp_path)
    assert len(draw("__long__ " * 4, book, seed=1)) == 4 * 495 - 1
    with pytest.raises(InvalidRequest, match="grows beyond 2,000 characters"):
        draw("__long__ " * 5, book, seed=1)
    with pytest.raises(InvalidRequest, match="2,000"):
        expand(styled(request("x" * 2000), BOOK, style="night"), BOOK, seed=1)


# --- whatever is written ---


@given(WRITTEN, st.integers(0, 2**32 - 1))
@settings(max_examples=400, deadline=None)
def test_what_was_drawn_is_drawn_to_itself(text, seed):
    try:
        words = expand(GenerationRequest(prompt="x", negative_prompt=text), BOOK, seed=seed)
    except InvalidRequest as refused:
        assert refused.field == "negative_prompt" and len(refused.message) < 400
        return
    again = GenerationRequest(prompt=words.prompt, negative_prompt=words.negative_prompt)
    assert not draws(words.negative_prompt)
    assert [expand(again, BOOK, seed=other) for other in (seed, 0, 1)] == [words] * 3
    assert all(0 <= span.weight <= 3 and span.text for span in weigh(words.negative_prompt))


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused_in_a_sentence(text):
    try:
        heard(text)
        draw(FIELD["negative_prompt"].parse(text), BOOK, seed=1, name="negative_prompt")
    except InvalidRequest as refused:
        assert refused.message


@pytest.mark.parametrize(
    "text", ["{" * 2000, "(" * 2000, "{a|" * 600 + "}" * 200, "__a" * 660, "_" * 2000, "\\" * 1999, "{{a|b}|" * 280, "(:1" * 600]
)
def test_hostile_text_costs_little(text):
    begin = time.process_time()
    try:
        draw(text, BOOK, seed=1)
    except InvalidRequest as refused:
        assert len(refused.message) < 400
    assert time.process_time() - begin < 2  # a bound on growth, far above what it takes


# --- in a plan ---


def test_each_image_draws_its_own_words_as_it_would_alone():
    asked = request("a {red|blue} {boat|tent} __time__", images=8, seed=40)
    plan = make_plan(asked, SPEC)
    assert len(set(plan.words)) > 3 and plan.request == asked
    for seed, words in zip(plan.seeds, plan.words, strict=True):
        alone = make_plan(request(asked.prompt, seed=seed), SPEC)
        assert alone.words == (words,)
        recorded = own_request(plan, seed)
        assert Words(recorded.prompt, recorded.negative_prompt) == words and recorded.seed == seed
        assert make_plan(recorded, SPEC).words == (words,)  # the record makes the same again


def test_a_plan_refuses_words_that_cannot_be_drawn():
    with pytest.raises(InvalidRequest, match="never closed"):
        make_plan(request("a (red boat"), SPEC)


def test_nothing_is_read_beside_the_bundled_words_and_the_data_folder():
    assert [path.name for path in Wordbook.of(Path("data")).folders] == ["wildcards", "wildcards"]
    assert Wordbook.of(Path("nowhere")).wildcards() == BOOK.wildcards()


def test_what_is_not_read_is_told_for_each_text():
    words = [Words("a boat at night", "fog and rain"), Words("a tent"), Words("a house by the sea"), Words("a cabin in hills")]
    told = unread(words, lambda text: 8 if len(text) > 8 else None)
    assert told.startswith('The encoder reads the first 2 words of the prompt "a boat at night"; left out: at night. The encoder')
    assert told.endswith("left out: by the sea. The same goes for 2 more.")
    assert unread(words[:1], lambda text: 5 if "fog" in text else None) == (
        "The encoder reads the first word of the negative prompt; left out: and rain."
    )
    assert unread(words, lambda text: None) == ""
    long = unread([Words("red " * 400)], lambda text: 4 if text else None)
    assert long.endswith("red red ...") and len(long) < 400
