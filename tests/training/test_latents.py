"""Kept latents, with the pictures drawn besides; what Stage C's guesses look like as a loss."""

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


def test_refining_stage_b_is_shown_what_stage_c_made_of_a_picture(work, data, monkeypatch):
    monkeypatch.setattr(stage_b, "MORE_ICONS", 3)
    monkeypatch.setattr(stage_b, "MADE_AGAIN", 4)
    monkeypatch.setattr(stage_b, "RESAMPLED", 1.0)
    seen = {}

    def again(prior, text_encoder, tokenizer, captions, latents, *, last, seed):
        seen.update({int(caption): latent for caption, latent in zip(captions, latents, strict=True)})
        return torch.full_like(latents, 7.0)

    monkeypatch.setattr(stage_b.clip, "captions_of", lambda indices, rng, *, explicit: [str(index) for index in indices])
    monkeypatch.setattr(resampled, "again", again)
    part = stage_b.build(data, work, CPU, batch=8, count=data.count, refine=True)
    told = []
    part.modules["decoder"].effnet_mapper.register_forward_pre_hook(lambda _module, given: told.append(given[0]))
    for step in range(8):
        value, _numbers = part.loss(step, np.random.default_rng(step))
        assert torch.isfinite(value)
    assert len(seen) == 4 and 0 in seen
    last_icon = stage_b.icon_indices(data.count, 3)[-1]
    network, _previewer = encoder.load(work)
    with torch.no_grad():
        wanted = network(to_tensor(np.stack([render(describe(last_icon))])), SQUARE)[0]
    assert torch.allclose(seen[last_icon], wanted, atol=2e-2)  # the latent that was noised is that of the picture named
    square = [condition for condition in told if condition.shape[-2:] == (32, 32)]  # resized to Stage B's cells
    assert square and all(float(row.mean()) == 0 or float(row.mean()) > 6 for row in torch.cat(square))  # 0: dropped


def test_some_pictures_are_made_again_and_found_by_their_rows(work, data, monkeypatch):
    network, _previewer = encoder.load(work)
    conditions = LatentCache(work, "encoder", network, data=data, count=data.count, device=CPU)
    monkeypatch.setattr(resampled, "again", lambda *given, last, seed: given[-1] + 1)
    some = resampled.Resampled(torch.nn.Linear(1, 1), None, None, conditions=conditions, count=5)
    rows = some.rows[[3, 1]]
    assert len(some.rows) == 5 and some.rows[-1] == len(conditions.indices[SQUARE]) - 1
    assert torch.allclose(some.get(rows), conditions.get(SQUARE, rows) + 1, atol=1e-2)
