"""Exploring: every step names its parents, keeps what it should of them, and can be made again from its own record."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from cascade_app import explore
from cascade_app.errors import InvalidRequest
from cascade_app.events import ImageReady
from cascade_app.negative import NOISE_DEPTH_LIMIT, NOISE_LEAVES_LIMIT, Noise, Start, between
from cascade_app.record import Record
from cascade_app.request import GenerationRequest
from cascade_app.work import ACTIONS
from tests.fakes import FakeBackend


def asked(**values) -> GenerationRequest:
    return GenerationRequest.from_values({"prompt": "a boat", "seed": 7, "prior_steps": 4, "decoder_steps": 2, **values})


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def make(backend):
    """The records that an order leads to."""

    def run(order: explore.Order) -> list[Record]:
        return [event.record for event in backend.generate(*order) if isinstance(event, ImageReady)]

    return run


@pytest.fixture
def boat(make) -> Record:
    return make(explore.sketches(asked(), 1))[0]


@pytest.fixture
def ship(make) -> Record:
    return make(explore.sketches(asked(prompt="a ship", seed=99), 1))[0]


STEPS = {
    "develop": lambda boat, ship: explore.develop(boat, decoder_steps=5),
    "vary": lambda boat, ship: explore.vary(boat, "medium", 3, seed=50),
    "vary by noise": lambda boat, ship: explore.vary(boat, 0.2, 3, how="renoise", seed=50, sketch=True),
    "vary with words": lambda boat, ship: explore.vary(boat, "subtle", prompt="a red boat"),
    "words": lambda boat, ship: explore.new_words(boat, "a red boat"),
    "blend": lambda boat, ship: explore.blend(boat, ship, 3),
    "blend words": lambda boat, ship: explore.blend_prompts(boat, "a ship", 3, sketch=True),
    "generate": lambda boat, ship: explore.regenerate(boat),
}


@pytest.mark.parametrize("name", STEPS)
def test_every_child_knows_where_it_comes_from_and_can_be_made_again(make, boat, ship, name):
    order = STEPS[name](boat, ship)
    request, work = order
    parents = (boat.id, ship.id) if name == "blend" else (boat.id,)
    made = make(order)
    assert len(made) == len(work.origins) == request.images
    for child, origin in zip(made, work.origins, strict=True):
        assert (child.action, child.parents, origin.made_by) == (name.split()[0], parents, boat.checkpoint_digest)
        assert child.action in ACTIONS
        read = Record.from_json(child.to_json())
        assert read == child
        [again] = make(explore.regenerate(read))
        assert (again.negative, again.start, again.request) == (child.negative, child.start, child.request)
        assert (again.action, again.parents, again.kind) == ("generate", (child.id,), child.kind)
        [developed] = make(explore.develop(read))
        assert (developed.negative, developed.request, developed.kind) == (child.negative, child.request, "picture")


def test_the_steps_in_between_are_evenly_spaced_and_lead_from_one_to_the_other(boat, ship):
    _, work = explore.blend(boat, ship, 3)
    assert [origin.start for origin in work.origins] == [
        Start(noise=Noise(mix=(Noise(7), Noise(99), amount)), blend_prompt="a ship", blend=amount) for amount in (0.25, 0.5, 0.75)
    ]
    _, work = explore.blend_prompts(boat, "a ship", 4)
    assert [origin.start for origin in work.origins] == [Start(blend_prompt="a ship", blend=n / 4) for n in (1, 2, 3, 4)]
    request, work = explore.blend_prompts(asked(), "a ship", 3)
    assert [origin.start.blend for origin in work.origins] == [0, 0.5, 1] and request.prompt == "a boat"
    assert work.origins[0].parents == () and explore.blend_prompts(replace(asked(), seed=None), "a ship", 1)[0].seed is not None


def test_blends_of_blends_lie_on_one_line_where_they_can(make, boat, ship):
    quarter, half, _ = make(explore.blend(boat, ship, 3))
    request, work = explore.blend(quarter, half, 1)
    assert (request.prompt, work.origins[0].start.blend_prompt) == ("a boat", "a ship")
    assert work.origins[0].start.blend == pytest.approx(0.375)
    assert explore.blend(ship, quarter, 1)[0].prompt == "a ship"
    [third] = make(explore.new_words(boat, "a red boat"))
    request, work = explore.blend(third, replace(half, start=replace(half.start, blend=0.7)), 1)
    assert (request.prompt, work.origins[0].start.blend_prompt, work.origins[0].start.blend) == ("a red boat", "a ship", 0.5)
    same = explore.blend(boat, replace(ship, request=boat.request.with_seed(99)), 1)[1].origins[0].start
    assert (same.blend_prompt, same.blend) == ("", 0.0)


def test_where_one_began_from_a_source_the_negatives_are_blended(make, boat, ship):
    [varied] = make(explore.vary(boat, 0.5, how="renoise", sketch=True))
    [origin] = explore.blend(varied, ship, 1)[1].origins
    assert origin.start.source == between(varied.negative, ship.negative, 0.5)
    assert (origin.start.strength, origin.start.noise) == (explore.BLEND_STRENGTH, varied.start.noise)


def test_between_two_negatives_the_spread_stays(boat, ship):
    assert between(boat.negative, ship.negative, 0.0) == boat.negative
    assert between(boat.negative, ship.negative, 1.0) == ship.negative
    assert between(boat.negative, boat.negative, 0.5) == boat.negative
    sizes = [size(between(boat.negative, ship.negative, amount)) for amount in (0.0, 0.5, 1.0)]
    assert min(sizes[0], sizes[2]) * 0.99 <= sizes[1] <= max(sizes[0], sizes[2]) * 1.01


def size(negative) -> float:
    return sum(value * value for (value,) in struct.iter_unpack("<e", negative.data)) ** 0.5


def test_from_subtle_to_strong(make, boat):
    def turned(amount) -> float:
        return explore.vary(boat, amount, seed=1)[1].origins[0].start.noise.mix[2]

    assert (turned("subtle"), turned("strong")) == explore.SLERP
    assert explore.SLERP[0] < turned("medium") < explore.SLERP[1]
    strengths = [explore.vary(boat, amount, how="renoise")[1].origins[0].start.strength for amount in ("subtle", 1)]
    assert tuple(strengths) == explore.RENOISE
    seeds = [origin.start.noise.mix[1].seed for origin in explore.vary(boat, 0, 3, seed=2**32 - 1)[1].origins]
    assert seeds == [2**32 - 1, 0, 1]
    assert explore.vary(boat, 0)[1] != explore.vary(boat, 0)[1], "a second press makes other children"


def test_new_words_leave_a_blend_behind_and_keep_the_rest(make, boat, ship):
    [half] = make(explore.blend(boat, ship, 1))
    for request, work in (explore.new_words(half, "a tree"), explore.vary(half, 0, prompt="a tree")):
        assert (request.prompt, work.origins[0].start.blend, work.origins[0].start.blend_prompt) == ("a tree", 0.0, "")
    assert explore.new_words(half, "a tree")[1].origins[0].start.noise == half.start.noise
    assert explore.vary(half, 0)[1].origins[0].start.blend == 0.5


def test_many_are_developed_in_as_few_runs_as_can_be(make, boat, ship):
    sheet = make(explore.sketches(asked(seed=20), 16))
    orders = explore.develop_all([*sheet, boat, ship, sheet[0]], decoder_guidance=2)
    assert [len(work.origins) for _, work in orders] == [16, 2, 1]
    assert all(request.decoder_guidance == 2 for request, _ in orders)
    assert explore.develop(boat, decoder_steps="9")[0].decoder_steps == 9


def test_what_cannot_be_is_a_sentence(boat, ship):
    bare = replace(boat, negative=None)
    wide = replace(ship, request=asked(width=320))
    deep, broad = boat, boat
    for depth in range(NOISE_DEPTH_LIMIT):
        deep = replace(deep, start=explore.vary(deep, 0)[1].origins[0].start)
        if depth < 8:
            broad = replace(broad, start=Start(noise=Noise(mix=(explore._noise(broad), explore._noise(broad), 0.5))))
    assert (deep.start.noise.depth, broad.start.noise.leaves) == (NOISE_DEPTH_LIMIT, NOISE_LEAVES_LIMIT)
    for attempt, sentence in (
        (lambda: explore.develop(bare), "holds no negative"),
        (lambda: explore.vary(bare, 0, how="renoise"), "holds no negative"),
        (lambda: explore.develop(boat, sampler="ddim"), "does not change how a negative is developed"),
        (lambda: explore.develop(boat, decoder_steps=0), "Decoder steps is 0"),
        (lambda: explore.vary(boat, 1.5), "must be a number from 0 to 1"),
        (lambda: explore.vary(boat, "wild"), "must be a number from 0 to 1"),
        (lambda: explore.vary(boat, 0, 17), "Images is 17"),
        (lambda: explore.vary(boat, 0, how="magic"), "choose slerp or renoise"),
        (lambda: explore.vary(boat, 0, prompt=""), "Prompt is empty"),
        (lambda: explore.vary(deep, 0), "mixed more than 64 times"),
        (lambda: explore.blend(broad, boat, 1), "mixed from 257 seeds"),
        (lambda: explore.blend(boat, wide, 1), "only negatives of the same size"),
        (lambda: explore.blend_prompts(boat, "", 1), "Prompt is empty"),
        (lambda: explore.sketches(asked(), 0), "Images is 0"),
    ):
        with pytest.raises(InvalidRequest, match=sentence):
            attempt()
