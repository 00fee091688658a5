"""Every field refuses what it should in one clear line, and a request survives its trip through JSON."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import pytest

from cascade_app.errors import InvalidRequest
from cascade_app.request import FIELD, FIELDS, SEED_LIMIT, Field, GenerationRequest

NUMBERS = [field for field in FIELDS if field.kind in ("int", "float")]
WHOLE = [field for field in FIELDS if field.kind == "int"]
TEXTS = [field for field in FIELDS if field.kind == "text"]
HUGE = 10**5000  # longer than Python is willing to print



def shown(value) -> str:
    """A test's name for a value of any kind."""
    if isinstance(value, Field):
        return value.name
    return "huge" if isinstance(value, int) and abs(value) > 10**20 else ascii(value)[:24]



def refused(**values) -> InvalidRequest:
    """The error for these values, its message known to be fit for a user."""
    with pytest.raises(InvalidRequest) as caught:
        GenerationRequest.from_values({"prompt": "a boat", **values})
    message = caught.value.message
    assert message == " ".join(message.split()), "one line"
    assert len(message) < 400
    assert message.isprintable()
    assert message.endswith((".", '"')), message
    message.encode("utf-8")
    return caught.value


def accepted(**values) -> GenerationRequest:
    return GenerationRequest.from_values({"prompt": "a boat", **values})


def test_the_table_and_the_request_have_the_same_fields_and_defaults():
    assert [field.name for field in FIELDS] == [field.name for field in fields(GenerationRequest)]
    assert GenerationRequest.from_values({"prompt": "a boat"}) == GenerationRequest("a boat")


@pytest.mark.parametrize("field", FIELDS, ids=shown)
def test_every_field_says_what_it_does(field: Field):
    assert field.label
    assert field.help.endswith(".")
    assert len(field.help) < 100
    assert field.default is None or field.parse(field.default) == field.default


@pytest.mark.parametrize("field", NUMBERS, ids=shown)
@pytest.mark.parametrize(
    "value",
    [
        math.nan, math.inf, -math.inf, "nan", "NaN", "inf", "-inf", "Infinity", "1e400", "-1e400", 10**400, -(10**400), HUGE,
        True, False, [], [1], (1,), {}, {"value": 1}, "seven", "1,5", "0x10", "1 2", b"1", Ellipsis, "\ud800", "9" * 20_000,
    ],
    ids=shown,
)  # fmt: skip
def test_numbers_refuse_what_is_no_number(field: Field, value):
    error = refused(**{field.name: value})
    assert error.field == field.name
    assert error.message.startswith(field.label)
    assert f"to {field.maximum:.10g}" in error.message


@pytest.mark.parametrize("field", NUMBERS, ids=shown)
def test_numbers_keep_their_limits(field: Field):
    for value in (field.minimum, field.maximum):
        assert getattr(accepted(**{field.name: value, **others(field)}), field.name) == value
        assert getattr(accepted(**{field.name: f" {value} ", **others(field)}), field.name) == value
    for value in (field.minimum - 1, field.maximum + 1, -1e300, 1e300, str(field.maximum * 2)):
        error = refused(**{field.name: value, **others(field)})
        assert error.field == field.name
        assert f"from {field.minimum:.10g} to {field.maximum:.10g}" in error.message


def others(field: Field) -> dict[str, float]:
    """What must go with the limits of a field for the whole to make sense."""
    return {"guidance_start": 0} if field.name == "guidance_stop" else {}


@pytest.mark.parametrize("field", WHOLE, ids=shown)
@pytest.mark.parametrize("value", [1.5, "1.5", 2.0000001, "3/2"])
def test_whole_numbers_refuse_fractions(field: Field, value):
    assert "whole number" in refused(**{field.name: value}).message


@pytest.mark.parametrize("field", WHOLE, ids=shown)
def test_whole_numbers_take_other_spellings(field: Field):
    for value in (4, 4.0, "4", "4.0", " 4 ", "4e0"):
        parsed = getattr(accepted(**{field.name: value}), field.name)
        assert parsed == 4
        assert type(parsed) is int


@pytest.mark.parametrize("field", [field for field in FIELDS if field.name != "prompt"], ids=shown)
@pytest.mark.parametrize("value", [None, "", "  "])
def test_left_alone_means_the_default(field: Field, value):
    if field.kind == "text" and value is not None:
        return  # text may be empty on purpose
    assert getattr(accepted(**{field.name: value}), field.name) == field.default


@pytest.mark.parametrize("value", [None, "", " ", "\n\t", "\x00", " \x00 "])
def test_an_empty_prompt_is_refused(value):
    error = refused(prompt=value)
    assert error.field == "prompt"
    assert "empty" in error.message
    assert "empty" in _message_of({})


def _message_of(values: dict) -> str:
    with pytest.raises(InvalidRequest) as caught:
        GenerationRequest.from_values(values)
    return caught.value.message


def test_an_empty_checkpoint_is_not_told_to_describe_a_picture():
    assert refused(checkpoint="").message == "Checkpoint is empty. Fill it in."


@pytest.mark.parametrize("field", TEXTS, ids=shown)
@pytest.mark.parametrize("value", [7, 7.5, True, ["a boat"], {"a": "boat"}, b"a boat", [["x"] * 99] * 99, HUGE], ids=shown)
def test_text_refuses_what_is_no_text(field: Field, value):
    assert "must be text" in refused(**{field.name: value}).message


