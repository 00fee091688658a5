"""What goes where: a pure function of bytes. Carried out by `offload.py`; nothing here has ever seen a GPU.

    resident   every part on the device
    swap       one stage's weights at a time: text encoder, then Stage C, then Stage B and A
    stream     as swap, but a stage that does not fit whole has its blocks brought one after another
    cpu        nothing on the device

The first that fits wins, and before moving to the next one fewer images are computed at once and Stage A decodes in
strips; none of these changes the picture. Storing Stage C in 8 bits does, so it is only done where it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from cascade_app.errors import NothingFits
from cascade_app.plan import GenerationPlan
from cascade_app.runtime.footprint import (
    count_unet,
    text_activation_bytes,
    unet_activation_bytes,
    vqgan_activation_bytes,
)

KINDS = ("resident", "swap", "stream", "cpu")
PARTS = ("text_encoder", "prior", "decoder", "vqgan")
MODEL_BATCHES = (4, 2, 1)  # images computed at once, most first
MIN_STRIP_CELLS = 32  # Stage A's strips are at least so many latent rows high

# What a device needs beside weights and activations: workspaces of the matrix libraries and the allocator's slack.
OVERHEAD_BYTES = 192_000_000
# What a CUDA context takes of a card before the first tensor; not part of the free bytes the driver reports later.
CONTEXT_BYTES = 450_000_000


class PartFacts(Protocol):
    """What is known of a part without its weights: bytes in 16 bit, and its config."""

    bytes: int
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Placement:
    """What was decided, and why.

    Attributes:
        kind: one of KINDS.
        reason: one sentence for the user.
        predicted_peak_bytes, budget_bytes: on the device; 0 for cpu.
        streamed: the stages whose blocks are brought one after another.
        model_batch: images computed at once.
        vqgan_rows: latent rows Stage A decodes at once, 0 for all.
        prefetch: the next stage's weights come while the one before still computes.
        fp8: Stage C's weights are stored in 8 bits.
    """

    kind: str
    reason: str
    predicted_peak_bytes: int
    budget_bytes: int
    streamed: tuple[str, ...] = ()
    model_batch: int = 1
    vqgan_rows: int = 0
    prefetch: bool = False
    fp8: bool = False


def candidates(
    parts: Mapping[str, PartFacts], plan: GenerationPlan, *, budget_bytes: int, element_bytes: int = 2, fp8: bool = False
) -> Iterator[Placement]:
    """All placements that fit, best first; `cpu` is always the last.

    Args:
        parts: for each of PARTS, its facts.
        budget_bytes: what may be used on the device, nothing of ours counted as used; 0 for no device.
        element_bytes: 2 in 16 bits, 4 in float32.
        fp8: store Stage C in 8 bits.
    """
    count = _Count(parts, plan, element_bytes, fp8)
    batches = [batch for batch in MODEL_BATCHES if batch <= max(1, len(plan.seeds))]
    for kind, streamed in (("resident", ()), ("swap", ()), ("stream", ("prior",)), ("stream", ("prior", "decoder"))):
        for batch in batches:
            for rows in count.strips():
                for prefetch in (True, False) if kind == "swap" else (False,):
                    peak = count.peak(kind, streamed, batch, rows, prefetch=prefetch)
                    if peak > budget_bytes:
                        continue
                    placement = Placement(
                        kind, "", peak, budget_bytes, streamed, model_batch=batch, vqgan_rows=rows, prefetch=prefetch, fp8=fp8
                    )
                    yield replace(placement, reason=_reason(placement, count.peak("resident", (), batches[0], 0), plan))
    reason = (
        f"Even block by block a picture of {plan.width} x {plan.height} px takes {shown(count.least())}, more than the "
        f"{shown(budget_bytes)} there are on the device: everything runs on the CPU."
        if budget_bytes
        else "There is no GPU to use: everything runs on the CPU."
    )
    yield Placement("cpu", reason, 0, budget_bytes, model_batch=batches[0])


def choose(
    parts: Mapping[str, PartFacts],
    plan: GenerationPlan,
    *,
    budget_bytes: int,
    element_bytes: int = 2,
    wanted: str = "auto",
    fp8: bool = False,
    cpu_allowed: bool = True,
) -> Placement:
    """The best placement that fits, or the best of the kind that was asked for.

    Raises:
        NothingFits: not even one block at a time, and the CPU is not allowed; or not the kind that was wanted.
    """
    fitting = list(candidates(parts, plan, budget_bytes=budget_bytes, element_bytes=element_bytes, fp8=fp8))
    for placement in fitting:
        if wanted in ("auto", placement.kind) and (cpu_allowed or placement.kind != "cpu"):
            return placement
    least = _Count(parts, plan, element_bytes, fp8).least()
    if wanted != "auto":
        raise NothingFits(
            f'Placement "{wanted}" does not fit into {shown(budget_bytes)} at {plan.width} x {plan.height} px; '
            "set CASCADE_PLACEMENT to auto, or choose a smaller size."
        )
    raise NothingFits(
        f"Nothing fits: {plan.width} x {plan.height} px needs {shown(least)} even block by block, and there are "
        f"{shown(budget_bytes)}. Choose a smaller size or checkpoint, or a card with more memory."
    )


def part_devices(placement: Placement) -> dict[str, str]:
    """Where each part's weights live between its turns: "device", "host" or "host, by blocks"."""
    where = {"resident": "device", "cpu": "cpu"}.get(placement.kind, "host, whole while it runs")
    return {part: "host, by blocks while it runs" if part in placement.streamed else where for part in PARTS}


