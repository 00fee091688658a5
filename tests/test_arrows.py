"""Holds the arrows of the house: who may import whom, read off the syntax tree. Lazy imports count like any other."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOUSE = "cascade_app"
MAX_LINES = 400

TOP = {
    "app", "cascade_app.cli", "cascade_app.deploy_command", "cascade_app.plan_command", "cascade_app.explore_command",
    "cascade_app.__main__",
}  # fmt: skip
VOCABULARY = {
    f"cascade_app.{name}"
    for name in (
        "errors", "settings", "request", "events", "catalogue", "plan", "published", "weights", "recognise", "licenses",
        "layouts", "logs", "safety", "stubs", "temporary", "system", "negative", "work", "record", "explore", "grid", "words",
        "wordbook",
    )
}  # fmt: skip

# What each room may import of the house, beside itself and the vocabulary.
ROOMS: Mapping[str, set[str]] = {
    "top": {"ui", "serving", "gallery", "space"},
    "space": {"spacefile"},
    "ui": {"serving", "gallery"},
    "serving": {"runtime", "gallery"},
    "runtime": {"diffusion"},
    "diffusion": set(),
    "gallery": set(),
    "training": {"runtime", "diffusion"},
    "bench": {"serving", "runtime", "diffusion", "gallery", "training"},
    "spacefile": set(),
    "readme": {"spacefile"},
    "vocabulary": set(),
}
# ... and of libraries: the places (rooms, or modules of one) that may import them.
TORCH_ROOMS = {"diffusion", "runtime", "training", "bench"}
LIBRARIES: Mapping[str, set[str]] = {
    **dict.fromkeys(("gradio", "gradio_client"), {"ui", "cascade_app.serving.api", "app"}),
    **dict.fromkeys(("torch", "torchvision", "accelerate", "safetensors"), TORCH_ROOMS),
    **dict.fromkeys(("diffusers", "transformers"), {"cascade_app.runtime.checker", "training", "bench"}),
    "tokenizers": {"cascade_app.runtime.tokenizer", "training"},
    "sqlite3": {"gallery"},
}
OUT_OF_REACH_OF_UI = {"runtime", "diffusion"}


def room_of(module: str) -> str:
    """The room a module of the house belongs to: its folder, or what kind of file it is at the top."""
    if module in TOP:
        return "top"
    if module in VOCABULARY or module == HOUSE:
        return "vocabulary"
    return module.split(".")[1]


def modules(root: Path) -> dict[str, str]:
    """Every module of the house and its source."""
    paths = [*sorted((root / HOUSE).rglob("*.py")), *sorted(root.glob("app.py"))]
    return {_name(path.relative_to(root)): path.read_text(encoding="utf-8") for path in paths}


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(module: str, source: str, known: set[str]) -> set[str]:
    """Names of all modules that `source` imports, wherever in it, `import_module("x")` included."""
    package = module if any(name.startswith(module + ".") for name in known) else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names if f"{base}.{alias.name}" in known}
        elif isinstance(node, ast.Call) and _called(node.func) in ("import_module", "__import__"):
            name = node.args[0] if node.args else None
            found.add(name.value if isinstance(name, ast.Constant) else "<computed>")
    if HOUSE in found and any(name.startswith(HOUSE + ".") for name in found):
        found.discard(HOUSE)  # `from cascade_app import plan` imports plan; the package itself holds only a version
    return found


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def broken_arrows(sources: Mapping[str, str]) -> list[str]:
    """One sentence for each import that points the wrong way."""
    known = set(sources)
    graph = {module: imports(module, source, known) for module, source in sources.items()}
    broken = []
    for module, targets in graph.items():
        for target in sorted(targets):
            broken += [f"{module} imports {target}: {why}" for why in _objections(module, target)]
    for module in graph:
        if room_of(module) == "ui":
            broken += [f"{module} reaches {' -> '.join(path)}" for path in _chains_down(module, graph)]
    return broken


def _objections(module: str, target: str) -> list[str]:
    room = room_of(module)
    library = target.split(".")[0]
    if target == "<computed>":
        return ["nobody can tell what it is"]
    if library in LIBRARIES:
        allowed = LIBRARIES[library]
        return [] if {room, module} & allowed else [f"{library} belongs in {', '.join(sorted(allowed))}"]
    if library == "app":
        return [] if room == "top" else ["app is the top of the house"]
    if library != HOUSE or target == HOUSE:
        return []
    other = room_of(target)
    if other in (room, "vocabulary") or other in ROOMS.get(room, set()):
        return []
    return [f"{room} may import {', '.join(sorted(ROOMS.get(room, set()))) or 'no other room'} and the vocabulary"]


def _chains_down(start: str, graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Chains of imports from a ui module to a room that ui must not reach, through whatever lies between."""
    chains, seen, waiting = [], {start}, [[start]]
    while waiting:
        path = waiting.pop()
        for target in sorted(graph.get(path[-1], set()) & set(graph)):
            if room_of(target) in OUT_OF_REACH_OF_UI:
                chains.append([*path[1:], target])
            elif target not in seen:
                seen.add(target)
                waiting.append([*path, target])
    return chains


