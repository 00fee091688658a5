"""The memory benchmark on a simulated card: every cap in a process of its own, one JSON line last, the same picture."""

from __future__ import annotations

import json
import subprocess
import sys

from cascade_app.bench.weights import write_random_checkpoint
from cascade_app.catalogue import find_checkpoint
from cascade_app.runtime.memory import CONTEXT_BYTES, OVERHEAD_BYTES
from tests.small import write_checkpoint


def test_caps_from_plenty_to_nothing(tmp_path):
    folder = write_checkpoint(tmp_path)
    least = (CONTEXT_BYTES + OVERHEAD_BYTES) // 10**6 - 1
    command = [
        sys.executable, "-m", "cascade_app.bench.memory", "--checkpoint", str(folder), "--caps", f"1GB,{least}MB",
        "--size", "64x64", "--simulate", "--runs", "1",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert result["same_picture"] is True
    assert [row["placement"] for row in result["caps"]] == ["resident", "cpu"]
    assert all(row["weights_peak_bytes"] <= max(0, row["cap_bytes"] - CONTEXT_BYTES) for row in result["caps"])


def test_random_weights_have_the_checkpoints_shapes(tmp_path):
    source = find_checkpoint(str(write_checkpoint(tmp_path / "source")))
    copy = find_checkpoint(str(write_random_checkpoint(source, tmp_path / "random")))
    assert {name: part.parameters for name, part in copy.parts.items()} == {
        name: part.parameters for name, part in source.parts.items()
    }
