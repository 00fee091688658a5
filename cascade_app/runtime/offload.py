"""Carries a Placement out: brings weights to the device before they are used and lets them go after.

Weights never change, so letting go is dropping the device's copy: the host's stays. Our own walk tells each module before it
uses it (`diffusion/unet.py`), which is what block-by-block streaming needs; accelerate's and diffusers' hooks move whole
modules when their forward runs, and the walk never runs a UNet's forward.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cascade_app.diffusion.stages import Residency
from cascade_app.diffusion.unet import all_blocks, only_to_prepare
from cascade_app.runtime.memory import PARTS, Placement

_FP8, _FP8_MAX = torch.float8_e4m3fn, 448.0


class Carrier:
    """The device's memory, as far as weights are concerned: what is there, and how many bytes.

    On CUDA, `prefetch` copies beside the computing, on a stream of its own, from pinned memory. That branch follows torch's
    documentation of streams and has not run yet where this was written.

    Args:
        device: where networks compute.
        limit_bytes: pretend that the device has no more; more raises torch.OutOfMemoryError, as a device would. With a CPU
            device this simulates a card, copies included.
    """

    def __init__(self, device: torch.device, *, limit_bytes: int | None = None) -> None:
        self.device = device
        self.limit_bytes = limit_bytes
        self.used_bytes = self.peak_bytes = self.moved_bytes = 0
        self._host: dict[Tensor, Tensor] = {}  # parameter or buffer whose data is on the device -> the host's data
        self._sizes: dict[Tensor, int] = {}  # the same -> its bytes on the device
        self._scales: dict[Tensor, Tensor] = {}  # those stored in 8 bits -> what to multiply them with
        self._arrival: torch.cuda.Event | None = None

    @cached_property
    def _stream(self) -> torch.cuda.Stream | None:
        """Made when first needed: on ZeroGPU there is no CUDA yet where a carrier is made."""
        return torch.cuda.Stream(self.device) if self.device.type == "cuda" else None

    def bring(self, tensors: Iterable[Tensor], *, narrow: bool = False) -> None:
        """The tensors are on the device when this returns (on CUDA: before what is launched next).

        Args:
            narrow: store matrices and kernels in 8 bits, each with one scale; `widened` makes them usable.
        """
        tensors = list(tensors)
        for tensor in tensors:
            self._copy(tensor, narrow=narrow)
        if self._arrival is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(self._arrival)
            self._arrival = None
        if self._stream is not None:
            for tensor in tensors:
                # Its memory may belong to the copying stream: not to be used again before the computing is done with it.
                tensor.data.record_stream(torch.cuda.current_stream(self.device))

    def prefetch(self, tensors: Iterable[Tensor]) -> None:
        """Begin to bring the tensors."""
        if self._stream is None:
            self.bring(tensors)
            return
        with torch.cuda.stream(self._stream):
            for tensor in tensors:
                self._copy(tensor, narrow=False)
            self._arrival = self._stream.record_event()

    def let_go(self, tensors: Iterable[Tensor]) -> None:
        """Drop the device's copies."""
        for tensor in tensors:
            host = self._host.pop(tensor, None)
            if host is not None:
                self.used_bytes -= self._sizes.pop(tensor)
                self._scales.pop(tensor, None)
                tensor.data = host

    def holds(self, tensors: Iterable[Tensor]) -> bool:
        """Whether any of them is on the device."""
        return any(self._is_there(tensor) for tensor in tensors)

    def _is_there(self, tensor: Tensor) -> bool:
        """Brought here, or put there for good (`PipelineManager.put_on_device`)."""
        return tensor in self._host or tensor.device.type == self.device.type != "cpu"

    @contextmanager
    def widened(self, tensors: Iterable[Tensor]) -> Iterator[None]:
        """Those stored in 8 bits have their own dtype inside."""
        narrow = [(tensor, tensor.data) for tensor in tensors if tensor in self._scales]
        for tensor, data in narrow:
            tensor.data = data.to(self._host[tensor].dtype) * self._scales[tensor]
        try:
            yield
        finally:
            for tensor, data in narrow:
                tensor.data = data

    def pin(self, tensors: Iterable[Tensor]) -> None:
        """Make the host's copies fast to move (CUDA only); once is enough."""
        if self._stream is None:
            return
        for tensor in tensors:
            if not self._is_there(tensor) and not tensor.data.is_pinned():
                tensor.data = tensor.data.pin_memory()

    def _copy(self, tensor: Tensor, *, narrow: bool) -> None:
        if self._is_there(tensor):
            return
        host = data = tensor.data
        narrow = narrow and host.dim() > 1 and host.is_floating_point()
        if narrow:
            scale = host.abs().max().clamp(min=1e-12) / _FP8_MAX
            data = (host / scale).to(_FP8)
        if self.limit_bytes is not None and self.used_bytes + _bytes(data) > self.limit_bytes:
            raise torch.OutOfMemoryError(f"{self.used_bytes + _bytes(data)} bytes asked for, {self.limit_bytes} there")
        tensor.data = data.to(self.device, non_blocking=True, copy=True)
        if narrow:
            self._scales[tensor] = scale.to(self.device)
        self._host[tensor] = host
        self._sizes[tensor] = _bytes(data)
        self.used_bytes += _bytes(data)
        self.moved_bytes += _bytes(data)
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)


