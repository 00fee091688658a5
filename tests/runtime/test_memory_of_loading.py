"""What loading costs in memory: the bytes of the files, mapped, and next to nothing beside them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cascade_app.runtime.loader import build_empty
from tests.formats import wide_cascade, write_folder

ROOT = Path(__file__).resolve().parent.parent.parent
WIDE_PRIOR = {"conditioning_dim": 1024, "block_out_channels": [1024, 1024], "num_attention_heads": [16, 16],
              "down_num_layers_per_block": [1, 3], "up_num_layers_per_block": [3, 1], "clip_seq": 2}  # fmt: skip

LOAD = """
import json, sys, torch
from pathlib import Path
from cascade_app.catalogue import find_checkpoint
from cascade_app.runtime.loader import load_checkpoint

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024

def load(folder, **options):
    return load_checkpoint(find_checkpoint(folder), device=torch.device("cpu"), dtype=torch.bfloat16, **options)

small, large, other = sys.argv[1:]
load(small)                                   # what the libraries allocate once
Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
before = status("VmRSS")
loaded = load(large)
first = status("VmHWM") - before
begin = status("VmRSS")
shared = {part.source.key: getattr(loaded, name) for name, part in loaded.spec.parts.items()}
second = load(other, shared=shared)
print(json.dumps({"first": first, "second": status("VmRSS") - begin,
    "is_shared": second.prior is loaded.prior, "dtype": str(next(second.prior.parameters()).dtype)}))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A small cascade; the same with a Stage C of a quarter of a gigabyte; and one that shares that Stage C with it."""
    base = tmp_path_factory.mktemp("memory")
    cascade = wide_cascade()
    small = write_folder(base / "small", cascade, dtype=torch.bfloat16)
    large = write_folder(base / "large", cascade, dtype=torch.bfloat16, names=("text_encoder", "decoder", "vqgan"))
    config = {**json.loads((small / "prior" / "config.json").read_text()), **WIDE_PRIOR}
    shapes = {key: tensor.shape for key, tensor in build_empty("prior", config).state_dict().items()}
    tensors = {key: torch.full(shape, 0.01, dtype=torch.bfloat16) for key, shape in shapes.items()}
    (large / "prior").mkdir()
    (large / "prior" / "config.json").write_text(json.dumps(config))
    save_file(tensors, large / "prior" / "diffusion_pytorch_model.safetensors")
    other = write_folder(base / "other", cascade, dtype=torch.bfloat16, names=("text_encoder", "decoder", "vqgan"))
    (other / "prior").symlink_to(large / "prior")
    return small, large, other


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads its memory from Linux's /proc")
def test_loading_maps_16_bit_files_and_copies_nothing(folders):
    files = folders[1].rglob("*.safetensors")
    bytes_touched = sum(path.stat().st_size for path in files)
    assert bytes_touched > 200e6
    command = [sys.executable, "-c", LOAD, *map(str, folders)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    measured = json.loads(done.stdout.splitlines()[-1])
    print(f"{bytes_touched / 1e6:.0f} MB of files; loading took {measured['first'] / 1e6:.0f} MB at its peak")
    assert measured["first"] <= 1.1 * bytes_touched
    assert measured["second"] < 0.1 * bytes_touched, "a second checkpoint adds only its own parts"
    assert measured["is_shared"]
    assert measured["dtype"] == "torch.bfloat16"
