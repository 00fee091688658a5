"""Prompts to the embeddings that the networks are conditioned on. Training and inference share this code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


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

    Gradients flow if the caller allows them. What lies beyond the tokenizer's length is cut; `cut_words` tells what.

    Args:
        tokenizer: a CLIPTokenizer with `model_max_length` L.
        text_encoder: a CLIPTextModelWithProjection, width D, projection P.
        prompts: B strings.
    """
    tokens = tokenizer(
        prompts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    device = text_encoder.device
    output = text_encoder(
        tokens.input_ids.to(device), attention_mask=tokens.attention_mask.to(device), output_hidden_states=True
    )
    return PromptEmbeds(output.hidden_states[-1], output.text_embeds.unsqueeze(1))


def cut_words(tokenizer: Any, prompt: str) -> str:
    """The end of `prompt` that does not fit into the encoder, as text; "" if all of it fits."""
    tokens = tokenizer(prompt, truncation=False, verbose=False).input_ids
    limit = tokenizer.model_max_length
    if len(tokens) <= limit:
        return ""
    return tokenizer.decode(tokens[limit - 1 : -1], skip_special_tokens=True).strip()
