"""A network's own guesses in the place of the truth, in what it is shown while it learns; never in what is asked of it.

In use the noisy latents hold what the network made of them a step before, and what noise dented there it takes for the truth,
step after step: Stage B's picture of one step was nearer to the original than that of ten, by 2 dB. Trained on true latents
alone it never meets a dent. (Scheduled sampling: Bengio et al. 2015; for diffusion Deng et al. 2022, "Markup-to-Image
Diffusion Models with Scheduled Sampling".)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cascade_app.diffusion.schedule import CosineSchedule, add_noise

Rows = Tensor | slice


@dataclass(frozen=True)
class Taken:
    """Which rows of a batch hold a guess, and when it was made.

    Attributes:
        share: of the rows whose ratio is below `below`.
        from_noise: share of those guesses that were made of noise alone; the others at a ratio between their row's own and
            `earliest`.
    """

    share: float
    below: float
    from_noise: float = 0.0
    earliest: float = 1.0


@torch.no_grad()
def with_guesses(
    x0: Tensor,
    ratios: Tensor,
    guess: Callable[[Tensor, Tensor, Rows], Tensor],
    *,
    schedule: CosineSchedule,
    rng: np.random.Generator,
    taken: Taken,
) -> Tensor:
    """`x0` (B, C, h, w), in some rows what `guess(noisy, earlier ratios, rows)` takes it for.

    Args:
        ratios: (B,) of the rows.
    """
    dice = torch.from_numpy(rng.random((3, len(x0))).astype(np.float32)).to(x0.device)
    rows = torch.nonzero((dice[0] < taken.share) & (ratios < taken.below))[:, 0]
    if not len(rows):
        return x0
    between = ratios + (taken.earliest - ratios) * dice[2]
    earlier = torch.where(dice[1] < taken.from_noise, 1.0, between)[rows]
    noisy = add_noise(x0[rows], torch.randn_like(x0[rows]), schedule.alpha_cumprod(earlier))
    return x0.index_copy(0, rows, guess(noisy, earlier, rows).to(x0.dtype))