def test_every_arrow_points_down():
    broken = broken_arrows(modules(ROOT))
    assert not broken, "\n".join(broken)


def test_every_module_has_a_room():
    strangers = [module for module in modules(ROOT) if room_of(module) not in ROOMS]
    assert not strangers, f"give these a place in DESIGN and in ROOMS: {strangers}"


@pytest.mark.parametrize("path", sorted((ROOT / HOUSE).rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_short(path: Path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{path.name} has {lines} lines; split it"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cascade_app.plan", "import torch"),
        ("cascade_app.plan", "from cascade_app.gallery.png import encode_png"),
        ("cascade_app.errors", "from cascade_app.runtime import generate"),
        ("cascade_app.request", "from . import cli"),
        ("cascade_app.request", "from .diffusion.sampler import sample"),
        ("cascade_app.gallery.store", "from cascade_app.serving import backend"),
        ("cascade_app.gallery.store", "import torch.nn as nn"),
        ("cascade_app.gallery.png", "import gradio"),
        ("cascade_app.diffusion.sampler", "from ..runtime.manager import PipelineManager"),
        ("cascade_app.diffusion.sampler", "import cascade_app.serving.local"),
        ("cascade_app.diffusion.sampler", "def late():\n    from diffusers import UNet2DModel"),
        ("cascade_app.runtime.manager", "from transformers import CLIPTokenizer"),
        ("cascade_app.runtime.loader", "from diffusers import StableCascadeUNet"),
        ("cascade_app.runtime.loader", "import tokenizers"),
        ("cascade_app.runtime.manager", "import sqlite3"),
        ("cascade_app.runtime.manager", "from cascade_app.gallery import store"),
        ("cascade_app.runtime.manager", "from cascade_app.training import loop"),
        ("cascade_app.runtime.manager", "from cascade_app import ui"),
        ("cascade_app.serving.local", "import gradio as gr"),
        ("cascade_app.serving.local", "import torch"),
        ("cascade_app.serving.local", "from cascade_app.ui import form"),
        ("cascade_app.serving.local", "from cascade_app.diffusion import sampler"),
        ("cascade_app.serving.local", "if TYPE_CHECKING:\n    from torch import Tensor"),
        ("cascade_app.ui.blocks", "from cascade_app.runtime.manager import PipelineManager"),
        ("cascade_app.ui.blocks", "import torch"),
        ("cascade_app.ui.blocks", "import app"),
        ("cascade_app.ui.blocks", "import importlib\nimportlib.import_module('torch')"),
        ("cascade_app.ui.blocks", "__import__('sqlite3')"),
        ("cascade_app.ui.blocks", "from importlib import import_module\nname = 'tor' + 'ch'\nimport_module(name)"),
        ("cascade_app.training.loop", "from cascade_app.ui import theme"),
        ("cascade_app.cli", "import torch"),
        ("cascade_app.cli", "import gradio"),
        ("app", "import torch"),
        ("app", "from cascade_app.runtime import manager"),
    ],
)  # fmt: skip
def test_the_checker_sees_a_broken_arrow(module: str, source: str):
    sources = {**dict.fromkeys(modules(ROOT), ""), **_SKELETON, module: source}
    assert broken_arrows(sources), f"{module} may not hold: {source}"


