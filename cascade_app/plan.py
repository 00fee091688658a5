"""From a request and a checkpoint's facts to everything a run needs to know, before it runs. Pure but for `draw_seed`.

Sizes. Stage C works on ceil(px / 42.67) cells a side, as published. Stage B's latent is px / 4, rather than the published
int(cells * 10.67): its side must be even (patch size 2), which 10.67 times a cell count often is not, and then the
published arithmetic fails or returns another size than was asked. Stage B stretches Stage C's map over whatever size it is
given, so the output is exactly the size asked for; where the published arithmetic works, both agree.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, replace

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import InvalidRequest
from cascade_app.request import SEED_LIMIT, GenerationRequest

VQGAN_FACTOR = 4  # Stage A: pixels a side for each cell of Stage B's latent


@dataclass(frozen=True)
class GenerationPlan:
    """What will be computed. Shapes are (channels, height, width) of one image; sizes are pixels."""

    request: GenerationRequest
    checkpoint_name: str
    width: int
    height: int
    prior_shape: tuple[int, int, int]
    decoder_shape: tuple[int, int, int]
    seeds: tuple[int, ...]
    guides_prior: bool
    guides_decoder: bool

    @property
    def summary(self) -> str:
        """One line for the page: what will come out and how."""
        request = self.request
        one = len(self.seeds) == 1
        count = "1 picture" if one else f"{len(self.seeds)} pictures"
        cells = f"{self.prior_shape[2]} x {self.prior_shape[1]}"
        negatives = f"a {cells} negative" if one else f"{cells} negatives"
        return (
            f"{count}, {self.width} x {self.height} px, from {negatives}, "
            f"{request.prior_steps} + {request.decoder_steps} steps"
        )


def draw_seed(request: GenerationRequest) -> GenerationRequest:
    """`request` with a random seed where it has none."""
    return request if request.seed is not None else request.with_seed(secrets.randbelow(SEED_LIMIT))


def make_plan(request: GenerationRequest, spec: CheckpointSpec) -> GenerationPlan:
    """Decide shapes, seeds and passes.

    Raises:
        InvalidRequest: the size is not one this checkpoint can make, or the seed is still open.
    """
    if request.seed is None:
        raise InvalidRequest("The seed is not fixed yet; draw one before planning.", field="seed")
    width = _checked_side("width", request.width, spec)
    height = _checked_side("height", request.height, spec)
    cells = [math.ceil(side / spec.prior_factor) for side in (height, width)]
    return GenerationPlan(
        request=request,
        checkpoint_name=spec.name,
        width=width,
        height=height,
        prior_shape=(spec.prior_channels, *cells),
        decoder_shape=(spec.decoder_channels, height // VQGAN_FACTOR, width // VQGAN_FACTOR),
        seeds=tuple((request.seed + index) % SEED_LIMIT for index in range(request.images)),
        guides_prior=request.prior_guidance > 1,
        guides_decoder=request.decoder_guidance > 1,
    )


def own_request(plan: GenerationPlan, seed: int) -> GenerationRequest:
    """The request that makes one picture of `plan` alone: its own seed, one image, the real size."""
    return replace(plan.request, seed=seed, images=1, width=plan.width, height=plan.height)


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
