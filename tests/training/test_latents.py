"""Kept latents, with the pictures drawn besides; what Stage C's guesses look like as a loss."""

from __future__ import annotations

import numpy as np
import torch

from cascade_app.training import encoder, stage_c
from cascade_app.training.data import SQUARE, to_tensor
from cascade_app.training.latents import LatentCache, with_more
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


def test_a_share_of_a_batch_is_replaced_and_its_rows_stay_sorted():
    rows, of = np.arange(1000), np.array([5000, 6000])
    more = with_more(rows, of, 0.2, np.random.default_rng(0))
    assert (np.diff(more) >= 0).all() and 150 < np.isin(more, of).sum() < 250
    assert set(more) <= {*rows, *of}
    assert np.array_equal(with_more(rows, np.array([], dtype=int), 0.2, np.random.default_rng(0)), rows)
