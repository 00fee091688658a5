"""Schedule, guidance and sampler against their formulas and against diffusers' schedulers."""

from __future__ import annotations

import math

import pytest
import torch
from diffusers import DDPMScheduler, DDPMWuerstchenScheduler

from cascade_app.diffusion.guidance import Guidance
from cascade_app.diffusion.sampler import draw_noise, sample
from cascade_app.diffusion.schedule import PREDICTION_TYPES, CosineSchedule, add_noise, x0_and_noise
from cascade_app.errors import CheckpointDamaged
from tests.small import x0_scheduler

WUERSTCHEN = {"_class_name": "DDPMWuerstchenScheduler", "s": 0.008, "scaler": 1.0}
DDPM = {**x0_scheduler().config, "_class_name": "DDPMScheduler"}


def test_alpha_cumprod_is_diffusers():
    ratios = torch.linspace(0, 1, 101)
    ours = CosineSchedule.from_config(WUERSTCHEN).alpha_cumprod(ratios)
    theirs = DDPMWuerstchenScheduler()._alpha_cumprod(ratios, torch.device("cpu"))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    table = CosineSchedule.from_config(DDPM).alpha_cumprod(torch.arange(1, 1001) / 1000)
    torch.testing.assert_close(table, DDPMScheduler.from_config(DDPM).alphas_cumprod, rtol=2e-4, atol=1e-9)


@pytest.mark.parametrize("shift", [0.5, 2.0])
@pytest.mark.parametrize("config", [WUERSTCHEN, DDPM])
def test_shift_moves_the_log_snr_and_tells_the_ratio_of_equal_noise(shift, config):
    plain, shifted = (CosineSchedule.from_config(config, value) for value in (1.0, shift))
    ratios = torch.linspace(0.1, 0.9, 9)

    def log_snr(alpha):
        return alpha.log() - (1 - alpha).log()

    moved = log_snr(shifted.alpha_cumprod(ratios)) - log_snr(plain.alpha_cumprod(ratios))
    torch.testing.assert_close(moved, torch.full_like(moved, 2 * math.log(1 / shift)), rtol=1e-3, atol=1e-3)
    told = shifted.told_ratio(ratios)
    torch.testing.assert_close(plain.alpha_cumprod(told), shifted.alpha_cumprod(ratios), rtol=1e-3, atol=1e-6)
    assert (told > ratios).all() == (shift > 1)
    assert torch.equal(plain.told_ratio(ratios), ratios)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_x0_and_noise_undo_add_noise(prediction_type):
    x0, noise = torch.randn(2, 4, 5, 5), torch.randn(2, 4, 5, 5)
    alpha = torch.tensor([0.9, 0.2])
    latents = add_noise(x0, noise, alpha)
    a, b = (value.sqrt().view(2, 1, 1, 1) for value in (alpha, 1 - alpha))
    prediction = {"epsilon": noise, "sample": x0, "v_prediction": a * noise - b * x0}[prediction_type]
    got_x0, got_noise = x0_and_noise(prediction, latents, alpha, prediction_type)
    torch.testing.assert_close(got_x0, x0, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got_noise, noise, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("change", [{"_class_name": "Other"}, {"prediction_type": "flow"}, {"beta_schedule": "linear"},
                                    {"num_train_timesteps": 500}])  # fmt: skip
def test_unknown_schedules_are_refused(change):
    with pytest.raises(CheckpointDamaged):
        CosineSchedule.from_config({**DDPM, **change})
    with pytest.raises(CheckpointDamaged):
        CosineSchedule.from_config({**WUERSTCHEN, "scaler": 2.0})


def test_guidance_extrapolates_and_rescales_image_by_image():
    conditional, unconditional = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6)
    plain = Guidance(3.0).combine(conditional, unconditional)
    torch.testing.assert_close(plain, unconditional + 3 * (conditional - unconditional))
    full = Guidance(3.0, rescale=1.0).combine(conditional, unconditional)
    torch.testing.assert_close(full.std(dim=(1, 2, 3)), conditional.std(dim=(1, 2, 3)))
    torch.testing.assert_close(full[:1], Guidance(3.0, rescale=1.0).combine(conditional[:1], unconditional[:1]))
    half = Guidance(3.0, rescale=0.5).combine(conditional, unconditional)
    torch.testing.assert_close(half, (plain + full) / 2)


def test_guidance_interval_and_off():
    assert [Guidance(4, start=0.25, stop=0.75).active(step, 4) for step in range(4)] == [False, True, True, False]
    assert all(Guidance(4).active(step, 7) for step in range(7))
    for scale in (-1.0, 0.0, 1.0):
        assert not Guidance(scale).ever_active and not Guidance(scale).active(0, 4)


def test_noise_is_per_image_and_float32():
    def generators(*seeds):
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    batch = draw_noise((4, 3, 3), generators(1, 2))
    assert batch.dtype == torch.float32 and torch.equal(batch[1:], draw_noise((4, 3, 3), generators(2)))


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_a_perfect_network_is_followed_to_its_picture(sampler, prediction_type):
    """A network that knows the clean latents: every step's x0 is it, and the end is it but for the schedule's clamp."""
    schedule = CosineSchedule(prediction_type=prediction_type)
    x0 = torch.randn(1, 4, 5, 5)
    ratios = schedule.ratios(8)

    def network(latents, step):
        alpha = schedule.alpha_cumprod(ratios[step])
        noise = (latents - alpha.sqrt() * x0) / (1 - alpha).sqrt()
        return {"epsilon": noise, "sample": x0, "v_prediction": alpha.sqrt() * noise - (1 - alpha).sqrt() * x0}[
            prediction_type
        ]

    generators = [torch.Generator().manual_seed(1)]
    steps = list(sample(network, torch.randn(1, 4, 5, 5), schedule, steps=8, sampler=sampler, generators=generators))
    assert [state.step for state in steps] == list(range(8))
    for state in steps:
        torch.testing.assert_close(state.x0, x0, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(steps[-1].latents, x0, rtol=0.05, atol=0.05)