def shown(number: int) -> str:
    """Bytes as a user reads them: "7.2 GB"."""
    return f"{number / 1e9:.1f} GB" if number >= 5e7 else f"{number / 1e6:.1f} MB"


class _Count:
    """Peaks of one plan under each placement."""

    def __init__(self, parts: Mapping[str, PartFacts], plan: GenerationPlan, element_bytes: int, fp8: bool) -> None:
        self.plan = plan
        self.element_bytes = element_bytes
        self.config = {name: parts[name].config for name in PARTS}
        self.weights = {name: parts[name].bytes * element_bytes // 2 for name in PARTS}
        self.counts = {name: count_unet(self.config[name]) for name in ("prior", "decoder")}
        if fp8:
            # Blocks lie in 8 bits and the one that computes is widened; what is outside the blocks stays as it is.
            blocks = self.weights["prior"] - self.counts["prior"].outside_blocks * element_bytes
            self.weights["prior"] -= blocks - blocks // element_bytes - self._window("prior", blocks=1)

    def strips(self) -> Iterator[int]:
        """Heights of Stage A's strips in latent rows: all (0), then half, a quarter ..."""
        yield 0
        rows = self.plan.decoder_shape[1] // 2
        while rows >= MIN_STRIP_CELLS:
            yield rows
            rows //= 2

    def peak(self, kind: str, streamed: tuple[str, ...], batch: int, rows: int, *, prefetch: bool = False) -> int:
        """Bytes at the most expensive moment of the run."""
        work = self._activations(batch, rows)
        if kind == "resident":
            return OVERHEAD_BYTES + sum(self.weights.values()) + max(work.values())
        stages = {
            "text_encoder": self.weights["text_encoder"],
            "prior": self._stage("prior", streamed),
            "decoder": self._stage("decoder", streamed),
            "vqgan": self.weights["vqgan"],
        }
        following = [*list(stages.values())[1:], 0] if prefetch else [0] * len(stages)
        return OVERHEAD_BYTES + max(
            own + work[name] + then for (name, own), then in zip(stages.items(), following, strict=True)
        )

    def least(self) -> int:
        """The smallest peak there is."""
        *_, rows = self.strips()
        return self.peak("stream", ("prior", "decoder"), 1, rows)

    def _stage(self, name: str, streamed: tuple[str, ...]) -> int:
        count = self.counts[name]
        if name in streamed:
            return count.outside_blocks * self.element_bytes + self._window(name, blocks=3)
        # Mappers that only the preparation reads come and leave before the rest comes.
        return max(self.weights[name] - count.only_to_prepare * self.element_bytes, count.only_to_prepare * self.element_bytes)

    def _window(self, name: str, *, blocks: int) -> int:
        return blocks * self.counts[name].largest_block * self.element_bytes

    def _activations(self, batch: int, rows: int) -> dict[str, int]:
        plan, element = self.plan, self.element_bytes
        _, height, width = plan.decoder_shape
        halo = self.config["vqgan"].get("bottleneck_blocks", 12) + 3  # as in diffusion/stages.py
        strip = min(height, rows + 2 * halo) if rows else height
        images = 1 if rows else batch
        pictures = batch * 3 * plan.width * plan.height * 4
        return {
            "text_encoder": 2 * text_activation_bytes(self.config["text_encoder"], element_bytes=element),
            "prior": unet_activation_bytes(
                self.config["prior"], plan.prior_shape[1:], rows=batch * (1 + plan.guides_prior), element_bytes=element
            ),
            "decoder": unet_activation_bytes(
                self.config["decoder"], (height, width), rows=batch * (1 + plan.guides_decoder), element_bytes=element
            ),
            "vqgan": pictures
            + vqgan_activation_bytes(self.config["vqgan"], (strip, width), images=images, element_bytes=element),
        }


def _reason(placement: Placement, resident_bytes: int, plan: GenerationPlan) -> str:
    what = f"{plan.width} x {plan.height} px"
    room = f"{shown(placement.budget_bytes)} are free"
    notes = []
    if placement.model_batch < min(len(plan.seeds), MODEL_BATCHES[0]):
        notes.append("one image at a time" if placement.model_batch == 1 else f"{placement.model_batch} images at a time")
    if placement.vqgan_rows:
        notes.append("Stage A in strips")
    if placement.fp8:
        notes.append("Stage C stored in 8 bits")
    note = f" ({', '.join(notes)})" if notes else ""
    if placement.kind == "resident":
        return f"Everything stays on the device{note}: {what} takes {shown(placement.predicted_peak_bytes)}, {room}."
    short = f"keeping everything there would take {shown(resident_bytes)}, {room}"
    if placement.kind == "swap":
        return f"Each stage visits the device in turn{note}: {short}."
    stages = " and ".join({"prior": "Stage C", "decoder": "Stage B"}[stage] for stage in placement.streamed)
    passes = "passes" if len(placement.streamed) == 1 else "pass"
    return f"{stages} {passes} through the device block by block{note}: {short}."
