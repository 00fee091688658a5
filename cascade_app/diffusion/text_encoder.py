"""CLIP's text encoder with its projection: token ids and a mask to hidden states and one pooled embedding.

Weights have the names of transformers' `CLIPTextModelWithProjection`, and what it computes is computed here, bit for bit
(tests/diffusion/test_text_encoder.py): importing that library for one class costs a process over a hundred megabytes and seconds.
Source: Radford et al. 2021, section 2.4 (a causal transformer, read at the end token).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cascade_app.diffusion.configs import TextConfig

_LEGACY_EOS = 2  # of configs that name no true end token: the end is then the largest id, which it is in CLIP's vocabulary


@dataclass(frozen=True)
class EncodedText:
    """What the encoder makes of B prompts.

    Attributes:
        hidden_states: (B, L, D) before the first layer and after each, the last one not normalised.
        text_embeds: (B, P).
    """

    hidden_states: tuple[Tensor, ...]
    text_embeds: Tensor


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, allowed: Tensor | None) -> Tensor:
        """(B, L, D) -> the same. allowed: (B, 1, L, L), whether a token attends to another; None for all up to itself."""
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        causal = allowed is None and x.shape[1] > 1
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed, is_causal=causal)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class _Layer(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.self_attn = _SelfAttention(width, config.num_attention_heads)
        self.layer_norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, config.intermediate_size), "fc2": nn.Linear(config.intermediate_size, width)}
        )
        self.layer_norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.activation = functional.gelu if config.hidden_act == "gelu" else _quick_gelu

    def forward(self, x: Tensor, allowed: Tensor | None) -> Tensor:
        """(B, L, D) -> the same."""
        x = x + self.self_attn(self.layer_norm1(x), allowed)
        return x + self.mlp["fc2"](self.activation(self.mlp["fc1"](self.layer_norm2(x))))


class TextEncoder(nn.Module):
    """The encoder, as `config` says."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        # No nn.Embedding: drawing its first values on the meta device would have torch import its compiler, 60 MB.
        embeddings = {
            "token_embedding": nn.ParameterDict({"weight": torch.empty(config.vocab_size, width)}),
            "position_embedding": nn.ParameterDict({"weight": torch.empty(config.max_position_embeddings, width)}),
        }
        layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.text_model = nn.ModuleDict(
            {
                "embeddings": nn.ModuleDict(embeddings),
                "encoder": nn.ModuleDict({"layers": layers}),
                "final_layer_norm": nn.LayerNorm(width, eps=config.layer_norm_eps),
            }
        )
        self.text_projection = nn.Linear(width, config.projection_dim, bias=False)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.text_projection.weight.device

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, *, output_hidden_states: bool = True
    ) -> EncodedText:
        """Encode (B, L) ids.

        Args:
            attention_mask: (B, L), 0 where a token is not to be attended to.
            output_hidden_states: for transformers' own class, which gives them only when asked; here they always come.
        """
        tokens, positions = (table["weight"] for table in self.text_model["embeddings"].values())
        x = functional.embedding(input_ids, tokens) + positions[: input_ids.shape[1]]
        allowed = _allowed(attention_mask)
        states = [x]
        for layer in self.text_model["encoder"]["layers"]:
            states.append(layer(states[-1], allowed))
        pooled = self.text_model["final_layer_norm"](states[-1])[torch.arange(len(x), device=x.device), self._ends(input_ids)]
        return EncodedText(tuple(states), self.text_projection(pooled))

    def _ends(self, input_ids: Tensor) -> Tensor:
        """(B,) where each prompt ends: at its first end token."""
        end = self.config.eos_token_id
        return (input_ids if end == _LEGACY_EOS else (input_ids == end).int()).argmax(dim=-1)


def _allowed(mask: Tensor | None) -> Tensor | None:
    """What each token may attend to, (B, 1, L, L): itself and those before it that `mask` leaves; None where it leaves all."""
    if mask is None or bool(mask.all()):
        return None
    length = mask.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    return causal & mask.bool()[:, None, None, :]


def _quick_gelu(x: Tensor) -> Tensor:
    """Hendrycks & Gimpel 2016, section 2: the logistic approximation of GELU."""
    return x * torch.sigmoid(1.702 * x)
