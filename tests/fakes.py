"""A stand-in engine for tests of the page: real events, drawn pictures, no networks.

`python -m tests.fakes PORT` serves the page with it.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from cascade_app import published
from cascade_app.catalogue import CheckpointSpec, find_checkpoint
from cascade_app.errors import CascadeError
from cascade_app.events import Event, Finished, ImageReady, Notice, RunStarted, StageStarted, StepDone, Waiting
from cascade_app.licenses import accepted
from cascade_app.negative import Negative, Noise, Start
from cascade_app.plan import GenerationPlan, make_plan, own_request
from cascade_app.record import Record
from cascade_app.record import record_of as kept
from cascade_app.request import GenerationRequest
from cascade_app.serving.backend import BackendStatus
from cascade_app.system import PartReport, SystemReport
from cascade_app.words import heard, unread
from cascade_app.work import WHOLE, Origin, Work

SPEC = CheckpointSpec(
    name="pocket", title="Pocket", folder=Path("pocket"), license="Apache-2.0",
    default_size_px=256, min_size_px=128, max_size_px=512, size_step_px=32,
)  # fmt: skip

REPORT = SystemReport(
    device="Drawing Board 3000", dtype="bfloat16", device_free_bytes=9_400_000_000, device_used_bytes=6_500_000,
    host_free_bytes=21_300_000_000, placement="resident", reason="All of it fits on the device, with 9.2 GB to spare.",
    parts=(
        PartReport("Pocket", "text_encoder", 5_300_000, "device"), PartReport("Pocket", "prior", 9_900_000, "device"),
        PartReport("Pocket", "decoder", 6_100_000, "host"), PartReport("Pocket", "vqgan", 900_000, "host"),
    ),
    load_seconds={"Pocket": 0.42}, prompts_cached=3, cache_use={"prompts": (5, 3), "prepared": (2, 4)},
)  # fmt: skip


@dataclass
class FakeBackend:
    """Follows the Backend protocol. Raises `failure` where one is set; takes `step_s` for each step."""

    step_s: float = 0.0
    failure: Exception | None = None
    state: BackendStatus = BackendStatus("ready", "Ready.")
    spec: CheckpointSpec = SPEC
    lock: threading.Lock = field(default_factory=threading.Lock)
    steps_done: int = 0
    closed_early: int = 0
    licenses: set[str] = field(default_factory=set)  # those that were accepted
    notice: str = ""  # said in the middle of each run
    digest: str = "drawn by hand"
    prior_steps_done: int = 0

    def status(self) -> BackendStatus:
        return self.state

    def checkpoint(self, name: str) -> CheckpointSpec:
        if isinstance(self.failure, CascadeError):
            raise self.failure
        return self._spec(name)

    def _spec(self, name: str) -> CheckpointSpec:
        return find_checkpoint(name) if name in published.CHECKPOINTS else self.spec

    def system(self) -> SystemReport | None:
        if self.state.state == "loading":
            return None
        return REPORT

    def license_accepted(self, name: str) -> bool:
        return name in self.licenses or accepted(name, by_setting="", data_dir=Path("nowhere"))

    def accept_license(self, name: str) -> None:
        if self.failure:
            raise self.failure
        self.licenses.add(name)

    def plan(self, request: GenerationRequest, work: Work = WHOLE) -> GenerationPlan:
        seeded = request if request.seed is not None else request.with_seed(random.randrange(2**32))
        return make_plan(seeded, self._spec(request.checkpoint), work)

    def unread(self, plan: GenerationPlan) -> str:
        """Reads 60 characters."""
        return unread(plan.words, lambda text: 60 if len(heard(text)) > 60 else None)

    def generate(self, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
        while not self.lock.acquire(timeout=0.2):
            yield Waiting("One run is ahead of yours.")
        try:
            yield from self._run(request, work)
        except GeneratorExit:
            self.closed_early += 1
            raise
        finally:
            self.lock.release()

    def _run(self, request: GenerationRequest, work: Work) -> Iterator[Event]:
        plan = self.plan(request, work)
        yield RunStarted(plan)
        if self.failure:
            raise self.failure
        if self.notice:
            yield Notice(self.notice)
        if {origin.made_by for origin in plan.origins} - {"", self.digest}:
            yield Notice("What this is made from was made with other weights.")
        everyone = tuple(range(len(plan.seeds)))
        yield StageStarted("conditioning", 1, everyone)
        negatives = [origin.negative or negative_of(plan, origin) for origin in plan.origins]
        pictures = [picture_of(plan, negative) for negative in negatives]
        stages = [("prior", max(plan.prior_steps), 24, 6), ("decoder", plan.decoder_steps, 5, 0)]
        total, done, start = sum(steps for _, steps, *_ in stages) + (not plan.sketch), 0, time.monotonic()
        for stage, steps, high, low in stages:
            if not steps:
                continue
            yield StageStarted(stage, steps, everyone)
            for step in range(1, steps + 1):
                time.sleep(self.step_s)
                done += 1
                self.steps_done += 1
                self.prior_steps_done += stage == "prior"
                elapsed = time.monotonic() - start
                yield StepDone(
                    stage, step, steps, done / total, elapsed, elapsed * (total - done) / done,
                    _blurred(pictures, high + (low - high) * step / steps), everyone,
                )  # fmt: skip
        if plan.sketch:
            pictures = [picture.resize((plan.width // 4, plan.height // 4)) for picture in _blurred(pictures, 6)]
        else:
            yield StageStarted("vqgan", 1, everyone)
            yield StepDone("vqgan", 1, 1, 1.0, time.monotonic() - start, 0.0, (), everyone)
        for index, picture in enumerate(pictures):
            made = kept(plan, index, negative=negatives[index], checkpoint_digest=self.digest)
            yield ImageReady(index, plan.seeds[index], picture, plan, made)
        total_s = time.monotonic() - start
        yield Finished(
            {"conditioning": 0.0, "prior": total_s / 2, "decoder": total_s / 2, "vqgan": 0.0, "total": total_s}
        )


def _blurred(pictures: list[Image.Image], radius: float) -> tuple[Image.Image, ...]:
    return tuple(one.filter(ImageFilter.GaussianBlur(radius)) for one in pictures)


def record_of(plan: GenerationPlan, seed: int) -> Record:
    """The record of one picture of a run."""
    index = plan.seeds.index(seed)
    return kept(plan, index, negative=negative_of(plan, plan.origins[index]))


def negative_of(plan: GenerationPlan, origin: Origin) -> Negative:
    """What Stage C would make: the same for the same words, noise and start, near to what it is a little changed from."""
    request, start = own_request(plan, origin.seed), origin.start or Start()
    words = (1 - start.blend) * _drawn(request.prompt, plan) + start.blend * _drawn(start.blend_prompt, plan)
    settings = _drawn(f"{request.negative_prompt} {request.prior_steps} {request.prior_guidance} {request.sampler}", plan)
    latents = 0.8 * _noise(start.noise or Noise(origin.seed), plan) + 0.5 * words + 0.3 * settings
    if start.source is not None:
        source = np.frombuffer(start.source.data, "<f2").reshape(start.source.shape)
        latents = (1 - start.strength) * source + start.strength * latents
    return Negative.checked(latents.astype("<f2").tobytes(), plan.prior_shape)


def _noise(noise: Noise, plan: GenerationPlan) -> np.ndarray:
    if noise.mix is None:
        return _drawn(str(noise.seed), plan)
    first, second, amount = noise.mix
    turn = amount * np.pi / 2
    return np.cos(turn) * _noise(first, plan) + np.sin(turn) * _noise(second, plan)


def _drawn(key: str, plan: GenerationPlan) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(key.encode())).standard_normal(plan.prior_shape)


def picture_of(plan: GenerationPlan, negative: Negative) -> Image.Image:
    """A picture that the negative and the decoder's settings decide."""
    request = plan.request
    picture = draw(plan.width, plan.height, zlib.crc32(negative.data))
    strength = 0.8 + 0.4 * (zlib.crc32(f"{request.decoder_steps} {request.decoder_guidance}".encode()) % 64) / 64
    return ImageEnhance.Color(picture).enhance(strength)


