"""The walk equals StableCascadeUNet.forward, for every block kind, and each table it caches matters."""

from __future__ import annotations

import pytest
import torch

from cascade_app.diffusion.guidance import Guidance
from cascade_app.diffusion.packed import can_pack, pack
from cascade_app.diffusion.unet import Conditioning, all_blocks, predict, prepare, timestep_embedding
from tests.small import small_decoder, small_prior

RATIOS = torch.tensor([1.0, 0.55, 0.05])


def prior_case(rows: int = 3, size: tuple[int, int] = (6, 7)):
    torch.manual_seed(0)
    conditioning = Conditioning(torch.randn(rows, 1, 20), torch.randn(rows, 12, 24), torch.randn(rows, 1, 12))
    return small_prior(), conditioning, torch.randn(rows, 16, *size)


def decoder_case(rows: int = 3, size: tuple[int, int] = (42, 38)):
    torch.manual_seed(0)
    conditioning = Conditioning(torch.randn(rows, 1, 20), effnet=torch.randn(rows, 16, 4, 4))
    return small_decoder(), conditioning, torch.randn(rows, 4, *size)


def forward(unet, conditioning, latents, step):
    with torch.no_grad():
        return unet(
            latents, RATIOS[step].expand(len(latents)), conditioning.pooled, clip_text=conditioning.text,
            clip_img=conditioning.image, effnet=conditioning.effnet, return_dict=False,
        )[0]  # fmt: skip


@pytest.mark.parametrize("case", [prior_case, decoder_case])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_walk_equals_forward(case, step):
    unet, conditioning, latents = case()
    prepared = prepare(unet, conditioning, ratios=RATIOS, size=latents.shape[-2:])
    expected = forward(unet, conditioning, latents, step)
    assert expected.std() > 0.05, "an inert network would make this test blind"
    torch.testing.assert_close(predict(unet, latents, step, prepared), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (10, 8), (2, 30), (54, 86)])
