"""Grids: what is typed becomes cells, cells that Stage C makes the same of share it, and mistakes are sentences."""

from __future__ import annotations

import pytest

from cascade_app.errors import InvalidRequest
from cascade_app.grid import AXES, CELLS_LIMIT, Axis, Grid
from cascade_app.request import FIELD, GenerationRequest


def asked(**values) -> GenerationRequest:
    return GenerationRequest.from_values({"prompt": "a cat in a red hat", "seed": 7, "images": 4, **values})


def grid(across: tuple[str, str], down: tuple[str, str] | None = None, **values) -> Grid:
    return Grid.of(asked(**values), Axis.read(*across), Axis.read(*down) if down else None)


def test_cells_come_row_by_row_and_are_pictures_of_their_own():
    made = grid(("decoder_steps", "5, 10, 20"), ("seed", "1, 2"))
    assert [(cell.column, cell.row) for cell in made.cells] == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    assert [(cell.request.decoder_steps, cell.request.seed) for cell in made.cells] == [
        (5, 1), (10, 1), (20, 1), (5, 2), (10, 2), (20, 2),
    ]  # fmt: skip
    assert all(cell.request.images == 1 for cell in made.cells)
    assert (made.columns, made.rows, made.across.labels) == (3, 2, ("Decoder steps 5", "Decoder steps 10", "Decoder steps 20"))
    assert made.summary == "3 x 2 pictures from 2 negatives"


def test_words_replace_the_first_of_them():
    made = grid(("prompt", 'cat, dog, "old, grey owl"'), ("prompt", "red, blue"))
    assert [cell.request.prompt for cell in made.cells] == [
        "a cat in a red hat", "a dog in a red hat", "a old, grey owl in a red hat",
        "a cat in a blue hat", "a dog in a blue hat", "a old, grey owl in a blue hat",
    ]  # fmt: skip
    assert made.across.labels == ("cat", "dog", "old, grey owl")


@pytest.mark.parametrize("name", AXES)
def test_only_what_stage_c_does_not_read_shares_a_negative(name):
    text = {"prompt": "cat, dog", "sampler": "ddpm, ddim"}.get(name, "1, 2")
    made = grid((name, text))
    assert (made.rows, len(made.cells)) == (1, 2)
    assert len(made.groups) == (1 if name.startswith("decoder") else 2)
    assert [cell.request for group in made.groups for cell in group] == [cell.request for cell in made.cells]


def test_values_are_read_as_their_setting_reads_them():
    assert Axis.read("seed", " 3,1 ,, 3\n2").values == (3, 1, 2)
    assert Axis.read("prior_guidance", "2.50, 4").values == (2.5, 4.0)
    assert Axis.read("prior_guidance", "2.50, 4").labels == ("Prior guidance 2.5", "Prior guidance 4")


def test_an_open_seed_is_drawn_once_for_all_cells():
    seeds = {cell.request.seed for cell in grid(("prior_steps", "1, 2, 3"), seed=None).cells}
    assert len(seeds) == 1 and None not in seeds


@pytest.mark.parametrize(
    ("attempt", "sentence"),
    [
        (lambda: Axis.read("width", "1, 2"), "cannot be an axis"),
        (lambda: Axis.read("seed", " , "), "has no values yet"),
        (lambda: Axis.read("seed", "1, x"), "Seed must be a whole number"),
        (lambda: Axis.read("decoder_steps", "0"), "Decoder steps is"),
        (lambda: Axis.read("sampler", "ddpm, euler"), "choose one of ddpm, ddim"),
        (lambda: Axis.read("prompt", None), "a line of text"),
        (lambda: Axis.read("prompt", "x" * 3000), "a line of text"),
        (lambda: grid(("seed", "1, 2"), ("seed", "3, 4")), "Both axes are Seed"),
        (lambda: grid(("prompt", "horse, dog")), '"horse" is not in the prompt'),
        (lambda: grid(("seed", ",".join(map(str, range(13)))), ("prior_steps", "1, 2, 3, 4, 5")), "13 x 5 is 65 pictures"),
        (lambda: grid(("prompt", f'cat, {"x" * 1990}')), "Prompt has 2,005 characters"),
    ],
)
def test_what_cannot_be_is_a_sentence(attempt, sentence):
    with pytest.raises(InvalidRequest, match=sentence):
        attempt()
    assert CELLS_LIMIT == 64 and set(AXES) <= set(FIELD)