def draw(width: int, height: int, seed: int) -> Image.Image:
    """A small landscape that differs from seed to seed."""
    dice = random.Random(seed)
    picture = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(picture)
    top, low = [[dice.randrange(20, 120) for _ in range(3)], [dice.randrange(120, 255), dice.randrange(90, 180), 120]]
    for y in range(height):
        pen.line([(0, y), (width, y)], tuple(int(a + (b - a) * y / height) for a, b in zip(top, low, strict=True)))
    across, radius = dice.randrange(width), height // dice.randrange(8, 14)
    pen.ellipse([across - radius, height * 0.4 - radius, across + radius, height * 0.4 + radius], (255, 214, 150))
    for layer in range(3):
        shade = (50 - 14 * layer, 48 - 12 * layer, 80 - 20 * layer)
        peaks = [(x, height * (0.6 + 0.13 * layer) - dice.randrange(height // 6)) for x in range(0, width + 60, 60)]
        pen.polygon([(0, height), *peaks, (width, height)], shade)
    return picture


def serve(port: int) -> None:
    """The page on `port`, until interrupted."""
    from cascade_app.gallery.gallery import Gallery
    from cascade_app.serving.pictures import app_options
    from cascade_app.ui.blocks import build_ui, launch_options

    gallery = Gallery(Path(tempfile.mkdtemp(prefix="cascade-fake-")))
    gallery.open()
    blocks = build_ui(FakeBackend(step_s=0.12), gallery, checkpoint="pocket")
    blocks.launch(server_name="127.0.0.1", server_port=port, app_kwargs=app_options(gallery), **launch_options())


if __name__ == "__main__":
    serve(int(sys.argv[1]) if len(sys.argv) > 1 else 7861)
