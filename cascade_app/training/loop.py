"""The training loop every part shares: time or step budget, resuming, EMA, learning-rate schedule, progress.

A step draws all its randomness from (seed, step), so a run that is stopped and resumed goes on exactly as if it had
never stopped. State is written atomically, so it may be killed at any moment.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from cascade_app.runtime.precision import fastest
from cascade_app.training.muon import Muon, split_parameters
from cascade_app.training.workdir import add_work_dir_argument

BUCKETS = 40


def pick_device(name: str | None = None) -> torch.device:
    """The device asked for, else the best there is."""
    if name:
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("cpu")


@contextmanager
def autocast(device: torch.device) -> Iterator[None]:
    """bfloat16 where this device is faster in it.

    On a CPU attention is written out: at 36 positions the backward of the fused kernel takes longer than all the rest.
    """
    low = fastest(device.type).dtype != torch.float32
    with (
        torch.autocast(device.type, dtype=torch.bfloat16) if low else nullcontext(),
        sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext(),
    ):
        yield


def reuse_memory() -> None:
    """Ask glibc to keep large blocks instead of returning them: a step's tensors then cost no page faults (5-10%)."""
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)


@dataclass
class Budget:
    """How long a part trains: until `steps`, or until it has spent `minutes` in all its runs together."""

    minutes: float | None = None
    steps: int | None = None

    def progress(self, step: int, seconds: float) -> float:
        """0 at the start, 1 when spent."""
        if self.steps is not None:
            return step / max(1, self.steps)
        return seconds / max(1e-6, (self.minutes or 0.0) * 60)


class BucketWeights:
    """Loss weight 1 / (running loss of the timestep's bucket): every noise level counts the same."""

    def __init__(self) -> None:
        self.running = torch.ones(BUCKETS)
        self.seen = torch.zeros(BUCKETS)

    def __call__(self, losses: Tensor, ratios: Tensor) -> Tensor:
        """(B,) losses at (B,) ratios in [0, 1] -> their weighted mean, a scalar."""
        bucket = (ratios.detach().cpu() * BUCKETS).long().clamp(0, BUCKETS - 1)
        for k, loss in zip(bucket.tolist(), losses.detach().float().cpu().tolist()):
            rate = max(0.02, 1 / (1 + float(self.seen[k])))
            self.running[k] += rate * (loss - float(self.running[k]))
            self.seen[k] += 1
        weights = 1 / self.running[bucket].clamp_min(1e-5)
        return (losses * weights.to(losses.device)).mean()


def sample_ratios(count: int, rng: np.random.Generator, *, at_one: float = 0.08) -> Tensor:
    """Timestep ratios in (0, 1], stratified over the batch; a share of them exactly 1. (count,) float32."""
    ratios = 1 - (np.arange(count) + rng.random(count)) / count
    rng.shuffle(ratios)
    ratios[rng.random(count) < at_one] = 1.0
    return torch.from_numpy(ratios.astype(np.float32))


def high_ratios(count: int, rng: np.random.Generator, *, even: float = 0.3) -> Tensor:
    """Timestep ratios mostly near 1, a quarter of them exactly 1; a share `even` of the rest spread evenly. (count,) float32.

    Measured on the way: below 0.75 the noisy latents themselves show what the picture is, and a prompt (or Stage B's
    condition) changes the error by a few per cent only. What has to be learnt from the condition is learnt above. Once
    that is known (Stage C reads 19 attributes in 20 off its own estimates), outlines are what is left, and they are
    decided in between: a larger share then.
    """
    ratios = sample_ratios(count, rng, at_one=0.25 * min(1.0, (1 - even) / 0.7))
    return torch.where(torch.from_numpy(rng.random(count) < even), ratios, ratios**0.35)


@dataclass
class Part:
    """One trainable part: its modules, what a step's loss is, and how it learns."""

    name: str
    modules: dict[str, nn.Module]
    # (step, rng) -> (scalar loss, numbers to show)
    loss: Callable[[int, np.random.Generator], tuple[Tensor, dict[str, float]]]
    muon_lr: float = 0.02
    adam_lr: float = 2e-3
    slow: dict[str, float] = field(default_factory=dict)  # module name -> factor on its learning rates
    plain: tuple[str, ...] = ("embedding", "mapper", "clf")
    ema_decay: float = 0.998
    weights: BucketWeights | None = None
    # (EMA modules) -> None; writes a sample picture
    sample: Callable[[dict[str, nn.Module]], None] | None = None
    weight_decay: float = 0.01


def _optimisers(part: Part) -> list[torch.optim.Optimizer]:
    matrices, others = [], []
    for name, module in part.modules.items():
        factor = part.slow.get(name, 1.0)
        for target, parameters, lr in zip(
            (matrices, others), split_parameters(module, plain=part.plain), (part.muon_lr, part.adam_lr)
        ):
            if parameters:
                target.append({"params": parameters, "lr": lr * factor, "base": lr * factor})
    result: list[torch.optim.Optimizer] = []
    if matrices:
        result.append(Muon(matrices, weight_decay=part.weight_decay))
    if others:
        result.append(torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0, fused=True))
    return result


