"""The engine on a ZeroGPU Space, where a graphics card is lent for the length of one call; elsewhere `LocalBackend` as it is.

ZeroGPU takes over what is on "cuda" when the page is launched, and runs a function that `spaces.GPU` wraps in a forked
worker with a real card, ahead of whoever listens. So the engine is loaded before the page, only requests and events cross
(plain data and pictures, never a tensor), and an error crosses as an event too: of an exception in the worker, ZeroGPU
passes on the name of its class.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import Busy, CascadeError, InvalidRequest, NotReady, RenderFailed
from cascade_app.events import Event, Waiting
from cascade_app.plan import GenerationPlan
from cascade_app.request import GenerationRequest
from cascade_app.serving.backend import BackendStatus
from cascade_app.serving.local import LocalBackend
from cascade_app.settings import Settings
from cascade_app.work import WHOLE, Work

RUNS_AT_ONCE = 4  # each has a card and a worker of its own; a Space has memory and patience for a few

# How long a run may take, from counted operations; the pace and the seconds are guesses on the safe side, never measured.
FLOP_PER_S = 40e12
LOAD_BYTES_PER_S = 3e9
START_S = 8.0  # a fresh worker's first step
STEP_S = 0.1  # starting the kernels of a step, its preview, and passing it on
MARGIN = 1.5
# Operations a parameter: for each cell of the negative in Stage C, for each pixel of the picture in Stages B and A.
_PRIOR_FLOP, _DECODER_FLOP, _VQGAN_FLOP = 2.0, 3.8e-3, 0.12


def is_here(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this process runs on a ZeroGPU Space."""
    return environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def make_backend(settings: Settings) -> LocalBackend:
    """The engine for where this runs; call it before the page is launched."""
    return ZeroGpuBackend(settings) if is_here() else LocalBackend(settings)


@dataclass(frozen=True)
class Refusal:
    """What a run in the worker was ended by."""

    error: CascadeError


class ZeroGpuBackend(LocalBackend):
    """A `Backend` whose runs happen in ZeroGPU's worker. Making one loads its checkpoint, which `start` has nothing to add to."""

    def __init__(self, settings: Settings) -> None:
        import spaces  # before torch: it stands in for CUDA until a card is lent

        # One thread: more of them do not survive the fork, and the card computes.
        super().__init__(replace(settings, threads=settings.threads or 1))
        self._lent = spaces.GPU(duration=self.seconds)(self._in_worker)
        self._load_or_say_why()

    def start(self) -> None:
        """Nothing: all is loaded."""

    def _load(self) -> None:
        super()._load()
        self._status = BackendStatus("loading", "Handing the weights to ZeroGPU.")
        self._manager.put_on_device(self.checkpoint(self._settings.checkpoint))

    def plan(self, request: GenerationRequest, work: Work = WHOLE) -> GenerationPlan:
        served = self._settings.checkpoint
        if request.checkpoint != served:
            raise InvalidRequest(
                f"On ZeroGPU only the checkpoint this Space was started with is at hand; choose {served}.", field="checkpoint"
            )
        return super().plan(request, work)

    def seconds(self, request: GenerationRequest, work: Work = WHOLE) -> int:
        """How long to ask the card for."""
        return gpu_seconds(self.plan(request, work), self.checkpoint(request.checkpoint))

    def generate(self, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
        request = self.plan(request, work).request  # a seed that is open is drawn once, here
        if self._manager is None:
            raise NotReady(self._status.message)
        yield Waiting("Waiting for ZeroGPU to lend a graphics card.")
        try:
            with closing(self._lent(request, work)) as events:
                for event in events:
                    if isinstance(event, Refusal):
                        raise event.error
                    yield event
        except CascadeError:
            raise
        except Exception as error:
            raise _explained(error) from error

    def _in_worker(self, request: GenerationRequest, work: Work) -> Iterator[Event | Refusal]:
        try:
            yield from super().generate(request, work)
        except CascadeError as error:
            yield Refusal(error)


def gpu_seconds(plan: GenerationPlan, spec: CheckpointSpec) -> int:
    """Seconds of a card to ask for, for this plan: enough, and not much more, since shorter calls wait less."""
    images, pixels = len(plan.seeds), plan.width * plan.height
    parameters = {name: part.parameters for name, part in spec.parts.items()}
    _, rows, columns = plan.prior_shape
    passes = {"prior": sum(plan.prior_steps), "decoder": plan.decoder_steps * images}
    flop = passes["prior"] * (1 + plan.guides_prior) * _PRIOR_FLOP * parameters["prior"] * rows * columns
    flop += passes["decoder"] * (1 + plan.guides_decoder) * _DECODER_FLOP * parameters["decoder"] * pixels
    flop += 0 if plan.sketch else images * _VQGAN_FLOP * parameters["vqgan"] * pixels
    load_s = sum(part.bytes for part in spec.parts.values()) / LOAD_BYTES_PER_S
    return round(MARGIN * (START_S + load_s + sum(passes.values()) * STEP_S + flop / FLOP_PER_S))


def _explained(error: Exception) -> Exception:
    """An error of ZeroGPU's own, which it tells as a message for the page, as one of ours."""
    message = getattr(error, "message", None)
    if message is None:
        return error
    sentence = " ".join(str(message).split())
    if getattr(error, "title", "") == "ZeroGPU worker error":
        return RenderFailed(f"ZeroGPU's worker stopped ({sentence}). Try again; fewer images or steps take less of its time.")
    return Busy(sentence)
