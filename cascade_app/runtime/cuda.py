"""What only a CUDA device needs: graphs of the walk, and a host that stays close behind the card.

A step of the walk is thousands of small operations, and launching them one by one takes longer than many of them do. A graph
launches them at once. It is captured when the same network is asked for the same shapes a second time, so that the first
picture never waits for it, and used only after it has given what the walk gives. Whatever goes wrong, the walk goes on without.

Owns when to capture, what to keep and when a graph may no longer be used; the walk knows only that there may be a quicker way
(`Prepared.replay`). The policy is tested without a card; what captures is `capture_walk`, whose tests are marked gpu.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from cascade_app.diffusion.stages import Residency
from cascade_app.diffusion.unet import Need, Prepared, predict

KEPT_GRAPHS = 4  # Stage C and B, with guidance and without: each holds a step's working memory
SPARE_BYTES = 3_000_000_000  # of the card, beyond what the run itself needs, before any is captured
_WARM_UPS = 3  # as torch asks for before a capture
_NEAR = 0.02  # relative; libraries may choose other kernels inside a graph

Replay = Callable[[Tensor, int, Prepared], Tensor]  # as `predict`, for one network and shape
Step = TypeVar("Step")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Graph:
    unet: weakref.ref[Any]
    weights: int  # where they were, in brief: a graph reads them there
    replay: Replay | None  # None after a failure: not to be tried again


class Graphs:
    """One an engine. Call with the engine's lock held.

    Args:
        capture: makes the graph; raises, or returns None, where it cannot or where it gives something else than the walk.
    """

    def __init__(self, capture: Callable[[Any, Prepared, tuple[int, ...]], Replay | None] | None = None) -> None:
        self._capture = capture or capture_walk
        self._graphs: dict[Hashable, _Graph] = {}  # used least recently first
        self._seen: set[Hashable] = set()
        self.allowed = False

    def allow(self, spare_bytes: int) -> None:
        """So many bytes of the card are spare in the run that begins; with too few, all graphs are let go."""
        self.allowed = spare_bytes >= SPARE_BYTES
        if not self.allowed:
            self._graphs.clear()

    def quicken(self, unet: Any, prepared: Prepared, *, shape: tuple[int, ...], need: Need) -> Prepared:
        """`prepared` with a graph where there is one by now; `shape` is (rows, channels, height, width) of the latents."""
        if not self.allowed or getattr(need, "__func__", None) is not Residency.need:  # weights come and go
            return prepared
        key, weights = (id(unet), shape, _layout(prepared)), _whereabouts(unet)
        graph = self._graphs.pop(key, None)
        if graph is None or graph.unet() is not unet or graph.weights != weights:
            if key not in self._seen:
                self._seen.add(key)
                return prepared
            graph = _Graph(weakref.ref(unet), weights, self._try(unet, prepared, shape))
        self._graphs[key] = graph
        while len(self._graphs) > KEPT_GRAPHS:
            del self._graphs[next(iter(self._graphs))]
        if graph.replay is None:
            return prepared
        replay = graph.replay
        return replace(prepared, replay=lambda latents, step: replay(latents, step, prepared))

    def _try(self, unet: Any, prepared: Prepared, shape: tuple[int, ...]) -> Replay | None:
        try:
            replay = self._capture(unet, prepared, shape)
        except Exception as error:  # of CUDA's many; none is worth a picture
            _log.warning("No CUDA graph for %s: %s. The walk goes on without.", shape, error)
            return None
        if replay is None:
            _log.warning("The CUDA graph for %s gives something else than the walk, and is not used.", shape)
        return replay


def _whereabouts(unet: Any) -> int:
    return hash(tuple(parameter.data_ptr() for parameter in unet.parameters()))


def _layout(prepared: Prepared) -> Hashable:
    return tuple((tuple(one.shape), one.dtype) for one in _fixed(prepared))


def _fixed(prepared: Prepared) -> list[Tensor]:
    """What a run's steps have in common."""
    keys_values = list(prepared.keys_values.values())
    return keys_values if prepared.maps is None else [*keys_values, prepared.maps]


def _of_step(prepared: Prepared, step: int) -> list[Tensor]:
    """The timestep blocks' factors and offsets."""
    return [one for table in prepared.tables.values() for one in table[step]]


@torch.no_grad()
def capture_walk(unet: Any, prepared: Prepared, shape: tuple[int, ...]) -> Replay | None:
    """A graph of `predict` on the current device, or None if it does not give what `predict` gives.

    The graph reads buffers of its own: the latents, one step's tables, and what the run's steps have in common; they are filled
    before each replay.
    """
    device = next(unet.parameters()).device
    latents = torch.randn(shape, device=device)
    own = Prepared(
        {block: keys_values.clone() for block, keys_values in prepared.keys_values.items()},
        {block: (tuple(one.clone() for one in table[0]),) for block, table in prepared.tables.items()},
        None if prepared.maps is None else prepared.maps.clone(),
    )
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            predict(unet, latents, 0, own)
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        output = predict(unet, latents, 0, own)
    tables, filled = _of_step(own, 0), [weakref.ref(prepared)]

    def replay(given: Tensor, step: int, run: Prepared) -> Tensor:
        if filled[0]() is not run:
            torch._foreach_copy_(_fixed(own), _fixed(run))
            filled[0] = weakref.ref(run)
        torch._foreach_copy_(tables, _of_step(run, step))
        latents.copy_(given)
        graph.replay()
        return output.clone()

    steps = {0, len(next(iter(prepared.tables.values()))) - 1}
    return replay if all(_agrees(replay, unet, prepared, shape, step) for step in steps) else None


def _agrees(replay: Replay, unet: Any, prepared: Prepared, shape: tuple[int, ...], step: int) -> bool:
    given = torch.randn(shape, device=next(unet.parameters()).device)
    walked = predict(unet, given, step, prepared)
    return bool((replay(given, step, prepared) - walked).norm() <= _NEAR * walked.norm())


def close_behind(steps: Iterable[Step], device: torch.device) -> Iterator[Step]:
    """The steps as they come, the host never more than one ahead of the card.

    Without it a host that waits for nothing has launched a whole stage in a moment: progress would be a fiction, and cancelling
    would wait for all of it. The card still always has the next step to go on with.
    """
    if device.type != "cuda":
        yield from steps
        return
    before: torch.cuda.Event | None = None
    for step in steps:
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(device))
        if before is not None:
            before.synchronize()
        before = done
        yield step
