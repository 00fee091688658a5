"""Kept latents, with the pictures drawn besides; what refining learns from; what Stage C's guesses look like as a loss."""

from __future__ import annotations

import numpy as np
import torch

from cascade_app.training import encoder, resampled, stage_b, stage_c
from cascade_app.training.data import SQUARE, to_tensor
from cascade_app.training.latents import LatentCache
from cascade_app.training.scenes import render
from cascade_app.training.world import describe

CPU = torch.device("cpu")


def test_more_pictures_come_after_the_others_and_are_square(work, data):
    network, _previewer = encoder.load(work)
    plain = LatentCache(work, "encoder", network, data=data, count=data.count, device=CPU)
    more = [1003, 1004]  # a picture of the first index would not be square
    cache = LatentCache(work, "encoder", network, data=data, count=data.count, device=CPU, more=more)
    own = len(plain.indices[SQUARE])
    assert cache.indices[SQUARE].tolist() == [*plain.indices[SQUARE], *more]
    assert torch.equal(cache.get(SQUARE, np.arange(own)), plain.get(SQUARE, np.arange(own)))
    pictures = to_tensor(np.stack([render(describe(index)) for index in more]))
    with torch.no_grad():
        wanted = network(pictures, SQUARE)
    assert torch.allclose(cache.get(SQUARE, np.array([own, own + 1])), wanted, atol=2e-2)
    other = LatentCache(work, "encoder", network, data=data, count=data.count, device=CPU, more=[1005])
    assert not torch.equal(other.get(SQUARE, np.array([own])), cache.get(SQUARE, np.array([own])))


def test_guesses_are_looked_at_where_it_is_known_what_they_show(work):
    _encoder, previewer = encoder.load(work)
    torch.manual_seed(0)
    x0 = torch.randn(3, 16, 6, 6)
    guess = (x0 + torch.randn_like(x0)).requires_grad_()
    open_still, known = torch.full((3,), 0.9), torch.tensor([0.9, 0.3, 0.9])
    assert stage_c.look_loss(previewer, guess, x0, open_still) == 0
    assert stage_c.look_loss(previewer, x0, x0, known) == 0
    stage_c.look_loss(previewer, guess, x0, known).backward()
    assert guess.grad[1].abs().max() > 0 and guess.grad[[0, 2]].abs().max() == 0


def test_refining_learns_from_icons_drawn_besides(work, data, monkeypatch):
    monkeypatch.setattr(resampled, "COUNT", 8)
    monkeypatch.setattr(resampled, "MORE_ICONS", 3)
    monkeypatch.setattr(stage_c, "ONE_WORD", 3)
    monkeypatch.setattr(stage_c, "MORE_SHORT", 1.0)
    asked = []

    def captions_of(indices, rng, *, explicit=0.5):
        asked.extend(int(index) for index in indices)
        return ["a star"] * len(indices)

    part = stage_c.build(data, work, CPU, batch=8, count=data.count, refine=True)
    monkeypatch.setattr(stage_c.clip, "captions_of", captions_of)
    for step in range(8):
        value, numbers = part.loss(step, np.random.default_rng(step))
        assert torch.isfinite(value) and {"mse", "look"} <= set(numbers)
    assert set(asked) & set(stage_c.one_word_indices(data.count, 3))


def test_refining_stage_b_sees_what_stage_c_made_of_a_picture_and_hears_what_was_asked(work, data, monkeypatch):
    monkeypatch.setattr(resampled, "MORE_ICONS", 3)
    monkeypatch.setattr(stage_b, "RESAMPLED", 1.0)
    heard, seen = [], {}

    def captions_of(indices, rng, *, explicit=0.5):
        return [f"picture {index}" for index in indices]

    def again(prior, text_encoder, tokenizer, captions, latents, *, last, seed):
        for caption, latent in zip(captions, latents, strict=True):
            seen[int(caption.split()[1])] = latent
        return torch.full_like(latents, 7.0)

    def encode_prompts(tokenizer, text_encoder, prompts):
        heard.extend(prompts)
        return encode(tokenizer, text_encoder, prompts)

    encode = stage_b.encode_prompts
    monkeypatch.setattr(stage_b.clip, "captions_of", captions_of)
    monkeypatch.setattr(resampled, "again", again)
    monkeypatch.setattr(stage_b, "encode_prompts", encode_prompts)
    part = stage_b.build(data, work, CPU, batch=8, count=data.count, refine=True)
    part.begin()
    told = []
    part.modules["decoder"].effnet_mapper.register_forward_pre_hook(lambda _module, given: told.append(given[0]))
    for step in range(8):
        value, _numbers = part.loss(step, np.random.default_rng(step))
        assert torch.isfinite(value)
    icons = resampled.icon_indices(data.count, 3)
    network, _previewer = encoder.load(work)
    with torch.no_grad():
        wanted = network(to_tensor(np.stack([render(describe(icons[-1]))])), SQUARE)[0]
    assert torch.allclose(seen[icons[-1]], wanted, atol=2e-2)  # the latent that was noised is that of the picture named
    assert max(float(condition.max()) for condition in told) > 6  # and what became of it is what Stage B is shown
    named = {prompt for prompt in heard if prompt}
    assert {f"picture {index}" for index in icons} & named and len(named) < len(heard)  # "" among them


def test_refining_stage_c_goes_on_from_its_own_work_towards_the_picture(work, data, monkeypatch):
    monkeypatch.setattr(resampled, "COUNT", data.count)
    monkeypatch.setattr(resampled, "MORE_ICONS", 4)  # a file that no other test has made
    monkeypatch.setattr(stage_c, "ONE_WORD", 3)
    monkeypatch.setattr(stage_c, "OWN_WORK", 1.0)
    monkeypatch.setattr(stage_c, "OWN_KEPT", 1.0)
    monkeypatch.setattr(stage_c, "MORE_SHORT", 0.0)
    monkeypatch.setattr(stage_c, "high_ratios", lambda count, rng, *, even: torch.full((count,), 0.2))
    monkeypatch.setattr(resampled, "again", lambda *given, last, seed: torch.full_like(given[-1], 50.0))
    part = stage_c.build(data, work, CPU, batch=8, count=data.count, refine=True)
    given = []
    part.modules["prior"].embedding.register_forward_pre_hook(lambda _module, x: given.append(x[0]))
    errors = []
    for step in range(6):
        _value, numbers = part.loss(step, np.random.default_rng(step))
        errors.append(numbers["mse"])
    square = [latents for latents in given if latents.shape[-2:] == SQUARE]
    assert square and max(float(latents.amax()) for latents in square) > 20  # the noise lies on what was made
    assert max(errors) < 100  # and what is wanted is the picture's own latent, nowhere near 50
