"""What runs have in common is computed once, used only for exactly what it was computed for, and bounded."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import torch

from cascade_app.diffusion.unet import Conditioning, predict, prepare
from cascade_app.events import ImageReady
from cascade_app.runtime import prepared as module
from cascade_app.runtime.generate import generate
from cascade_app.runtime.manager import PipelineManager
from cascade_app.runtime.prepared import PreparedCache
from cascade_app.settings import Settings
from tests.small import small_decoder, small_prior

RATIOS = torch.tensor([1.0, 0.55, 0.05])
SIZE = (6, 7)


@pytest.fixture
def conditioning():
    torch.manual_seed(0)
    return Conditioning(torch.randn(2, 1, 20), torch.randn(2, 12, 24), torch.randn(2, 1, 12))


def told(cache, unet, conditioning, *, ratios=RATIOS, size=SIZE) -> bool:
    """Whether the cache took what it had; what it gives must be right either way."""
    before = cache.hits
    given = cache.prepare(unet, conditioning, ratios=ratios, size=size)
    fresh = prepare(unet, conditioning, ratios=ratios, size=size)
    latents = torch.randn(2, unet.config.in_channels, *size).to(conditioning.pooled.device)
    assert torch.equal(predict(unet, latents, 1, given), predict(unet, latents, 1, fresh))
    return cache.hits > before


def test_the_same_words_and_steps_are_prepared_once(conditioning):
    cache, unet = PreparedCache(), small_prior()
    assert not told(cache, unet, conditioning)
    copied = Conditioning(conditioning.pooled.clone(), conditioning.text.clone(), conditioning.image.clone())
    assert told(cache, unet, copied)
    assert told(cache, unet, copied, size=(3, 4)), "what is kept does not depend on the size"


def changed(conditioning, name):
    tensor = getattr(conditioning, name).clone()
    tensor.view(-1)[-1] += 1e-3
    return replace(conditioning, **{name: tensor})


@pytest.mark.parametrize("name", ["pooled", "text", "image"])
def test_any_other_number_is_prepared_anew(conditioning, name):
    cache, unet = PreparedCache(), small_prior()
    told(cache, unet, conditioning)
    assert not told(cache, unet, changed(conditioning, name))


def test_other_steps_rows_weights_or_dtype_are_prepared_anew(conditioning):
    cache, unet = PreparedCache(), small_prior()
    told(cache, unet, conditioning)
    assert not told(cache, unet, conditioning, ratios=RATIOS + 1e-3)
    assert not told(cache, unet, conditioning, ratios=RATIOS[:2])
    one = Conditioning(conditioning.pooled[:1], conditioning.text[:1], conditioning.image[:1])
    assert cache.prepare(unet, one, ratios=RATIOS, size=SIZE).keys_values and cache.hits == 0
    assert not told(cache, small_prior(seed=9), conditioning)
    assert not told(cache, unet.bfloat16(), conditioning)


def test_what_was_given_may_be_written_to_later(conditioning):
    cache, unet = PreparedCache(), small_prior()
    told(cache, unet, conditioning)
    conditioning.text.mul_(2)
    assert not told(cache, unet, conditioning)


def test_a_pictures_own_negative_is_never_kept():
    torch.manual_seed(0)
    cache, unet = PreparedCache(), small_decoder()
    pooled = torch.randn(2, 1, 20)
    assert not told(cache, unet, Conditioning(pooled, effnet=torch.randn(2, 16, 4, 4)), size=(16, 16))
    assert told(cache, unet, Conditioning(pooled, effnet=torch.randn(2, 16, 4, 4)), size=(16, 16))


def test_it_stays_within_its_bytes_and_lets_the_oldest_go(conditioning):
    cache, unet = PreparedCache(), small_prior()
    others = [changed(conditioning, name) for name in ("pooled", "text", "image")]
    told(cache, unet, conditioning)
    one = cache.used_bytes
    cache.shrink(2 * one)
    told(cache, unet, others[0])
    assert told(cache, unet, conditioning)  # now the newest
    told(cache, unet, others[1])
    assert cache.used_bytes == 2 * one
    assert told(cache, unet, conditioning) and not told(cache, unet, others[0])
    cache.shrink(one - 1)
    assert cache.used_bytes == 0 and not told(cache, unet, conditioning) and not told(cache, unet, conditioning)


def test_a_network_that_is_gone_keeps_nothing(conditioning):
    cache, unet = PreparedCache(), small_prior()
    told(cache, unet, conditioning)
    del unet
    gc.collect()
    cache.shrink(module.KEPT_BYTES)
    assert cache.used_bytes == 0


def test_a_second_run_with_the_same_words_reads_and_prepares_nothing(small_folder, ask, monkeypatch):
    engine = PipelineManager(Settings(device="cpu", dtype="float32"))

    def made(**values):
        return next(event for event in generate(engine, ask(**values)) if isinstance(event, ImageReady)).image.tobytes()

    first = made()
    calls = engine.text_encoder_calls
    prepared = []
    whole = module.prepare
    monkeypatch.setattr(
        module, "prepare", lambda *given, **named: prepared.append(named["known"] is None) or whole(*given, **named)
    )
    assert made() == first and made(seed=8) != first
    assert engine.text_encoder_calls == calls and prepared == [False] * 4
    made(prompt="a white boat")
    assert engine.text_encoder_calls == calls + 1 and prepared[4:] == [True] * 2


@pytest.mark.parametrize(("placement", "keeps"), [("resident", True), ("swap", False), ("stream", False)])
def test_a_card_keeps_it_only_where_the_weights_stay_too(small_folder, ask, placement, keeps):
    from cascade_app.runtime.offload import Carrier

    settings = Settings(device="cpu", dtype="float32", placement=placement)
    card = PipelineManager(settings, carrier=Carrier(torch.device("cpu"), limit_bytes=10**12))
    list(generate(card, ask()))
    assert (card.prepared.used_bytes > 0) is keeps