# Modules named above, so that the cases do not depend on which of them are written already.
_SKELETON = dict.fromkeys(
    [f"cascade_app.{room}" for room in ("ui", "serving", "runtime", "diffusion", "gallery", "training")]
    + ["cascade_app.ui.blocks", "cascade_app.ui.form", "cascade_app.ui.theme", "cascade_app.training.loop"]
    + ["cascade_app.serving.api", "cascade_app.serving.local", "cascade_app.serving.backend"]
    + ["cascade_app.runtime.generate", "cascade_app.runtime.manager", "cascade_app.runtime.loader"]
    + ["cascade_app.diffusion.sampler", "cascade_app.gallery.store", "cascade_app.gallery.png", "app"],
    "",
)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("app", "import gradio\nfrom cascade_app.ui.blocks import build_ui\nfrom cascade_app.serving import local"),
        ("cascade_app.cli", "def load():\n    from cascade_app.serving.local import LocalBackend"),
        ("cascade_app.cli", "import app"),
        ("cascade_app.ui.blocks", "import gradio\nfrom cascade_app.serving import backend\nfrom . import form"),
        ("cascade_app.serving.api", "import gradio"),
        ("cascade_app.serving.local", "def load():\n    from cascade_app.runtime.manager import PipelineManager"),
        ("cascade_app.runtime.loader", "import safetensors, torch\nfrom cascade_app.diffusion import sampler"),
        ("cascade_app.diffusion.sampler", "import torch\nfrom cascade_app import errors"),
        ("cascade_app.gallery.store", "import sqlite3\nfrom .png import encode_png\nfrom ..events import Event"),
        ("cascade_app.training.loop", "import diffusers, torch\nfrom cascade_app.runtime.loader import load"),
    ],
)  # fmt: skip
def test_the_checker_lets_good_arrows_pass(module: str, source: str):
    sources = {**_SKELETON, **dict.fromkeys(VOCABULARY | {"cascade_app.cli"}, ""), module: source}
    assert broken_arrows(sources) == []


def test_ui_reaches_the_engine_through_no_one_else():
    sources = {
        **_SKELETON,
        "cascade_app.ui.blocks": "from cascade_app.serving import local",
        "cascade_app.serving.local": "def load():\n    from cascade_app.runtime import manager",
    }
    broken = broken_arrows(sources)
    assert "cascade_app.ui.blocks reaches cascade_app.serving.local -> cascade_app.runtime.manager" in broken


@pytest.mark.parametrize("module", sorted(VOCABULARY | {"cascade_app.cli", "cascade_app.serving.backend"}))
def test_nothing_heavy_is_imported_with_it(module: str):
    heavy = {"torch", "diffusers", "transformers", "gradio", "numpy"}
    code = f"import sys, {module}; print(*({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


PICTURE = """
import sys
import app
from cascade_app.request import GenerationRequest
from cascade_app.serving.local import LocalBackend
from cascade_app.settings import Settings

backend = LocalBackend(Settings(device="cpu"))
backend.load()
request = GenerationRequest(prompt="a (red:1.2) boat", prior_steps=2, decoder_steps=1, width=192, height=192)
assert [event for event in backend.generate(request) if type(event).__name__ == "ImageReady"]
print(*({"diffusers", "transformers", "accelerate", "sympy", "torch._dynamo"} & set(sys.modules)))
"""


def test_the_running_app_imports_no_library_of_models():
    """Each of them would cost the process some hundred megabytes; torch's compiler comes in by surprising ways."""
    done = subprocess.run([sys.executable, "-c", PICTURE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines()[-1:] in ([], [""]), done.stdout
