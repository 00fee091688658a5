"""torch imported without what the meta device needs, which is there as soon as it is wanted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cascade_app.runtime import torch_start

ROOT = Path(__file__).resolve().parent.parent.parent
START = "from cascade_app.runtime import torch_start\ntorch_start.prepare()\ntorch_start.prepare()\nimport sys, torch\n"
LATER = "torch._meta_registrations"
THERE = f"print(callable(vars(sys.modules[{LATER!r}]).get('activate_meta')))\n"
CONVOLVE = "print(tuple(torch.nn.Conv2d(3, 4, 3, device='meta')(torch.ones(1, 3, 5, 5, device='meta')).shape))\n"


def run(code: str, **environment: str) -> list[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env={**plain, **environment}
    )
    return done.stdout.splitlines()


def test_torch_computes_and_the_module_waits():
    assert run(START + "print(torch.nn.Linear(2, 3)(torch.ones(1, 2)).shape == (1, 3))\n" + THERE) == ["True", "False"]
    assert run("import sys, torch\n" + THERE) == ["True"]


def test_noise_is_drawn_as_ever():
    draw = "draw = lambda: torch.randn(3, generator=torch.Generator().manual_seed(7)).tolist()\nprint(draw())\n"
    plain = run("import torch\n" + draw)
    again = "import torch._dynamo\nprint(draw(), isinstance(torch.Generator(), torch.Generator))\n"
    assert run(START + draw + again + THERE) == [*plain, f"{plain[0]} True", "True"]


def test_a_torch_that_does_it_otherwise_is_imported_whole():
    other = "torch_start._let_generators_be_made = lambda: [].missing\nimport sys, torch\n"
    assert run(START.replace("import sys, torch\n", other) + THERE) == ["True"]


def test_whoever_looks_through_all_modules_does_not_wake_it():
    look = "import inspect\n[getattr(m, '__file__', 0) for m in list(sys.modules.values())]\ninspect.getmodule(torch.nn.Linear)\n"
    assert run(START + look + THERE) == ["False"]


@pytest.mark.parametrize(
    "want",
    [
        f"import {LATER} as later\nlater.MODE_SUM\n",
        f"from {LATER} import meta_embedding_bag\n",
        "import torch._dynamo\n",
        "torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2))\n",
        "import accelerate\n",
    ],
)
def test_it_is_there_once_wanted(want: str):
    assert run(START + want + THERE + CONVOLVE) == ["True", "(1, 4, 3, 3)"]


def test_a_library_imported_first_finds_torch_whole():
    code = START.replace("import sys, torch", "import sys, accelerate, torch")
    assert run(code + THERE + CONVOLVE) == ["True", "(1, 4, 3, 3)"]


def test_two_threads_that_want_it_at_once_make_it_once():
    code = (
        "from concurrent.futures import ThreadPoolExecutor\nimport torch._meta_registrations as later\n"
        "with ThreadPoolExecutor(4) as pool:\n    print(set(pool.map(lambda _: later.MODE_MAX, range(4))))\n"
    )
    assert run(START + code) == ["{2}"]


def test_a_name_it_does_not_have_is_said():
    code = "import torch._meta_registrations as later\ntry:\n    later.nothing\nexcept AttributeError as error:\n"
    assert run(START + code + "    print(error)\n") == [f"module {LATER!r} has no attribute 'nothing'"]


def test_nothing_is_done_once_torch_is_there():
    code = "import sys, torch\nbefore = list(sys.meta_path)\nfrom cascade_app.runtime import torch_start\ntorch_start.prepare()\n"
    assert run(code + "import os\nprint(sys.meta_path == before, 'GOMP_SPINCOUNT' in os.environ)") == ["True False"]


def test_threads_wait_as_the_environment_says():
    code = START + "import os\nprint(os.environ['OMP_WAIT_POLICY'], os.environ['GOMP_SPINCOUNT'])"
    assert run(code) == [f"PASSIVE {torch_start.SPINS}"]
    assert run(code, OMP_WAIT_POLICY="ACTIVE", GOMP_SPINCOUNT="7") == ["ACTIVE 7"]


def test_where_cores_are_shared_threads_sleep_at_once():
    code = START.replace("prepare()", "prepare(shared=True)") + "import os\nprint(os.environ['OMP_WAIT_POLICY'])\n"
    assert run(code + "print(os.environ.get('GOMP_SPINCOUNT'))") == ["PASSIVE", "None"]
    assert run(code + "print(os.environ.get('GOMP_SPINCOUNT'))", GOMP_SPINCOUNT="7") == ["PASSIVE", "7"]