def learning_rate(step: int, progress: float, *, warmup: int = 60, cooldown: float = 0.6) -> float:
    """A factor: rises over the first steps, stays, falls to a twentieth over the last 60% of the budget."""
    rise = min(1.0, (step + 1) / warmup)
    fall = min(1.0, max(0.05, (1 - progress) / cooldown))
    return rise * fall


class Trainer:
    """Runs one part until its budget is spent."""

    def __init__(self, part: Part, state_path: Path, budget: Budget, *, seed: int = 0):
        self.part, self.path, self.budget, self.seed = part, state_path, budget, seed
        self.optimisers = _optimisers(part)
        self.ema = {name: copy.deepcopy(module).requires_grad_(False) for name, module in part.modules.items()}
        self.step, self.seconds = 0, 0.0
        if state_path.exists():
            self._load()

    def _load(self) -> None:
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        for name, module in self.part.modules.items():
            module.load_state_dict(state["modules"][name])
            self.ema[name].load_state_dict(state["ema"][name])
        for optimiser, saved in zip(self.optimisers, state["optimisers"]):
            optimiser.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]
        if self.part.weights is not None:
            self.part.weights.running, self.part.weights.seen = state["buckets"]

    def save(self) -> None:
        state = {
            "modules": {name: module.state_dict() for name, module in self.part.modules.items()},
            "ema": {name: module.state_dict() for name, module in self.ema.items()},
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "seconds": self.seconds,
        }
        if self.part.weights is not None:
            state["buckets"] = (self.part.weights.running, self.part.weights.seen)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(self.path.name + ".part")
        torch.save(state, temporary)
        os.replace(temporary, self.path)

    def _update_ema(self) -> None:
        decay = min(self.part.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, module in self.part.modules.items():
                pairs = zip(self.ema[name].state_dict().values(), module.state_dict().values())
                floating, theirs = [], []
                for mine, new in pairs:
                    if mine.is_floating_point():
                        floating.append(mine)
                        theirs.append(new)
                    else:
                        mine.copy_(new)
                torch._foreach_lerp_(floating, theirs, 1 - decay)

    def one_step(self) -> dict[str, float]:
        torch.manual_seed(self.seed * 1_000_003 + self.step)
        rng = np.random.default_rng((self.seed, self.step))
        factor = learning_rate(self.step, self.budget.progress(self.step, self.seconds))
        loss, numbers = self.part.loss(self.step, rng)
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = group["base"] * factor
        loss.backward()
        parameters = [p for optimiser in self.optimisers for group in optimiser.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        if torch.isfinite(norm):
            for optimiser in self.optimisers:
                optimiser.step()
        self.step += 1
        self._update_ema()
        return {"loss": float(loss.detach()), **numbers}

    def run(self, *, save_every_s: float = 90, show_every_s: float = 15, sample_every_s: float = 240) -> None:
        """Train until the budget is spent, then save."""
        reuse_memory()
        last_save = last_show = last_sample = time.monotonic()
        sums: dict[str, float] = {}
        count = 0
        while self.budget.progress(self.step, self.seconds) < 1:
            begin = time.monotonic()
            for name, value in self.one_step().items():
                sums[name] = sums.get(name, 0.0) + value
            count += 1
            now = time.monotonic()
            self.seconds += now - begin
            if now - last_show > show_every_s:
                shown = "  ".join(f"{name} {value / count:.4f}" for name, value in sums.items())
                print(f"{self.part.name}  step {self.step}  {self.seconds / 60:.1f} min  {shown}", flush=True)
                sums, count, last_show = {}, 0, now
            if now - last_save > save_every_s:
                self.save()
                last_save = time.monotonic()
            if self.part.sample and now - last_sample > sample_every_s:
                self.show_sample()
                last_sample = time.monotonic()
        self.save()
        if self.part.sample:
            self.show_sample()

    def show_sample(self) -> None:
        training = {name: module.training for name, module in self.ema.items()}
        with torch.no_grad():
            self.part.sample({name: module.eval() for name, module in self.ema.items()})
        for name, module in self.ema.items():
            module.train(training[name])


def calibrate(module: nn.Module, forward: Callable[[int], None], batches: int = 24) -> None:
    """Set every BatchNorm's statistics to the plain mean over some batches; `forward(i)` runs batch i through it."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    module.train()
    with torch.no_grad():
        for i in range(batches):
            forward(i)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
    module.eval()


def part_parser(description: str | None, *, minutes: float) -> argparse.ArgumentParser:
    """The options every part's command shares."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_work_dir_argument(parser)
    parser.add_argument(
        "--minutes", type=float, default=minutes, help=f"training time of all runs together (default {minutes})"
    )
    parser.add_argument("--steps", type=int, help="train to this step instead of by time")
    parser.add_argument(
        "--init-from", type=Path, help="an exported checkpoint folder to start from when there is no state yet"
    )
    parser.add_argument("--device", help="cpu, cuda ... (default: the best there is)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample-minutes", type=float, default=10, help="minutes between sample pictures")
    parser.add_argument("--pictures", type=int, default=16000, help="how many pictures to draw for training")
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads; two parts side by side with one each beat one with two"
    )
    return parser