def test_walk_equals_forward_where_levels_have_odd_sides(size):
    unet, conditioning, latents = decoder_case(1, size)
    prepared = prepare(unet, conditioning, ratios=RATIOS, size=size)
    if min(size) // 2 < 4:
        pytest.raises(RuntimeError, predict, unet, latents, 1, prepared)  # too small for two halvings, here as there
        return
    torch.testing.assert_close(
        predict(unet, latents, 1, prepared), forward(unet, conditioning, latents, 1), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("packed", [False, True])
def test_without_self_attention(packed):
    _, conditioning, latents = prior_case()
    unet = small_prior(self_attn=False)
    expected = forward(unet, conditioning, latents, 1)
    if packed and can_pack(torch.float32):
        pack(unet)
    prepared = prepare(unet, conditioning, ratios=RATIOS, size=latents.shape[-2:])
    torch.testing.assert_close(predict(unet, latents, 1, prepared), expected, rtol=1e-4, atol=1e-5)


def test_fewer_rows_use_the_first_rows_conditioning():
    for unet, conditioning, latents in (prior_case(), decoder_case()):
        prepared = prepare(unet, conditioning, ratios=RATIOS, size=latents.shape[-2:])
        whole = predict(unet, latents, 1, prepared)
        torch.testing.assert_close(predict(unet, latents[:1], 1, prepared), whole[:1], rtol=1e-4, atol=1e-5)


def tables_of(unet, prepared, step: int = 0) -> dict[str, torch.Tensor]:
    """Everything that `prepare` keeps for a step, each by a name; what is written to it is what `predict` reads."""
    blocks = list(all_blocks(unet))
    assert {block for block in blocks if hasattr(block, "kv_mapper")} == set(prepared.keys_values)
    assert {block for block in blocks if hasattr(block, "conds")} == set(prepared.tables)
    tables = {}
    for n, keys_values in enumerate(prepared.keys_values.values()):
        tables[f"keys of {n}"], tables[f"values of {n}"] = keys_values.chunk(2, dim=-1)
    for part, name in enumerate(("factor", "offset")):
        tables |= {f"{name} of {n}": table[step][part] for n, table in enumerate(prepared.tables.values())}
    return tables | ({} if prepared.maps is None else {"maps": prepared.maps})


def assert_each_matters(tables, apart, limit: float, *, strength: float = 1.0) -> None:
    """With any one of `tables` corrupted, what `apart` measures is beyond `limit`, and within it again when it is put back."""
    for name, table in tables.items():
        kept = table.clone()
        table.add_((strength * torch.randn(table.shape)).to(table.dtype))
        assert not apart() < limit, f"{name} could be anything"
        table.copy_(kept)
    assert apart() < limit


def agrees(walked, expected) -> bool:
    """The comparison of the tests above, as a yes or no."""
    return torch.allclose(walked, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", [prior_case, decoder_case])
def test_the_comparison_fails_when_any_one_cached_table_is_corrupted(case):
    unet, conditioning, latents = case()
    prepared = prepare(unet, conditioning, ratios=RATIOS, size=latents.shape[-2:])
    expected = forward(unet, conditioning, latents, 1)
    tables = tables_of(unet, prepared, step=1)
    assert_each_matters(tables, lambda: not agrees(predict(unet, latents, 1, prepared), expected), 1)


def test_a_table_of_one_step_is_read_at_that_step_only():
    unet, conditioning, latents = prior_case()
    prepared = prepare(unet, conditioning, ratios=RATIOS, size=latents.shape[-2:])
    for table in prepared.tables.values():
        for one in table[1]:
            one += 1.0
    walked = [predict(unet, latents, step, prepared) for step in range(3)]
    expected = [forward(unet, conditioning, latents, step) for step in range(3)]
    assert list(map(agrees, walked, expected)) == [True, False, True]


# (Stage C size, Stage B size): even, and such as leave a level with an odd side.
SIZES = [((6, 7), (42, 38)), ((5, 3), (20, 12)), ((9, 12), (54, 86)), ((1, 1), (8, 8))]
# How far 16-bit weights may lie from diffusers' own forward in the same dtype, relative to the output's norm. Theirs casts the
# timestep to 16 bits first, so it is told one that 16 bits hold exactly.
NEAR = {torch.float32: 1e-5, torch.bfloat16: 0.02, torch.float16: 0.003}


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("stage", [0, 1], ids=["C", "B"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@torch.no_grad()
def test_walk_equals_forward_in_every_dtype_size_and_batch(packed, stage, sizes, rows, dtype):
    if packed and not can_pack(dtype):
        pytest.skip("this processor has no packed products in this dtype")
    unet, conditioning, latents = (prior_case, decoder_case)[stage](rows, sizes[stage])
    unet = unet.to(dtype)
    ratio = torch.tensor([0.5])
    # What no 16 bits change: the embedding of the timestep as this network's own code makes it, in float32.
    unet.get_timestep_ratio_embedding = lambda ratios: timestep_embedding(ratios, 64).to(dtype)
    given = [None if one is None else one.to(dtype) for one in (conditioning.text, conditioning.image, conditioning.effnet)]
    expected = unet(
        latents.to(dtype), ratio.to(dtype).expand(rows), conditioning.pooled.to(dtype), clip_text=given[0], clip_img=given[1],
        effnet=given[2], return_dict=False,
    )[0].float()  # fmt: skip
    if packed:
        pack(unet)
    prepared = prepare(unet, conditioning, ratios=ratio, size=latents.shape[-2:])
    assert expected.std() > 0.05

    def apart() -> float:
        walked = predict(unet, latents, 0, prepared)
        assert walked.shape == expected.shape
        return float((walked - expected).norm() / expected.norm())

    assert apart() < NEAR[dtype]
    # Strongly: a few conditioning tokens weigh little among a thousand cells that attend to each other, and 16 bits are coarse.
    # Keys that turn the cells away from Stage B's one token change less than bfloat16 rounds; the other dtypes see them.
    unseen = "keys" if (stage, dtype) == (1, torch.bfloat16) else "none"
    tables = {name: table for name, table in tables_of(unet, prepared).items() if not name.startswith(unseen)}
    assert_each_matters(tables, apart, NEAR[dtype], strength=300.0)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("stage", [0, 1])
@torch.no_grad()
def test_what_comes_before_the_conditioning_is_computed_once_for_all_rows_of_it(stage, packed):
    unet, conditioning, latents = (prior_case, decoder_case)[stage](6)
    latents = latents[:3]
    if packed:
        pack(unet)
    prepared = prepare(unet, conditioning, ratios=RATIOS, size=latents.shape[-2:])
    rows = []
    first = unet.down_blocks[0][0]
    first.depthwise.register_forward_pre_hook(lambda _module, given: rows.append(len(given[0])))
    together = predict(unet, latents, 1, prepared, times=2)
    assert rows == [6 if stage else 3]  # Stage B's first block already knows what it is conditioned on: its maps
    torch.testing.assert_close(together, predict(unet, torch.cat([latents, latents]), 1, prepared), rtol=1e-4, atol=1e-5)
    assert (together[:3] - together[3:]).abs().max() > 0.01


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("case", [prior_case, decoder_case])
@torch.no_grad()
def test_guidance_is_two_rows_where_it_is_on_and_one_where_it_is_off(case, scale):
    unet, conditioning, latents = case(2)
    (prompt, negative), latents = halves(conditioning), latents[:1]
    guidance, rows = Guidance(scale), []
    for module in (unet.embedding, unet.clf):
        module.register_forward_pre_hook(lambda _module, given: rows.append(len(given[0])))
    asked = conditioning if guidance.ever_active else prompt
    prepared = prepare(unet, asked, ratios=RATIOS, size=latents.shape[-2:])

    def walked() -> torch.Tensor:
        if not guidance.active(1, 3):
            return predict(unet, latents, 1, prepared)
        return guidance.combine(*predict(unet, latents, 1, prepared, times=2).chunk(2))

    walked()
    assert rows == [1, 2 if scale > 1 else 1]
    expected = forward(unet, prompt, latents, 1)
    if scale > 1:
        against = forward(unet, negative, latents, 1)
        expected = against + scale * (expected - against)

    def apart() -> float:
        return float((walked() - expected).norm() / expected.norm())

    assert apart() < 1e-4
    assert_each_matters(tables_of(unet, prepared, step=1), apart, 1e-4)


def halves(conditioning) -> list[Conditioning]:
    """Of two rows, each as conditioning of its own."""
    each = (conditioning.pooled, conditioning.text, conditioning.image, conditioning.effnet)
    return [Conditioning(*(None if one is None else one[row : row + 1] for one in each)) for row in range(2)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_weights_stay_close_to_float32(dtype):
    """Float32 timesteps are what makes this hold: with the ratio in 16 bits the error is 0.2 to 0.5."""
    for unet, conditioning, latents in (prior_case(), decoder_case()):
        exact = predict(unet, latents, 1, prepare(unet, conditioning, ratios=RATIOS, size=latents.shape[-2:]))
        unet = unet.to(dtype)
        rounded = predict(unet, latents, 1, prepare(unet, conditioning, ratios=RATIOS, size=latents.shape[-2:]))
        assert rounded.dtype == torch.float32
        assert (rounded - exact).norm() / exact.norm() < 0.03


def test_a_response_whose_squares_no_float16_holds_is_still_one():
    unet, conditioning, latents = prior_case()
    with torch.no_grad():
        unet.down_blocks[0][0].channelwise[0].weight.mul_(300)
    exact = predict(unet, latents, 1, prepare(unet, conditioning, ratios=RATIOS, size=latents.shape[-2:]))
    unet = unet.half()
    rounded = predict(unet, latents, 1, prepare(unet, conditioning, ratios=RATIOS, size=latents.shape[-2:]))
    assert (rounded - exact).norm() / exact.norm() < 0.03


def test_timestep_embedding_is_the_networks_own():
    unet = small_prior()
    ratios = torch.rand(50)
    torch.testing.assert_close(timestep_embedding(ratios, 64), unet.get_timestep_ratio_embedding(ratios), rtol=0, atol=0)
