"""What goes where, on the published shapes and on cards of every size: pure arithmetic, no weights."""

from __future__ import annotations

import pytest

from cascade_app.catalogue import find_checkpoint
from cascade_app.errors import InvalidRequest, NothingFits
from cascade_app.plan import make_plan
from cascade_app.request import GenerationRequest
from cascade_app.runtime.footprint import count_unet
from cascade_app.runtime.memory import CONTEXT_BYTES, candidates, choose, part_devices
from tests.small import small_decoder, small_prior

CARDS_GB = (80, 24, 16, 12, 8, 6)


def plan_of(spec, size=1024, images=1, **values):
    request = GenerationRequest(prompt="a", seed=1, width=size, height=size, images=images, **values)
    return make_plan(request, spec)


def decide(name="stable-cascade", *, gb, size=1024, images=1, **options):
    spec = find_checkpoint(name)
    budget = int(gb * 1e9) - CONTEXT_BYTES
    return choose(spec.parts, plan_of(spec, size, images), budget_bytes=budget, cpu_allowed=False, **options)


def test_the_cards_of_the_design():
    kinds = {gb: decide(gb=gb).kind for gb in CARDS_GB}
    assert kinds == {80: "resident", 24: "resident", 16: "resident", 12: "swap", 8: "swap", 6: "stream"}


@pytest.mark.parametrize("name", ["stable-cascade", "stable-cascade-lite"])
@pytest.mark.parametrize("gb", CARDS_GB)
@pytest.mark.parametrize(("size", "images"), [(1024, 1), (1024, 4), (1536, 1), (1536, 4), (2048, 16)])
def test_the_predicted_peak_fits_the_card(name, gb, size, images):
    placement = decide(name, gb=gb, size=size, images=images)
    assert 0 < placement.predicted_peak_bytes <= placement.budget_bytes < gb * 1e9
    assert placement.kind in ("resident", "swap", "stream") and placement.reason.endswith(".")


def test_large_pictures_on_small_cards_are_cut_into_chunks():
    for gb in (12, 8, 6):
        placement = decide(gb=gb, size=1536, images=4)
        assert placement.kind != "resident"
        assert placement.vqgan_rows or placement.model_batch < 4 or gb == 12


def test_the_lite_pair_stays_resident_where_the_large_one_swaps():
    assert decide("stable-cascade-lite", gb=12).kind == "resident"
    assert decide("stable-cascade-lite", gb=8).kind == "resident"


def test_a_card_too_small_for_anything_is_told_what_it_would_take():
    with pytest.raises(NothingFits, match=r"needs \d+\.\d GB even block by block.*1.6 GB") as caught:
        decide(gb=2)
    assert isinstance(caught.value, InvalidRequest)


def test_with_the_cpu_allowed_the_last_resort_is_the_cpu():
    spec = find_checkpoint("stable-cascade")
    small = choose(spec.parts, plan_of(spec), budget_bytes=10**9)
    none = choose(spec.parts, plan_of(spec), budget_bytes=0)
    assert small.kind == none.kind == "cpu" and small.reason != none.reason
    assert "1.0 GB" in small.reason and "no GPU" in none.reason


@pytest.mark.parametrize("wanted", ["resident", "swap", "stream", "cpu"])
def test_a_placement_can_be_insisted_on(wanted):
    spec = find_checkpoint("stable-cascade")
    assert choose(spec.parts, plan_of(spec), budget_bytes=79 * 10**9, wanted=wanted).kind == wanted
    if wanted in ("resident", "swap"):
        with pytest.raises(NothingFits, match="CASCADE_PLACEMENT"):
            choose(spec.parts, plan_of(spec), budget_bytes=3 * 10**9, wanted=wanted)


def test_less_memory_never_means_a_higher_peak_or_a_better_kind():
    order = ("resident", "swap", "stream")
    last_kind, last_peak = 0, 10**12
    for tenths in range(300, 15, -1):
        try:
            placement = decide(gb=tenths / 10, size=1536, images=4)
        except NothingFits:
            break
        assert order.index(placement.kind) >= last_kind
        last_kind = order.index(placement.kind)
        last_peak = min(last_peak, placement.budget_bytes)
        assert placement.predicted_peak_bytes <= last_peak
    else:
        pytest.fail("a card of 1.6 GB cannot make four pictures of 1536 px")


def test_memory_grows_with_size_images_guidance_and_dtype():
    spec = find_checkpoint("stable-cascade")

    def peak(element_bytes=2, **values):
        plan = plan_of(spec, **values)
        return next(iter(candidates(spec.parts, plan, budget_bytes=10**12, element_bytes=element_bytes))).predicted_peak_bytes

    assert peak() < peak(size=1536) < peak(size=2048)
    assert peak() < peak(images=2) < peak(images=4) == peak(images=16)
    assert 1.9 * peak() < peak(element_bytes=4) < 2.1 * peak()
    # At 1024 px Stage C is the peak of a run that swaps, where both halves of the guidance batch show.
    assert _swap_peak(spec) > _swap_peak(spec, prior_guidance=0.0)


def _swap_peak(spec, **values):
    return choose(spec.parts, plan_of(spec, **values), budget_bytes=8 * 10**9, wanted="swap").predicted_peak_bytes


def test_8_bits_halve_stage_c():
    exact, narrow = (decide(gb=24, wanted="swap", fp8=fp8).predicted_peak_bytes for fp8 in (False, True))
    assert narrow < 0.65 * exact and decide(gb=6, wanted="swap", fp8=True).kind == "swap"


def test_every_part_is_said_to_be_somewhere():
    for gb in CARDS_GB:
        placement = decide(gb=gb)
        devices = part_devices(placement)
        assert set(devices) == {"text_encoder", "prior", "decoder", "vqgan"}
        assert ("blocks" in devices["prior"]) == (placement.kind == "stream")


@pytest.mark.parametrize(
    "network",
    [small_prior(), small_decoder(), small_prior(kernel_size=5), small_prior(switch_level=(True,))],
    ids=["prior", "decoder", "kernel", "switch"],
)
def test_parameters_are_counted_from_the_config(network):
    count = count_unet(network.config)
    blocks = [
        sum(parameter.numel() for parameter in block.parameters())
        for level in (*network.down_blocks, *network.up_blocks)
        for block in level
    ]
    total = sum(parameter.numel() for parameter in network.parameters())
    assert (count.total, count.largest_block, count.outside_blocks) == (total, max(blocks), total - sum(blocks))


def test_published_sizes_are_those_of_the_checkpoints():
    for name, part, billions in (
        ("stable-cascade", "prior", 3.589), ("stable-cascade-lite", "prior", 1.031),
        ("stable-cascade", "decoder", 1.563), ("stable-cascade-lite", "decoder", 0.699),
    ):  # fmt: skip
        assert count_unet(find_checkpoint(name).parts[part].config).total == pytest.approx(billions * 1e9, rel=1e-3)
