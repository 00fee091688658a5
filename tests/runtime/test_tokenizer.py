"""The tokenizer against transformers' CLIPTokenizer: the same ids and offsets for any text, however the folder was written."""

from __future__ import annotations

import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPTokenizer

from cascade_app.catalogue import POCKET_DIR
from cascade_app.errors import CheckpointDamaged
from cascade_app.runtime.tokenizer import load_tokenizer

END, START = "<|endoftext|>", "<|startoftext|>"


def described(content: str, **more) -> dict:
    return {"content": content, "lstrip": False, "rstrip": False, "single_word": False, "normalized": True, **more}


def named(content: str) -> dict:
    return {"__type": "AddedToken", **described(content)}


def numbered(**more) -> dict:
    return {"1248": described(START, special=True, **more), "1249": described(END, special=True, **more)}


# How a folder says which tokens are special: changes to tokenizer_config.json, and more files. As saved by several versions of
# transformers, by the authors of the published one, and by whoever taught it a word.
FOLDERS = {
    "with tokenizer.json": None,
    "as published": ({"added_tokens_decoder": numbered()}, {}),
    "not normalised": ({"added_tokens_decoder": numbered(normalized=False)}, {}),
    "names alone": ({}, {}),
    "named with properties": ({"bos_token": named(START), "eos_token": named(END), "unk_token": named(END)}, {}),
    "padded with another": ({"pad_token": "!"}, {"special_tokens_map.json": {"eos_token": described(END, rstrip=True)}}),
    "a word more": ({"added_tokens_decoder": {**numbered(), "1250": described("<Cat Toy>", lstrip=True, special=False)}}, {}),
    "a special word more": ({"additional_special_tokens": ["<x>"]}, {"added_tokens.json": {"<dog>": 1250}}),
}
TEXTS = [
    "", " A  RED\tboat\n", f"a {END} b{START}c", "<|ENDOFTEXT|> <|StartOfText|>", "<cat toy> <Cat Toy>z <x>!<dog>",
    "it's I'LL we'Re don't", "Ein Boot (rot), été \U0001f6a2 16:9", "İstanbul ﬁ e\u0301 \u00a0x\u3000y ß",
    "\x00\x85\ufeff ١٢٣ Ⅷ½ 日本語",
    "a\u0345 " + "boat " * 60,
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """Kind of folder -> (ours, transformers')."""
    pairs = {}
    for kind, changes in FOLDERS.items():
        folder = shutil.copytree(POCKET_DIR / "tokenizer", tmp_path_factory.mktemp("tokenizer") / "tokenizer")
        if changes is not None:
            (folder / "tokenizer.json").unlink()
            path = folder / "tokenizer_config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **changes[0]}))
            for name, content in changes[1].items():
                (folder / name).write_text(json.dumps(content))
        pairs[kind] = load_tokenizer(folder, {}), CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    return pairs


def agree(ours, theirs, text: str) -> None:
    expected = theirs(text, return_offsets_mapping=True, verbose=False)
    found = ours(text)
    assert (found.input_ids, found.offset_mapping) == (expected.input_ids, expected.offset_mapping), text


@pytest.mark.parametrize("kind", FOLDERS)
def test_equals_transformers(tokenizers, kind):
    ours, theirs = tokenizers[kind]
    assert (len(ours), ours.pad_token_id, ours.model_max_length) == (len(theirs), theirs.pad_token_id, theirs.model_max_length)
    for text in TEXTS:
        agree(ours, theirs, text)
    assert ours(TEXTS).input_ids == theirs(TEXTS, verbose=False).input_ids


_pieces = st.sampled_from([END, START, "<Cat Toy>", "<x>", "'ll", "'S", "e\u0301", "ſ", "İ", "\u2028", "red", " ", "<|"])


@settings(max_examples=150, deadline=None)
@given(text=st.lists(st.one_of(_pieces, st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)), max_size=12))
def test_equals_transformers_for_any_text(tokenizers, text):
    for kind in ("with tokenizer.json", "as published", "a word more"):
        agree(*tokenizers[kind], "".join(text))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "[]"),
        ("tokenizer.json", '{"model": {"vocab": [["a", 0.5]], "merges": []}}'),
        ("tokenizer.json", '{"model": {"vocab": {"a": 0}, "merges": ["a b"]}}'),
        ("tokenizer_config.json", '{"eos_token": 3}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": "y"}}'),
    ],
)
def test_a_file_that_holds_something_else(tmp_path, name, content):
    folder = shutil.copytree(POCKET_DIR / "tokenizer", tmp_path / "tokenizer")
    (folder / name).write_text(content)
    with pytest.raises(CheckpointDamaged, match="no readable CLIP tokenizer"):
        load_tokenizer(folder, {})
