"""Prompts to the embeddings that the networks are conditioned on. Training and inference share this code."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from cascade_app.words import heard, weigh

_ROWS_AT_ONCE = 16  # of one weighted prompt: as many as it has weighted words


@dataclass(frozen=True)
class PromptEmbeds:
    """A batch of encoded prompts.

    Attributes:
        prompt_embeds: (B, L, D), the text encoder's last hidden states *before* its final LayerNorm.
        prompt_embeds_pooled: (B, 1, P), the projected text embedding.
    """

    prompt_embeds: Tensor
    prompt_embeds_pooled: Tensor

    @classmethod
    def cat(cls, batches: list[PromptEmbeds]) -> PromptEmbeds:
        """The batches one after another."""
        return cls(
            torch.cat([batch.prompt_embeds for batch in batches]),
            torch.cat([batch.prompt_embeds_pooled for batch in batches]),
        )

    def repeat(self, count: int) -> PromptEmbeds:
        """Each prompt `count` times, one after another."""
        return PromptEmbeds(
            self.prompt_embeds.repeat_interleave(count, dim=0), self.prompt_embeds_pooled.repeat_interleave(count, dim=0)
        )

    def to(self, *args: Any, **kwargs: Any) -> PromptEmbeds:
        """As Tensor.to."""
        return PromptEmbeds(self.prompt_embeds.to(*args, **kwargs), self.prompt_embeds_pooled.to(*args, **kwargs))


def encode_prompts(tokenizer: Any, text_encoder: Any, prompts: list[str]) -> PromptEmbeds:
    """Encode prompts as the published models were trained: padded to the tokenizer's length, with the attention mask.

    Gradients flow if the caller allows them. What lies beyond the tokenizer's length is cut; `cut_at` tells where.

    Args:
        tokenizer: a ClipTokenizer, or transformers' CLIPTokenizer, with `model_max_length` L.
        text_encoder: a TextEncoder, or transformers' CLIPTextModelWithProjection, width D, projection P.
        prompts: B strings, read as they are: brackets are no weights here.
    """
    ids, masks = zip(*(_padded(tokenizer, ids) for ids in tokenizer(prompts, verbose=False).input_ids), strict=True)
    return _encode(text_encoder, torch.tensor(ids), torch.tensor(masks))


def encode_weighted(tokenizer: Any, text_encoder: Any, prompt: str) -> PromptEmbeds:
    """Encode one prompt with its attention weights, see `words.weigh`; without any, exactly as `encode_prompts` does.

    With z what the encoder makes of the prompt and z_k what it makes of it while the weighted words k go unheard,

        z + sum over k of (w_k - 1) (z - z_k)

    for the tokens and for the pooled embedding alike: 1 leaves everything as it is, 0 takes away what the words brought,
    more goes on in the same direction, as classifier-free guidance does with a whole prompt (Ho & Salimans 2022, eq. 6).
    Unheard means that no other token attends to the words, and that the empty prompt's tokens stand in their place.
    Scaling only the words' own tokens, as is usual, leaves what later tokens and the pooled embedding have heard of them:
    with the bundled checkpoint that hardly moved the picture, and this does.

    Raises:
        InvalidRequest: a bracket or weight is wrong.
    """
    text = heard(prompt)
    weights = token_weights(tokenizer, prompt)
    runs = [(weight, list(run)) for weight, run in groupby(range(len(weights)), key=weights.__getitem__) if weight != 1]
    if not runs:
        return encode_prompts(tokenizer, text_encoder, [text])
    (ids, mask), empty = (_padded(tokenizer, tokenizer(one, verbose=False).input_ids) for one in (text, ""))
    masks = torch.tensor([mask, empty[1], *([mask] * len(runs))])
    for row, (_weight, run) in enumerate(runs, start=2):
        masks[row, run] = 0
    rows = torch.tensor([ids, empty[0], *([ids] * len(runs))])
    parts = zip(rows.split(_ROWS_AT_ONCE), masks.split(_ROWS_AT_ONCE), strict=True)
    encoded = PromptEmbeds.cat([_encode(text_encoder, *part) for part in parts])
    tokens, pooled = encoded.prompt_embeds.float(), encoded.prompt_embeds_pooled.float()
    weighted, weighted_pooled = tokens[0].clone(), pooled[0].clone()
    for row, (weight, run) in enumerate(runs, start=2):
        unheard = tokens[row].clone()
        unheard[run] = tokens[1, run]
        weighted += (weight - 1) * (tokens[0] - unheard)
        weighted_pooled += (weight - 1) * (pooled[0] - pooled[row])
    return PromptEmbeds(weighted[None], weighted_pooled[None]).to(encoded.prompt_embeds.dtype)


def token_weights(tokenizer: Any, prompt: str) -> list[float]:
    """The weight of each token that is read of `prompt`, start and end included; one that spans words of two weights has
    the mean over its characters."""
    spans = weigh(prompt)
    of_characters = [span.weight for span in spans for _ in span.text]
    offsets = _offsets(tokenizer, "".join(span.text for span in spans))
    kept = [*offsets[: tokenizer.model_max_length - 1], (0, 0)] if len(offsets) > tokenizer.model_max_length else offsets
    return [round(sum(of_characters[a:b]) / (b - a), 6) if b > a else 1.0 for a, b in kept]


def cut_at(tokenizer: Any, prompt: str) -> int | None:
    """Where in the words of `prompt` (without brackets) the encoder stops reading; None where it reads all of them."""
    offsets = _offsets(tokenizer, heard(prompt))
    limit = tokenizer.model_max_length
    return offsets[limit - 1][0] if len(offsets) > limit else None


def _offsets(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """The characters of each token, start and end included, nothing cut."""
    return tokenizer(text, return_offsets_mapping=True, verbose=False).offset_mapping


def _padded(tokenizer: Any, ids: list[int]) -> tuple[list[int], list[int]]:
    """Ids and attention mask, cut or padded to the tokenizer's length.

    Done here because the tokenizer itself would have to be changed for it, which other threads may be reading with.
    """
    length = tokenizer.model_max_length
    if len(ids) > length:
        ids = [*ids[: length - 1], ids[-1]]
    missing = length - len(ids)
    return [*ids, *[tokenizer.pad_token_id] * missing], [1] * len(ids) + [0] * missing


def _encode(text_encoder: Any, ids: Tensor, mask: Tensor) -> PromptEmbeds:
    device = text_encoder.device
    output = text_encoder(ids.to(device), attention_mask=mask.to(device), output_hidden_states=True)
    return PromptEmbeds(output.hidden_states[-1], output.text_embeds.unsqueeze(1))