class Offload:
    """One checkpoint's parts under one placement.

    Args:
        parts: PARTS -> module, weights on the host.
        carrier: shared by all checkpoints of a device.
    """

    def __init__(self, parts: Mapping[str, nn.Module], carrier: Carrier) -> None:
        self._parts = parts
        self._carrier = carrier
        self.placement = Placement("cpu", "", 0, 0)

    @property
    def device(self) -> torch.device:
        """Where the networks compute under the present placement."""
        return torch.device("cpu") if self.placement.kind == "cpu" else self._carrier.device

    def apply(self, placement: Placement) -> None:
        """Change to `placement`; what has no place under it leaves the device."""
        if (placement.kind, placement.fp8) != (self.placement.kind, self.placement.fp8):
            self.release()
        self.placement = placement
        if placement.kind in ("swap", "stream"):
            for part in self._parts.values():
                self._carrier.pin(_tensors(part))

    def release(self) -> None:
        """Nothing of this checkpoint stays on the device."""
        for part in self._parts.values():
            self._carrier.let_go(_tensors(part))
        if self._carrier.device.type == "cuda":
            torch.cuda.empty_cache()

    def where(self) -> dict[str, str]:
        """Where each part's weights are now: "device" (some or all) or "host"."""
        return {name: "device" if self._carrier.holds(_tensors(part)) else "host" for name, part in self._parts.items()}

    @contextmanager
    def turn(self, name: str) -> Iterator[Residency]:
        """It is the turn of part `name`: yields the residency it runs under. Text encoder and Stage A are then there."""
        if self.placement.kind == "cpu":
            yield Residency()
            return
        if self.placement.kind != "resident":
            self._make_room(name)
        residency = self._residency(name)
        try:
            yield residency
        finally:
            if isinstance(residency, _Whole):
                residency.close()
            if name in self.placement.streamed:
                self._carrier.let_go(_tensors(self._parts[name]))

    def _residency(self, name: str) -> Residency:
        part, placement = self._parts[name], self.placement
        if name in placement.streamed:
            return _Streamed(self._carrier)
        narrow = placement.fp8 and name == "prior"
        if name in ("prior", "decoder") and (narrow or placement.kind == "swap" or placement.kind == "stream"):
            return _Whole(self._carrier, part, following=self._following(name), narrow=narrow)
        self._carrier.bring(_tensors(part))
        self._carrier.prefetch(self._following(name))
        return Residency()

    def _make_room(self, name: str) -> None:
        for other, part in self._parts.items():
            if other != name:
                self._carrier.let_go(_tensors(part))

    def _following(self, name: str) -> list[Tensor]:
        """What to prefetch while `name` runs: the next part, without what only its preparation reads."""
        place = PARTS.index(name) + 1
        if not self.placement.prefetch or place == len(PARTS) or (self.placement.fp8 and PARTS[place] == "prior"):
            return []
        part = self._parts[PARTS[place]]
        leaving = _only_to_prepare(part) if PARTS[place] in ("prior", "decoder") else set()
        return [tensor for tensor in _tensors(part) if tensor not in leaving]


class _Whole(Residency):
    """First what the preparation reads, then all the rest: the mappers and the body are never there together."""

    def __init__(self, carrier: Carrier, unet: nn.Module, *, following: list[Tensor], narrow: bool) -> None:
        self._carrier, self._unet, self._following = carrier, unet, following
        self._narrow = {tensor for block in all_blocks(unet) for tensor in _tensors(block)} if narrow else set()
        self._preparing = True
        self._wide = ExitStack()

    def need(self, module: Any) -> None:
        if self._preparing:
            self._bring(_tensors(module))
        if self._narrow:
            if not self._preparing:  # the preparation uses several modules at once, the walk one
                self._wide.close()
            self._wide.enter_context(self._carrier.widened(_tensors(module)))

    def prepared(self) -> None:
        self._wide.close()
        leaving = _only_to_prepare(self._unet)
        self._carrier.let_go(leaving)
        self._bring(tensor for tensor in _tensors(self._unet) if tensor not in leaving)
        self._preparing = False
        self._carrier.prefetch(self._following)

    def _bring(self, tensors: Iterable[Tensor]) -> None:
        tensors = list(tensors)
        self._carrier.bring((tensor for tensor in tensors if tensor in self._narrow), narrow=True)
        self._carrier.bring(tensor for tensor in tensors if tensor not in self._narrow)

    def close(self) -> None:
        """The block that was widened last is narrow again."""
        self._wide.close()


class _Streamed(Residency):
    """Only the module in use and the one after it; the order is learned as the walk goes."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._after: dict[Any, Any] = {}
        self._there: list[Any] = []

    def need(self, module: Any) -> None:
        if self._there:
            self._after[self._there[0]] = module
        following = self._after.get(module, module)
        wanted = [module, following] if following is not module else [module]
        staying = {tensor for each in wanted for tensor in _tensors(each)}
        for other in self._there:
            self._carrier.let_go(tensor for tensor in _tensors(other) if tensor not in staying)
        self._carrier.bring(_tensors(module))
        self._carrier.prefetch(_tensors(following))
        self._there = wanted

    def prepared(self) -> None:
        for module in self._there:
            self._carrier.let_go(_tensors(module))
        self._there = []
        self._after = {}


def _only_to_prepare(unet: nn.Module) -> set[Tensor]:
    return {tensor for module in only_to_prepare(unet) for tensor in _tensors(module)}


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
