"""Every placement on a card of every size: predicted and measured peak, seconds a picture, and whether the picture is the same.

    python -m cascade_app.bench.memory --checkpoint stable-cascade --caps 80,24,16,12,8,6 --size 1024x1024

Writes full-size random weights once (bf16, in --folder), then runs each cap in a process of its own with a hard limit on what
torch may take of the card. Without CUDA, --simulate runs the same on the CPU with a simulated card, for a small checkpoint and
caps in bytes with a unit (--caps 1GB,300MB). Prints one line of JSON last.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from cascade_app.bench.weights import write_random_checkpoint
from cascade_app.catalogue import find_checkpoint
from cascade_app.errors import CascadeError
from cascade_app.events import ImageReady
from cascade_app.request import GenerationRequest
from cascade_app.runtime.generate import generate
from cascade_app.runtime.manager import PipelineManager
from cascade_app.runtime.memory import CONTEXT_BYTES
from cascade_app.runtime.offload import Carrier
from cascade_app.settings import Settings, parse_bytes


def main() -> None:
    arguments = _arguments()
    if arguments.one is not None:
        print(json.dumps(measure(arguments)), flush=True)
        return
    if not arguments.simulate and not torch.cuda.is_available():
        sys.exit("bench.memory needs a CUDA device, or --simulate with a small checkpoint.")
    caps = [cap if not cap.replace(".", "").isdigit() else f"{cap}GB" for cap in arguments.caps.split(",")]
    folder = arguments.checkpoint
    if arguments.folder is not None:
        folder = str(write_random_checkpoint(find_checkpoint(arguments.checkpoint), arguments.folder))
    rows = [_in_a_process(arguments, folder, cap) for cap in caps]
    pictures = {row["sha256"] for row in rows if "sha256" in row}
    device = "simulated on the CPU" if arguments.simulate else torch.cuda.get_device_name()
    result = {"benchmark": "memory", "device": device, "checkpoint": arguments.checkpoint, "size": arguments.size,
              "same_picture": len(pictures) == 1, "caps": rows}  # fmt: skip
    print(json.dumps(result))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """One cap, in this process: what was decided, predicted and measured."""
    cap_bytes = parse_bytes("--one", arguments.one)
    width, height = arguments.size.split("x")
    values = {"prompt": "a white lighthouse on a rock", "seed": 7, "width": width, "height": height,
              "images": arguments.images, "checkpoint": arguments.checkpoint}  # fmt: skip
    manager = _manager(arguments.simulate, cap_bytes)
    seconds, pictures = [], b""
    try:
        for _ in range(arguments.runs + 1):  # the first loads
            begin = time.monotonic()
            events = generate(manager, GenerationRequest.from_values(values))
            pictures = b"".join(event.image.tobytes() for event in events if isinstance(event, ImageReady))
            seconds.append(time.monotonic() - begin)
    except CascadeError as error:
        return {"cap_bytes": cap_bytes, "error": error.message}
    report, lease = manager.report(), manager.placement()
    on_card = not arguments.simulate
    return {
        "cap_bytes": cap_bytes,
        "placement": report.placement,
        "predicted_peak_bytes": lease.predicted_peak_bytes,
        "measured_peak_bytes": torch.cuda.max_memory_allocated() if on_card else None,
        "measured_reserved_bytes": torch.cuda.max_memory_reserved() if on_card else None,
        "weights_peak_bytes": manager.carrier.peak_bytes,
        "seconds_a_picture": statistics.median(seconds[1:]) / arguments.images,
        "sha256": hashlib.sha256(pictures).hexdigest(),
    }


def _manager(simulate: bool, cap_bytes: int) -> PipelineManager:
    if simulate:
        carrier = Carrier(torch.device("cpu"), limit_bytes=max(0, cap_bytes - CONTEXT_BYTES))
        return PipelineManager(Settings(device="cpu", dtype="float32"), carrier=carrier)
    budget_bytes = cap_bytes - CONTEXT_BYTES
    total_bytes = torch.cuda.get_device_properties(0).total_memory
    if budget_bytes < total_bytes:
        torch.cuda.set_per_process_memory_fraction(budget_bytes / total_bytes)
    return PipelineManager(Settings(device="cuda", vram_budget_bytes=min(budget_bytes, total_bytes)))


def _in_a_process(arguments: argparse.Namespace, folder: str, cap: str) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "cascade_app.bench.memory", "--one", cap, "--checkpoint", folder, "--size", arguments.size,
        "--images", str(arguments.images), "--runs", str(arguments.runs), *(["--simulate"] if arguments.simulate else []),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no output"]
        return {"cap": cap, "error": f"exit code {done.returncode}: {last[0]}"}
    row = {"cap": cap, **json.loads(done.stdout.strip().splitlines()[-1])}
    print(f"{cap}: {row}", file=sys.stderr, flush=True)
    return row


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="stable-cascade")
    parser.add_argument("--caps", default="80,24,16,12,8,6", help="sizes of cards, in GB without a unit")
    parser.add_argument("--size", default="1024x1024")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3, help="timed runs a cap, after one that loads")
    parser.add_argument("--folder", type=Path, help="write random weights of the checkpoint's shapes here, and use them")
    parser.add_argument("--simulate", action="store_true", help="a simulated card on the CPU")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
