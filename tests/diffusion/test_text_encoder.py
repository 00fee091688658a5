"""The text encoder against transformers' class, bit for bit."""

from __future__ import annotations

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from cascade_app.diffusion.configs import TextConfig, config_from
from cascade_app.diffusion.text_encoder import TextEncoder
from tests.small import revive

END = 96
SIZES = [
    {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "projection_dim": 20},
    {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 1, "projection_dim": 32},
]


def masks(length: int) -> dict[str, torch.Tensor | None]:
    """For three prompts: nothing masked, each padded differently, and words in the middle unheard."""
    ends = torch.tensor([[length], [length // 2 + 1], [1]])
    holes = torch.ones(3, length, dtype=torch.long)
    holes[1, 1:3] = holes[2, 2:] = 0
    return {"none": None, "whole": torch.ones(3, length, dtype=torch.long),
            "padded": (torch.arange(length) < ends).long(), "holes": holes}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("eos", [END, 2])
@pytest.mark.parametrize("act", ["gelu", "quick_gelu"])
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_equals_transformers(size, act, eos, dtype):
    config = CLIPTextConfig(
        **size, hidden_act=act, vocab_size=97, max_position_embeddings=12, bos_token_id=95, eos_token_id=eos, pad_token_id=0
    )
    theirs = revive(CLIPTextModelWithProjection(config), 3).to(dtype)
    with torch.device("meta"):
        ours = TextEncoder(config_from(TextConfig, config.to_dict()))
    ours.load_state_dict(theirs.state_dict(), assign=True)
    generator = torch.Generator().manual_seed(0)
    for length in (1, 3, 12):
        ids = torch.randint(0, 95, (3, length), generator=generator)
        ids[:, length // 2] = END
        ids[1, -1] = END  # a second end is padding
        for name, mask in masks(length).items():
            expected = theirs(ids, attention_mask=mask, output_hidden_states=True)
            encoded = ours(ids, attention_mask=mask)
            pairs = zip(encoded.hidden_states, expected.hidden_states, strict=True)
            assert all(torch.equal(*pair) for pair in pairs), (length, name)
            assert torch.equal(encoded.text_embeds, expected.text_embeds), (length, name)
            assert expected.text_embeds.float().std() > 0.01


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_act": "relu"}, "hidden_act is relu"),
        ({"num_attention_heads": 7}, "num_attention_heads is 7"),
        ({"eos_token_id": [1]}, "eos_token_id is"),
    ],
)
def test_a_config_that_describes_no_encoder(changes, said):
    with pytest.raises(ValueError, match=said):
        config_from(TextConfig, changes)