@pytest.mark.parametrize("field", TEXTS, ids=shown)
def test_text_keeps_its_limit(field: Field):
    limit = int(field.maximum)
    assert getattr(accepted(**{field.name: "x" * limit}), field.name) == "x" * limit
    error = refused(**{field.name: "x" * 20_000})
    assert f"20,000 characters; the limit is {limit:,}" in error.message
    assert error.field == field.name


@pytest.mark.parametrize("field", TEXTS, ids=shown)
@pytest.mark.parametrize("value", ["a \ud800 boat", "\udfff", "\udc80"], ids=shown)
def test_text_refuses_lone_surrogates(field: Field, value: str):
    assert "not valid text" in refused(**{field.name: value}).message


@pytest.mark.parametrize(
    "value",
    ["ein Boot für Süße", "船", "🚤 at sea", "a\nboat", "e\u0301", "עברית", "<b>bold</b>", "100 % 'x' \"y\""],
)
def test_text_keeps_every_language(value: str):
    assert accepted(prompt=f"  {value} ").prompt == value


@pytest.mark.parametrize(
    "value", ["euler", "DDPM", "ddpm ", 1, True, ["ddpm"], {"a": 1}, "\x1b[31mred", "\ud800", "x" * 10_000], ids=shown
)
def test_an_unknown_sampler_is_refused_with_the_choices(value):
    error = refused(sampler=value)
    assert error.field == "sampler"
    assert "choose one of ddpm, ddim" in error.message


def test_guidance_must_begin_before_it_ends():
    assert refused(guidance_start=0.8, guidance_stop=0.2).field == "guidance_start"
    assert accepted(guidance_start=0.5, guidance_stop=0.5).guidance_stop == 0.5


@pytest.mark.parametrize("name", ["steps", "", "prompt ", "__class__", "x" * 10_000, "\ud800"], ids=shown)
def test_a_name_that_is_no_field_is_refused(name: str):
    assert "is not a setting" in refused(**{name: 1}).message


def test_seeds_reach_to_their_limit():
    assert accepted(seed=SEED_LIMIT - 1).seed == 4294967295
    assert accepted(seed=0).seed == 0
    assert refused(seed=SEED_LIMIT).field == "seed"
    assert refused(seed=-1).field == "seed"


def test_a_request_cannot_be_changed():
    request = accepted()
    with pytest.raises(AttributeError):
        request.seed = 3
    assert request.with_seed(3).seed == 3
    assert request.seed is None


FULL = {
    "prompt": "ein Boot, 🚤 \"quoted\"\nline 2", "negative_prompt": "fog", "width": 320, "height": 256, "images": 3, "seed": 7,
    "prior_steps": 11, "prior_guidance": 2.5, "decoder_steps": 5, "decoder_guidance": 1.1, "sampler": "ddim", "prior_shift": 2,
    "guidance_rescale": 0.7, "guidance_start": 0.1, "guidance_stop": 0.9, "checkpoint": "somewhere/else",
}  # fmt: skip


@pytest.mark.parametrize("values", [{"prompt": "a boat"}, FULL], ids=["defaults", "everything"])
def test_a_request_survives_json(values: dict):
    assert set(FULL) == set(FIELD)
    request = GenerationRequest.from_values(values)
    text = request.to_json()
    assert "\n" not in text
    assert json.loads(text)["version"] == 1
    assert GenerationRequest.from_json(text) == request


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a":' * 100_000, "not valid JSON"),
        ('{"version": 1, "seed": ' + "9" * 10_000 + "}", "not valid JSON"),
        ("null", "not a JSON object"),
        ("[]", "not a JSON object"),
        ('"text"', "not a JSON object"),
        ("{}", "format version None"),
        ('{"prompt": "a boat"}', "format version None"),
        ('{"version": 2, "prompt": "a boat"}', "format version 2"),
        ('{"version": "1", "prompt": "a boat"}', 'format version "1"'),
        ('{"version": true, "prompt": "a boat"}', "format version True"),
        ('{"version": [1], "prompt": "a boat"}', "format version [1]"),
        ('{"version": 1}', "Prompt is empty"),
        ('{"version": 1, "prompt": ["a boat"]}', "must be text"),
        ('{"version": 1, "prompt": "\\ud800"}', "not valid text"),
        ('{"version": 1, "prompt": "a boat", "seed": NaN}', "Seed must be"),
        ('{"version": 1, "prompt": "a boat", "prior_guidance": Infinity}', "Prior guidance must be"),
        ('{"version": 1, "prompt": "a boat", "seed": 1e999}', "Seed must be"),
        ('{"version": 1, "prompt": "a boat", "seed": {"$gt": 0}}', "Seed must be"),
        ('{"version": 1, "prompt": "a boat", "steps": 5}', '"steps" is not a setting'),
        ('{"version": 1, "prompt": "a boat", "__proto__": 5}', "is not a setting"),
    ],
    ids=lambda value: value[:40],
)
def test_hostile_json_is_refused_in_one_sentence(text: str, why: str):
    with pytest.raises(InvalidRequest) as caught:
        GenerationRequest.from_json(text)
    assert why in caught.value.message
    assert len(caught.value.message) < 300
    caught.value.message.encode("utf-8")
