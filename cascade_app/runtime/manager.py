"""PipelineManager: loads each checkpoint once, keeps prompt embeddings, holds the one lock, and decides where weights go.

It owns weights and their lifetime and decides device and dtype; what a run does with them is `generate.py`. What fits is
decided by `memory.py` and carried out by `offload.py`.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch

from cascade_app.catalogue import CheckpointSpec, find_checkpoint
from cascade_app.diffusion.conditioning import PromptEmbeds, cut_at, encode_weighted
from cascade_app.diffusion.unet import Conditioning, Need, Prepared
from cascade_app.errors import SettingsError
from cascade_app.plan import GenerationPlan, make_plan
from cascade_app.request import GenerationRequest
from cascade_app.runtime.computing import ComputingThread
from cascade_app.runtime.cuda import Graphs
from cascade_app.runtime.lease import Turnstile
from cascade_app.runtime.loader import Checkpoint, load_checkpoint
from cascade_app.runtime.memory import PARTS, Placement, candidates, choose
from cascade_app.runtime.offload import Carrier, Offload
from cascade_app.runtime.precision import choose_precision
from cascade_app.runtime.prepared import PreparedCache
from cascade_app.runtime.previews import SHARE, SKETCH_SHARE, Costs, to_pictures, what_of
from cascade_app.runtime.progress import Pace
from cascade_app.settings import Settings
from cascade_app.system import PartReport, SystemReport
from cascade_app.words import unread

_KEPT_PROMPTS = 256
_HOST_SHARE = 0.6  # of the memory that is free or ours, for weights kept on the host


@dataclass(frozen=True)
class LoadedPart:
    """What placement needs to know of a part: its bytes in 16 bit, and its config."""

    bytes: int
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Lease:
    """A checkpoint for one run: where its weights are, and what to fall back to when memory runs out."""

    offload: Offload
    fallbacks: Iterator[Placement]
    prepared: PreparedCache
    graphs: Graphs

    def step_down(self) -> Placement | None:
        """Change to the next placement that takes clearly less; None if there is none."""
        present = self.offload.placement
        for placement in self.fallbacks:
            if placement.predicted_peak_bytes < 0.9 * present.predicted_peak_bytes:
                self.prepared.shrink(0)
                self.graphs.allow(0)
                self.offload.apply(placement)
                return placement
        return None


class PipelineManager:
    """One a process. All methods may be called from any thread.

    Args:
        carrier: the device's memory; by default that of the device chosen.
        preview_share: of a run's time for previews, where it is not to be the usual one; 0 for none.
    """

    def __init__(
        self, settings: Settings, *, carrier: Carrier | None = None, preview_share: float | None = None
    ) -> None:
        self.device = choose_device(settings)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.precision = choose_precision(settings.dtype, self.device.type)
        self.dtype = self.precision.dtype
        self.turnstile = Turnstile()
        self.computing = ComputingThread("cascade-computing")
        self.carrier = carrier or Carrier(self.device)
        self.text_encoder_calls = self.prompt_hits = 0
        self.load_seconds: dict[str, float] = {}
        self.settings = settings
        self._element_bytes = torch.empty((), dtype=self.dtype).element_size()
        self.prepared = PreparedCache()
        self.graphs = Graphs()
        self.preview_costs = Costs()
        self._preview_share = preview_share
        self._leased = ""
        self._loading = threading.Lock()
        self._checkpoints: OrderedDict[str, Checkpoint] = OrderedDict()
        self._offloads: dict[str, Offload] = {}
        self._embeds: OrderedDict[tuple[str, str], PromptEmbeds] = OrderedDict()
        self._paces: dict[str, Pace] = {}

    def checkpoint(self, spec: CheckpointSpec) -> Checkpoint:
        """The loaded checkpoint, weights on the host, read from disk the first time. Two callers at once read it once.

        Networks that another loaded checkpoint has from the same file are shared. What was used least recently, and is not in
        use, makes room when the host's memory is short.

        Raises:
            CheckpointError: as `load_checkpoint`; what was loaded before stays usable.
        """
        key = str(spec.folder)
        with self._loading:
            if key not in self._checkpoints:
                self._make_room(sum(part.bytes for part in spec.parts.values()) * self._element_bytes // 2)
                begin = time.monotonic()
                self._checkpoints[key] = load_checkpoint(
                    spec, device=torch.device("cpu"), dtype=self.dtype, shared=self._loaded_networks(),
                    packed=self.device.type == "cpu" and self.carrier.limit_bytes is None,
                )  # fmt: skip
                self.load_seconds[key] = time.monotonic() - begin
                self._try_previews(self._checkpoints[key])
            self._checkpoints.move_to_end(key)
            return self._checkpoints[key]

    def put_on_device(self, spec: CheckpointSpec) -> None:
        """A checkpoint's networks go to the device for good, before any run: what ZeroGPU asks for, where only what is on
        "cuda" when the page is launched reaches a lent card quickly."""
        checkpoint = self.checkpoint(spec)
        for name in PARTS:
            getattr(checkpoint, name).to(self.device)

    @torch.no_grad()
    def _try_previews(self, checkpoint: Checkpoint) -> None:
        """Learn what previews at the checkpoint's own size cost, so that the first run shows as many as later ones."""
        if self.device.type != "cpu":
            return
        plan = make_plan(GenerationRequest(prompt="a", seed=0, checkpoint=checkpoint.spec.name), checkpoint.spec)
        shapes = {"prior": plan.prior_shape, "decoder": plan.decoder_shape}
        for stage, preview in {"prior": checkpoint.preview_prior, "decoder": checkpoint.preview_decoder}.items():
            latents = torch.zeros(1, *shapes[stage])
            what = what_of(stage, latents)
            self.preview_costs.try_out(what, lambda preview=preview, latents=latents: to_pictures(preview(latents)))

    def _loaded_networks(self) -> dict[str, torch.nn.Module]:
        """Every loaded network by the key of its source."""
        return {
            part.source.key: getattr(loaded, name)
            for loaded in self._checkpoints.values()
            for name, part in loaded.spec.parts.items()
        }

    def _make_room(self, needed_bytes: int) -> None:
        """Forget checkpoints, least recently used first, until the host has room for `needed_bytes` more."""
        for key in list(self._checkpoints):
            if needed_bytes <= host_bytes() * _HOST_SHARE:
                return
            if key == self._leased:
                continue
            del self._checkpoints[key]
            self.prepared.shrink(0)
            if key in self._offloads:
                self._offloads.pop(key).release()

    def lease(self, checkpoint: Checkpoint, plan: GenerationPlan) -> Lease:
        """Decide, from what is free now, where the weights go for this run. Call with the lock held.

        Raises:
            NothingFits: the placement that was asked for does not fit.
        """
        key = self._leased = str(checkpoint.spec.folder)
        for other, offload in self._offloads.items():
            if other != key:
                offload.release()
        parts = {name: getattr(checkpoint, name) for name in PARTS}
        offload = self._offloads.setdefault(key, Offload(parts, self.carrier))
        facts = {name: part_facts(part) for name, part in parts.items()}
        wanted, _, storage = self.settings.placement.partition("+")
        options = {
            "budget_bytes": self.budget_bytes(),
            "element_bytes": self._element_bytes,
            "fp8": storage == "fp8",
        }
        placement = choose(facts, plan, wanted=wanted, **options)
        spare_bytes = self._spare_bytes(placement)
        self.prepared.shrink(spare_bytes)
        self.graphs.allow(spare_bytes if self.device.type == "cuda" else 0)
        offload.apply(placement)
        fallbacks = candidates(facts, plan, **options)
        for candidate in fallbacks:
            if candidate == placement:
                break
        return Lease(offload, fallbacks, self.prepared, self.graphs)

    def _spare_bytes(self, placement: Placement) -> int:
        """Bytes that may stay between runs where the networks compute: nothing where weights themselves cannot stay."""
        if placement.kind == "resident":
            return placement.budget_bytes - placement.predicted_peak_bytes
        return host_bytes() // 16 if placement.kind == "cpu" else 0

    def prepare(
        self, unet: Any, conditioning: Conditioning, *, ratios: torch.Tensor, size: tuple[int, int], need: Need
    ) -> Prepared:
        """As `diffusion.unet.prepare`, from what earlier runs left where they left it. Call with the lock held."""
        prepared = self.prepared.prepare(unet, conditioning, ratios=ratios, size=size, need=need)
        shape = (len(conditioning.pooled), unet.config.in_channels, *size)
        return self.graphs.quicken(unet, prepared, shape=shape, need=need)

    def budget_bytes(self) -> int:
        """Bytes our weights and activations may take on the device now, what we already hold there included."""
        if self.carrier.limit_bytes is not None:
            return self.carrier.limit_bytes
        free = free_bytes(self.device)
        asked = self.settings.vram_budget_bytes
        return min(free, asked) if asked else free

    @torch.no_grad()
    def prompt_embeds(self, checkpoint: Checkpoint, offload: Offload, prompt: str) -> PromptEmbeds:
        """The embeddings of one prompt (one row), encoded once and shared by both stages. Call with the lock held."""
        key = (checkpoint.spec.parts["text_encoder"].source.key, prompt)
        if key not in self._embeds:
            with offload.turn("text_encoder"):
                self.text_encoder_calls += 1
                self._embeds[key] = encode_weighted(checkpoint.tokenizer, checkpoint.text_encoder, prompt)
            while len(self._embeds) > _KEPT_PROMPTS:
                self._embeds.popitem(last=False)
        else:
            self.prompt_hits += 1
        self._embeds.move_to_end(key)
        return self._embeds[key].to(offload.device)

    def unread(self, plan: GenerationPlan) -> str:
        """What the encoder will not read of the prompts, in a sentence each; "" if nothing, or if it is not loaded."""
        loaded = self._checkpoints.get(str(find_checkpoint(plan.request.checkpoint).folder))
        return unread(plan.words, lambda text: cut_at(loaded.tokenizer, text)) if loaded else ""

    def placement(self) -> Placement | None:
        """That of the last run; None before the first."""
        return self._offloads[self._leased].placement if self._leased in self._offloads else None

    def report(self) -> SystemReport:
        """Where everything is, for the System panel."""
        placement = self.placement()
        where = self._offloads[self._leased].where() if placement else {}
        checkpoints = list(self._checkpoints.items())
        return SystemReport(
            device=device_name(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
            dtype_reason=self.precision.reason,
            device_free_bytes=free_bytes(self.device),
            device_used_bytes=self.carrier.used_bytes,
            host_free_bytes=host_bytes(),
            placement=placement.kind if placement else "",
            reason=placement.reason if placement else "",
            parts=tuple(
                PartReport(
                    checkpoint=loaded.spec.title,
                    name=name,
                    bytes=part.bytes * self._element_bytes // 2,
                    where=where.get(name, "host") if key == self._leased else "host",
                )
                for key, loaded in checkpoints
                for name, part in loaded.spec.parts.items()
            ),
            load_seconds={loaded.spec.title: self.load_seconds[key] for key, loaded in checkpoints},
            prompts_cached=len(self._embeds),
            cache_use={
                "prompts": (self.prompt_hits, self.text_encoder_calls),
                "prepared": (self.prepared.hits, self.prepared.misses),
            },
        )

    def preview_share(self, *, sketch: bool) -> float:
        """Of a run's time that its previews may take."""
        usual = SKETCH_SHARE if sketch else SHARE
        return usual if self._preview_share is None else self._preview_share

    def pace(self, checkpoint: Checkpoint) -> Pace:
        """What runs of this checkpoint have taught about its speed."""
        return self._paces.setdefault(str(checkpoint.spec.folder), Pace())


def part_facts(part: torch.nn.Module) -> LoadedPart:
    """Bytes in 16 bit and config of a loaded part."""
    return LoadedPart(2 * sum(parameter.numel() for parameter in part.parameters()), asdict(part.config))


def host_bytes() -> int:
    """Bytes of the host's memory that are free, or can be freed without swapping."""
    return psutil.virtual_memory().available


def free_bytes(device: torch.device) -> int:
    """Bytes free on a device for us, what torch holds for us included; 0 for the CPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    if device.type == "mps":  # one memory for both: what Metal recommends to use at most; not tried where this was written
        return torch.mps.recommended_max_memory()
    return 0


def device_name(device: torch.device) -> str:
    """What the device calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return "Apple GPU"
    threads = torch.get_num_threads()
    return "CPU, 1 thread" if threads == 1 else f"CPU, {threads} threads"


def choose_device(settings: Settings) -> torch.device:
    """The device asked for, else CUDA, Apple's MPS, or the CPU, in that order."""
    if settings.device != "auto":
        try:
            device = torch.device(settings.device)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise SettingsError(
                f'CASCADE_DEVICE is "{settings.device}", which is not available here; set it to auto or cpu.'
            ) from error
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")
