"""Prompts to embeddings: cut and padded as transformers does it, weights that change what they should and nothing else."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from cascade_app.diffusion.conditioning import cut_at, encode_prompts, encode_weighted, token_weights
from cascade_app.words import Words, heard, unread
from tests.small import revive, small_text_encoder, small_tokenizer

LONG = " ".join(f"a red boat over the blue sea {n}" for n in "abcdefgh")


def pocket_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=40, projection_dim=20, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return revive(CLIPTextModelWithProjection(config), 5)


@pytest.fixture(params=["small", "pocket"])
def encoder(request, pocket):
    """A tokenizer and a text encoder for it: one of word pieces made here, and the bundled checkpoint's."""
    if request.param == "small":
        tokenizer = small_tokenizer()
        return tokenizer, small_text_encoder(tokenizer)
    tokenizer = CLIPTokenizer.from_pretrained(pocket / "tokenizer")
    return tokenizer, pocket_encoder(tokenizer)


def as_published(tokenizer, text_encoder, prompts):
    """Tokens cut, padded and masked by transformers itself."""
    tokens = tokenizer(
        prompts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    output = text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask, output_hidden_states=True)
    return output.hidden_states[-1], output.text_embeds.unsqueeze(1)


@torch.no_grad()
@pytest.mark.parametrize("prompt", ["", "a red boat", "Ein  Boot (rot), été \U0001f6a2 (16:9) [x] {a|b}", LONG])
def test_prompts_are_cut_and_padded_as_transformers_does(encoder, prompt):
    tokens, pooled = as_published(*encoder, [prompt, "a blue sun"])
    embeds = encode_prompts(*encoder, [prompt, "a blue sun"])
    assert torch.equal(embeds.prompt_embeds, tokens) and torch.equal(embeds.prompt_embeds_pooled, pooled)


@torch.no_grad()
@pytest.mark.parametrize("prompt", ["a red boat", "a (red:1) boat", "a ([red]) boat", r"a \(red\) boat", "", LONG])
def test_without_weights_nothing_changes_by_a_bit(encoder, prompt):
    plain, weighted = encode_prompts(*encoder, [heard(prompt)]), encode_weighted(*encoder, prompt)
    assert torch.equal(plain.prompt_embeds, weighted.prompt_embeds)
    assert torch.equal(plain.prompt_embeds_pooled, weighted.prompt_embeds_pooled)


@torch.no_grad()
def test_a_weight_is_a_straight_line_through_the_plain_prompt(encoder):
    at = {weight: encode_weighted(*encoder, f"a (red:{weight}) boat") for weight in (0, 0.5, 2)}
    plain = encode_prompts(*encoder, ["a red boat"])
    for name in ("prompt_embeds", "prompt_embeds_pooled"):
        nothing, half, double, one = (getattr(embeds, name) for embeds in (*at.values(), plain))
        torch.testing.assert_close(half, (nothing + one) / 2)
        torch.testing.assert_close(double, 2 * one - nothing)
        assert not torch.allclose(nothing, one)


@torch.no_grad()
def test_a_word_of_weight_zero_is_not_heard(encoder):
    red, blue = (encode_weighted(*encoder, f"a ({word}:0) boat over the sea") for word in ("red", "blue"))
    torch.testing.assert_close(red.prompt_embeds, blue.prompt_embeds)
    torch.testing.assert_close(red.prompt_embeds_pooled, blue.prompt_embeds_pooled)


@torch.no_grad()
def test_a_weight_changes_nothing_before_its_word(encoder):
    plain, weighted = encode_prompts(*encoder, ["a red boat"]), encode_weighted(*encoder, "a red (boat:2)")
    changed = (plain.prompt_embeds != weighted.prompt_embeds).any(-1)[0].tolist()
    torch.testing.assert_close(plain.prompt_embeds[:, :3], weighted.prompt_embeds[:, :3])
    assert changed[3] and changed[4]  # the word and the end that has heard it


def test_weights_find_their_tokens(encoder):
    tokenizer, _ = encoder
    assert token_weights(tokenizer, "a (red:1.3)  [boat]") == [1, 1, 1.3, round(1 / 1.1, 6), 1]
    assert token_weights(tokenizer, "(a red:2) sun") == [1, 2, 2, 1, 1]
    assert token_weights(tokenizer, "(re:2)d") == [1, round(5 / 3, 6), 1]  # one token of three characters
    assert set(token_weights(tokenizer, "(été:0.5)")[1:-1]) == {0.5}
    assert len(token_weights(tokenizer, f"({LONG}:2)")) == tokenizer.model_max_length


@torch.no_grad()
def test_a_weight_beyond_the_end_is_cut_with_its_word(encoder):
    plain, weighted = encode_prompts(*encoder, [f"{LONG} sun"]), encode_weighted(*encoder, f"{LONG} (sun:2)")
    assert torch.equal(plain.prompt_embeds, weighted.prompt_embeds)


@torch.no_grad()
def test_every_word_weighted_is_encoded_too(encoder):
    prompt = " ".join(f"({word}:{1 + 0.1 * (n % 7):.1f})" for n, word in enumerate(LONG.split()))
    assert torch.isfinite(encode_weighted(*encoder, prompt).prompt_embeds).all()


def test_where_the_prompt_is_cut(encoder):
    tokenizer, _ = encoder
    words = LONG.split()
    assert cut_at(tokenizer, " ".join(words[:9])) is None
    marked = LONG.replace("boat", "(boat:1.2)")
    at = cut_at(tokenizer, marked)
    read = len(tokenizer(LONG[:at]).input_ids) - 2
    assert read == tokenizer.model_max_length - 2 and len(tokenizer(LONG[:at] + " red").input_ids) - 2 == read + 1
    count = len(LONG[:at].split())
    sentence = unread([Words(marked)], lambda text: cut_at(tokenizer, text))
    assert sentence.startswith(f"The encoder reads the first {count} words of the prompt; left out: {words[count]} ")
