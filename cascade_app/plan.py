"""From a request and a checkpoint's facts to everything a run needs to know, before it runs. Pure but for `draw_seed`.

Sizes. Stage C works on ceil(px / 42.67) cells a side, as published. Stage B's latent is px / 4, rather than the published
int(cells * 10.67): its side must be even (patch size 2), which 10.67 times a cell count often is not, and then the
published arithmetic fails or returns another size than was asked. Stage B stretches Stage C's map over whatever size it is
given, so the output is exactly the size asked for; where the published arithmetic works, both agree.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import InvalidRequest
from cascade_app.negative import Negative
from cascade_app.request import FIELD, SEED_LIMIT, GenerationRequest
from cascade_app.wordbook import Wordbook
from cascade_app.words import Words, draw, expand
from cascade_app.work import WHOLE, Origin, Work

VQGAN_FACTOR = 4  # Stage A: pixels a side for each cell of Stage B's latent


@dataclass(frozen=True)
class GenerationPlan:
    """What will be computed. Shapes are (channels, height, width) of one image; sizes are pixels.

    Attributes:
        request: as it was asked for; `own_request` is what an image is made from and recorded with.
        origins: where each image comes from, one an image.
        words: what each image is told, drawn out of the request's words by its seed.
        prior_steps: Stage C steps each image goes through: fewer from a source, none where a negative is developed.
        sketch: it ends with Stage C.
    """

    request: GenerationRequest
    checkpoint_name: str
    width: int
    height: int
    prior_shape: tuple[int, int, int]
    decoder_shape: tuple[int, int, int]
    origins: tuple[Origin, ...]
    words: tuple[Words, ...]
    prior_steps: tuple[int, ...]
    sketch: bool
    guides_prior: bool
    guides_decoder: bool

    @property
    def seeds(self) -> tuple[int, ...]:
        """Each image's own."""
        return tuple(origin.seed for origin in self.origins)

    @property
    def develops(self) -> bool:
        """Every image brings its negative: Stage C is left out."""
        return self.origins[0].negative is not None

    @property
    def decoder_steps(self) -> int:
        """Stage B steps of each image."""
        return 0 if self.sketch else self.request.decoder_steps

    @property
    def summary(self) -> str:
        """One line for the page: what will come out and how."""
        count = len(self.seeds)
        cells = f"{self.prior_shape[2]} x {self.prior_shape[1]}"
        negatives = f"a {cells} negative" if count == 1 else f"{cells} negatives"
        prior_steps = max(self.prior_steps)
        if self.sketch:
            return f"{_counted(count, 'sketch', 'sketches')} of {negatives}, {_counted(prior_steps, 'step', 'steps')}"
        pictures = f"{_counted(count, 'picture', 'pictures')}, {self.width} x {self.height} px"
        if self.develops:
            return f"{pictures}, developed from {negatives}, {_counted(self.decoder_steps, 'step', 'steps')}"
        return f"{pictures}, from {negatives}, {prior_steps} + {self.decoder_steps} steps"


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def draw_seed(request: GenerationRequest) -> GenerationRequest:
    """`request` with a random seed where it has none."""
    return request if request.seed is not None else request.with_seed(secrets.randbelow(SEED_LIMIT))


