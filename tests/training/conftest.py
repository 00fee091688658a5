"""A work folder with a handful of pictures and an untrained set of finished parts."""

from __future__ import annotations

import pytest
import torch

COUNT = 32  # enough for every aspect ratio to have a picture


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """These networks are too small to gain from a second thread, and lose where others are busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """A work folder in which every part is "finished", untrained."""
    from cascade_app.diffusion.effnet import ImageEncoder
    from cascade_app.diffusion.preview import Previewer
    from cascade_app.training import clip, encoder, stage_a, stage_b, tokenizer, unets

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("train")
    made = tokenizer.load(folder / "tokenizer")
    parts = {
        "stage_a": stage_a.new_model(),
        "encoder": ImageEncoder(),
        "previewer": Previewer(encoder.PREVIEWER_WIDTHS),
        "text_encoder": clip.new_text_encoder(made),
        "text_encoder_c": clip.new_text_encoder(made),
        "image_encoder": clip.new_image_encoder(),
        "stage_b": stage_b.new_model(),
        "stage_c": unets.new_unet(unets.PRIOR),
    }
    for name, module in parts.items():
        stage_a.save_final(folder, name, module.state_dict())
    return folder


@pytest.fixture(scope="session")
def data(work):
    from cascade_app.training.data import Pictures

    return Pictures(work, COUNT)


@pytest.fixture(scope="session")
def developed(work, data, tmp_path_factory):
    """What the untrained stages write: a batch of latents of either kind."""
    from cascade_app.training.darkroom import Darkroom
    from cascade_app.training.developed import Developed
    from cascade_app.training.export import export

    folder = tmp_path_factory.mktemp("whole") / "pocket"
    export(work, folder)
    room = Darkroom(folder)
    return Developed(work / "developed", room, data, own=16, again=16, device=torch.device("cpu"))
