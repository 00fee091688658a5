"""A network's own guesses in the place of the truth: which rows, made when, and never what is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cascade_app.training import stage_b, stage_c
from cascade_app.training.guesses import Taken, with_guesses
from cascade_app.training.unets import new_schedule
from cascade_app.training.world import Landscape, describe

SCHEDULE = new_schedule()
RATIOS = torch.linspace(0.02, 1, 400)


def taken_from(taken, *, seed=0):
    """(what came out of zeros where the guess is ones, the ratios of the guesses, what was shown for them)."""
    seen = {}

    def guess(noisy, earlier, rows):
        seen.update(noisy=noisy, earlier=earlier, rows=rows)
        return torch.ones_like(noisy)

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    result = with_guesses(torch.zeros(400, 4, 8, 8), RATIOS, guess, schedule=SCHEDULE, rng=rng, taken=taken)
    return result, seen


def test_a_share_of_the_rows_below_the_ratio_hold_a_guess_and_the_others_the_truth():
    result, seen = taken_from(Taken(share=0.5, below=0.8))
    chosen = result.flatten(1).mean(dim=1)
    assert set(chosen.tolist()) == {0.0, 1.0}
    assert torch.equal(chosen.nonzero()[:, 0], seen["rows"])
    assert (RATIOS[seen["rows"]] < 0.8).all()
    assert 0.4 < len(seen["rows"]) / int((RATIOS < 0.8).sum()) < 0.6


def test_a_guess_is_made_before_it_is_used():
    _, seen = taken_from(Taken(share=1, below=0.5, earliest=0.65))
    own = RATIOS[seen["rows"]]
    assert (seen["earlier"] >= own).all() and (seen["earlier"] <= 0.65).all()
    assert (seen["earlier"] - own).mean() > 0.1


def test_what_is_guessed_from_noise_alone_shows_nothing_of_the_truth():
    _, seen = taken_from(Taken(share=1, below=0.9, from_noise=1))
    assert (seen["earlier"] == 1).all()
    truth = torch.full((400, 4, 8, 8), 50.0)

    def guess(noisy, earlier, rows):
        seen["shown"] = noisy
        return noisy

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    with_guesses(truth, RATIOS, guess, schedule=SCHEDULE, rng=rng, taken=Taken(share=1, below=0.9, from_noise=1))
    assert abs(float(seen["shown"].mean())) < 1  # noise, where the truth is 50 everywhere
    assert float(seen["shown"].std()) == pytest.approx(1, abs=0.05)


def test_cities_are_found_among_the_pictures():
    rows = stage_b.city_rows(np.arange(300))
    assert len(rows) > 15
    for i in range(300):
        scene = describe(i)
        assert (i in rows) == (isinstance(scene, Landscape) and scene.terrain == "city")


def test_where_no_row_is_taken_nothing_is_guessed():
    truth = torch.zeros(400, 4, 8, 8)
    nothing = with_guesses(
        truth, RATIOS, lambda *_: pytest.fail("guessed"), schedule=SCHEDULE, rng=np.random.default_rng(0), taken=Taken(0, 1)
    )  # fmt: skip
    assert nothing is truth


def test_a_guess_is_not_learnt_through():
    weight = torch.ones(1, requires_grad=True)
    result = with_guesses(
        torch.zeros(400, 4, 8, 8),
        RATIOS,
        lambda noisy, earlier, rows: noisy * weight,
        schedule=SCHEDULE,
        rng=np.random.default_rng(0),
        taken=Taken(share=1, below=1),
    )
    assert not result.requires_grad and result.abs().sum() > 0


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("stage", [stage_b, stage_c])
def test_a_refining_run_meets_guesses_and_is_asked_for_the_truth(stage, refine, data, work, monkeypatch):
    met = []

    def stand_in(x0, *_, **__):
        met.append(x0)
        return x0 + 30

    monkeypatch.setattr(stage, "with_guesses", stand_in)
    torch.manual_seed(0)
    part = stage.build(data, work, torch.device("cpu"), batch=4, count=data.count, refine=refine)
    mse = part.loss(0, np.random.default_rng(0))[1]["mse"]
    assert len(met) == refine
    if refine:  # a new network says nothing yet: its error is the truth's own size, not the guess's
        assert mse == pytest.approx(float((met[0] ** 2).mean()), rel=1e-4)