def make_plan(
    request: GenerationRequest, spec: CheckpointSpec, work: Work = WHOLE, *, book: Wordbook | None = None
) -> GenerationPlan:
    """Decide shapes, seeds, words and passes. `book` has the wildcards, by default those that come with the app.

    Raises:
        InvalidRequest: the size is not one this checkpoint can make, the words cannot be drawn, the seed is still open, or
            `work` does not fit.
    """
    book = book or Wordbook.of()
    if request.seed is None:
        raise InvalidRequest("The seed is not fixed yet; draw one before planning.", field="seed")
    width = _checked_side("width", request.width, spec)
    height = _checked_side("height", request.height, spec)
    cells = [math.ceil(side / spec.prior_factor) for side in (height, width)]
    prior_shape = (spec.prior_channels, *cells)
    origins = tuple(_drawn(origin, book) for origin in work.origins or _plain_origins(request, work))
    _check_origins(origins, work)
    for negative in _negatives(origins):
        _check_shape(negative, prior_shape, spec, f"{width} x {height} px")
    prior_steps = tuple(steps_from(origin, request.prior_steps) for origin in origins)
    return GenerationPlan(
        request=replace(request, images=len(origins)),
        checkpoint_name=spec.name,
        width=width,
        height=height,
        prior_shape=prior_shape,
        decoder_shape=(spec.decoder_channels, height // VQGAN_FACTOR, width // VQGAN_FACTOR),
        origins=origins,
        words=tuple(expand(request, book, seed=origin.seed) for origin in origins),
        prior_steps=prior_steps,
        sketch=work.sketch,
        guides_prior=request.prior_guidance > 1 and any(prior_steps),
        guides_decoder=request.decoder_guidance > 1 and not work.sketch,
    )


def _plain_origins(request: GenerationRequest, work: Work) -> tuple[Origin, ...]:
    action = "sketch" if work.sketch else "generate"
    return tuple(Origin((request.seed + index) % SEED_LIMIT, action) for index in range(request.images))


def _drawn(origin: Origin, book: Wordbook) -> Origin:
    """The origin with the words it is blended with drawn out."""
    start = origin.start
    if start is None or not start.blend:
        return origin
    text = draw(start.blend_prompt, book, seed=origin.seed, name="negative_prompt")  # as that one it may be empty
    return replace(origin, start=replace(start, blend_prompt=text))


def steps_from(origin: Origin, steps: int) -> int:
    """How many of Stage C's `steps` an image of this origin goes through, the last ones of the schedule."""
    if origin.negative is not None:
        return 0
    start = origin.start
    if start is None or start.source is None or start.strength == 1:
        return steps
    return max(1, round(steps * start.strength)) if start.strength else 0


def _check_origins(origins: tuple[Origin, ...], work: Work) -> None:
    most = int(FIELD["images"].maximum)
    if len(origins) > most:
        raise InvalidRequest(f"{len(origins)} images are too many for one run; the limit is {most}. Take fewer.", field="images")
    bring = sum(origin.negative is not None for origin in origins)
    if 0 < bring < len(origins):
        raise InvalidRequest("Some of these images bring a negative and some do not; develop those in a run of their own.")
    if bring and work.sketch:
        raise InvalidRequest("A sketch makes negatives, and these bring theirs: develop them instead.")


def _negatives(origins: tuple[Origin, ...]) -> Iterator[Negative]:
    for origin in origins:
        for negative in (origin.negative, origin.start and origin.start.source):
            if negative is not None:
                yield negative


def _check_shape(negative: Negative, shape: tuple[int, int, int], spec: CheckpointSpec, size: str) -> None:
    if negative.shape[0] != shape[0]:
        raise InvalidRequest(
            f"This negative has {negative.shape[0]} channels and {spec.title} takes {shape[0]}: another kind of checkpoint "
            "made it. Choose that one."
        )
    if negative.shape != shape:
        raise InvalidRequest(
            f"This negative has {negative.shape[2]} x {negative.shape[1]} cells; {spec.title} at {size} takes "
            f"{shape[2]} x {shape[1]}. Choose the size and checkpoint it was made with.",
            field="width",
        )


def own_request(plan: GenerationPlan, seed: int) -> GenerationRequest:
    """The request that makes one picture of `plan` alone: its own seed and words, one image, the real size."""
    words = plan.words[plan.seeds.index(seed)]  # of the same text, so the same for each image of this seed
    return replace(
        plan.request, prompt=words.prompt, negative_prompt=words.negative_prompt, seed=seed, images=1,
        width=plan.width, height=plan.height,
    )  # fmt: skip


def _checked_side(name: str, side: int | None, spec: CheckpointSpec) -> int:
    if side is None:
        return spec.default_size_px
    label = name.capitalize()
    if not spec.min_size_px <= side <= spec.max_size_px:
        raise InvalidRequest(
            f"{label} is {side} px; {spec.title} makes {spec.min_size_px} to {spec.max_size_px} px. Choose a size between.",
            field=name,
        )
    if side % spec.size_step_px:
        below = side - side % spec.size_step_px
        near = [px for px in (below, below + spec.size_step_px) if spec.min_size_px <= px <= spec.max_size_px]
        raise InvalidRequest(
            f"{label} is {side} px; {spec.title} makes multiples of {spec.size_step_px}. "
            f"Choose {' or '.join(map(str, near))}.",
            field=name,
        )
    return side
