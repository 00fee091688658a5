"""The training loops: resuming is exact, losses fall, every part's step runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cascade_app.training import classifier, clip, encoder, previewer, sharpen, stage_a, stage_b, stage_c
from cascade_app.training.loop import BucketWeights, Budget, Trainer, learning_rate, sample_ratios
from cascade_app.training.muon import orthogonalise

CPU = torch.device("cpu")


def build(name, data, work, batch, developed=None):
    if name == "sharpen":
        return sharpen.build(data, developed, stage_a.load(work), CPU)
    if name == "stage_a":
        return stage_a.build(data, CPU, batch=batch)
    if name == "encoder":
        return encoder.build(data, CPU, batch=batch)
    if name == "stage_b":
        return stage_b.build(data, work, CPU, batch=batch, count=data.count)
    if name == "stage_c":
        return stage_c.build(data, work, CPU, batch=batch, count=data.count)
    return {"clip": clip, "classifier": classifier, "previewer": previewer}[name].build(data, work, CPU, batch=batch)


PARTS = ("stage_a", "encoder", "previewer", "clip", "stage_b", "stage_c", "sharpen", "classifier")


@pytest.mark.parametrize("name", PARTS)
def test_a_stopped_run_resumes_to_the_same_weights(name, data, work, developed, tmp_path):
    def trainer(file):
        torch.manual_seed(5)
        part = build(name, data, work, 2, developed)
        part.sample = None
        return Trainer(part, tmp_path / file, Budget(steps=4), seed=3)

    straight = trainer("straight.pt")
    straight.run()
    stopped = trainer("stopped.pt")
    stopped.one_step()
    stopped.one_step()
    stopped.save()
    resumed = trainer("stopped.pt")
    assert resumed.step == 2
    resumed.run()
    for which in ("ema", "part"):
        mine = straight.ema if which == "ema" else straight.part.modules
        theirs = resumed.ema if which == "ema" else resumed.part.modules
        for module in mine:
            for key, value in mine[module].state_dict().items():
                assert torch.equal(value, theirs[module].state_dict()[key]), (which, module, key)


def test_loss_falls_on_a_few_pictures(data, work, tmp_path):
    trainer = Trainer(build("encoder", data, work, 3), tmp_path / "state.pt", Budget(steps=60))
    losses = [trainer.one_step()["loss"] for _ in range(22)]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


def test_the_previewer_goes_on_alone_with_the_statistics_it_had(data, work, tmp_path):
    part = build("previewer", data, work, 8)
    before = {name: value.clone() for name, value in part.modules["previewer"].state_dict().items()}
    Trainer(part, tmp_path / "state.pt", Budget(steps=3)).run()
    assert set(part.modules) == {"previewer"}
    for name, value in part.modules["previewer"].state_dict().items():
        assert torch.equal(value, before[name]) == ("running" in name or "tracked" in name), name


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_two_minutes_from_nothing(name, work, developed, tmp_path):
    from cascade_app.training.data import Pictures

    part = build(name, Pictures(work, 400), work, 8, developed)
    trainer = Trainer(part, tmp_path / "state.pt", Budget(minutes=2))
    losses = []
    part_loss = part.loss

    def recorded(step, rng):
        loss, numbers = part_loss(step, rng)
        # The weighted losses of the diffusion stages stay near 1 by construction: their plain error is what falls.
        losses.append(numbers.get("mse", float(loss.detach())))
        return loss, numbers

    part.loss = recorded
    trainer.run()
    tenth = max(3, len(losses) // 10)
    assert np.mean(losses[-tenth:]) < 0.8 * np.mean(losses[:tenth])


def test_state_survives_a_killed_save(data, work, tmp_path):
    trainer = Trainer(build("classifier", data, work, 2), tmp_path / "state.pt", Budget(steps=4))
    trainer.one_step()
    trainer.save()
    (tmp_path / "state.pt.part").write_bytes(b"half a file")
    assert Trainer(build("classifier", data, work, 2), tmp_path / "state.pt", Budget(steps=4)).step == 1


def test_ratios_cover_the_schedule():
    ratios = sample_ratios(4000, np.random.default_rng(0))
    assert ratios.dtype == torch.float32
    assert float(ratios.min()) > 0 and float(ratios.max()) == 1.0
    assert 0.05 < float((ratios == 1).float().mean()) < 0.12


def test_bucket_weights_even_out_the_noise_levels():
    weights = BucketWeights()
    ratios, losses = torch.tensor([0.1, 0.9]), torch.tensor([0.01, 1.0])
    for _ in range(50):
        total = weights(losses, ratios)
    assert abs(float(total) - 1) < 0.05


def test_learning_rate_rises_stays_and_falls():
    assert learning_rate(0, 0.0) < 0.05
    assert learning_rate(500, 0.3) == 1.0
    assert learning_rate(500, 1.0) == pytest.approx(0.05)


def test_orthogonalise_evens_out_singular_values():
    torch.manual_seed(0)
    for shape in ((24, 64), (64, 24)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(*shape)))
        assert float(values.min()) > 0.6 and float(values.max()) < 1.3
