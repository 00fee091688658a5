"""Sharpening Stage A's decoder: what it begins as, what it leaves alone, what it learns from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel

from cascade_app.training import sharpen, stage_a
from cascade_app.training.data import SQUARE
from cascade_app.training.export import export
from cascade_app.training.loop import Budget, Trainer
from cascade_app.training.unets import lean

CPU = torch.device("cpu")


@torch.no_grad()
def test_a_deeper_decoder_begins_as_the_one_before():
    torch.manual_seed(0)
    before = stage_a.new_model().eval()
    deeper = sharpen.deepened(before.state_dict(), stage_a.blocks_in(before.state_dict()) + 3).eval()
    assert stage_a.blocks_in(deeper.state_dict()) == stage_a.blocks_in(before.state_dict()) + 3
    pictures = torch.rand(1, 3, 64, 64)
    latents = before.encode(pictures).latents
    assert torch.equal(latents, deeper.encode(pictures).latents)
    was, now = before.decode(latents).sample, deeper.decode(latents).sample
    assert float((was - now).abs().max()) < 0.2 * float(was.std())
    for index in range(5, 8):  # without the new blocks' gates they are the same to the bit
        torch.nn.init.zeros_(deeper.up_blocks[index].gammas)
    assert torch.equal(was, deeper.decode(latents).sample)


def test_blocks_cannot_be_taken_away():
    with pytest.raises(ValueError, match="6 bottleneck blocks"):
        sharpen.deepened(stage_a.new_model(6).state_dict(), 5)


def test_the_lean_decoder_is_the_same_network():
    torch.manual_seed(1)
    plain, quick = stage_a.new_model(), stage_a.new_model()
    for parameter in plain.parameters():
        if parameter.dim() == 1 and len(parameter) == 6:  # the gates
            torch.nn.init.normal_(parameter, std=0.5)
    quick.load_state_dict(plain.state_dict())
    quick = lean(quick)
    assert plain.state_dict().keys() == quick.state_dict().keys()
    latents = torch.randn(2, 4, 16, 24)
    assert torch.allclose(plain.decode(latents).sample, quick.decode(latents).sample, atol=1e-5)


def test_latents_and_pictures_are_cropped_alike(data):
    """Latents that are the picture itself, reduced four times, fit the picture's crop."""
    store = data.maps[SQUARE]
    small = torch.nn.functional.avg_pool2d(torch.from_numpy(np.array(store)).permute(0, 3, 1, 2).float() / 255, 4)
    places = sharpen._places(np.random.default_rng(0), 12, pictures=len(store))
    assert len({place[1:] for place in places}) > 6
    cut = sharpen._latents_at(small.numpy(), places)
    originals = sharpen._pictures_at(data, places)
    assert torch.allclose(torch.nn.functional.avg_pool2d(originals, 4), cut, atol=1e-5)


def test_the_difference_counts_values_and_slopes():
    original = torch.rand(2, 3, 8, 8)
    assert sharpen.difference(original, original) == 0
    brighter = sharpen.difference(original + 0.1, original)  # no slope has changed
    assert float(brighter) == pytest.approx(0.1, abs=1e-6)
    dotted = torch.zeros(2, 3, 8, 8)
    dotted[..., ::2, :] = 0.1
    assert float(sharpen.difference(original + dotted, original)) == pytest.approx(
        0.05 + 0.1 * sharpen.SLOPES, abs=1e-6
    )


def test_a_step_moves_the_decoder_and_nothing_else(data, work, developed, tmp_path):
    part = sharpen.build(data, developed, stage_a.load(work), CPU)
    trainer = Trainer(part, tmp_path / "state.pt", Budget(steps=10))
    before = {key: value.clone() for key, value in part.modules["vqgan"].state_dict().items()}
    numbers = trainer.one_step()
    assert np.isfinite(list(numbers.values())).all()
    moved = {key for key, value in part.modules["vqgan"].state_dict().items() if not torch.equal(value, before[key])}
    assert moved and all(key.startswith(("up_blocks", "out_block")) for key in moved)


def test_what_is_kept_of_batches_is_not_made_again(developed, data):
    class Broken:
        def __getattr__(self, name):
            raise AssertionError("nothing needs to be made")

    again = type(developed)(developed.folder, Broken(), data, own=16, again=5, device=CPU)
    assert np.array_equal(again.own, developed.own)
    assert np.array_equal(again.again, developed.again[:5])
    assert again.own.shape[1:] == (4, 64, 64)


def test_the_sharpened_decoder_is_exported_with_its_blocks(work, tmp_path):
    kept = torch.load(work / "final" / "stage_a.pt", weights_only=True)
    try:
        stage_a.save_final(work, "stage_a", sharpen.deepened(kept, sharpen.BLOCKS).state_dict())
        export(work, tmp_path / "pocket")
    finally:
        stage_a.save_final(work, "stage_a", kept)
    assert PaellaVQModel.from_pretrained(tmp_path / "pocket" / "vqgan").config.bottleneck_blocks == sharpen.BLOCKS
