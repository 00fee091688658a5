"""What is settled just before torch is imported: how its threads wait, and what of it is left for when it is wanted.

torch registers with itself, in Python, how 800 operators behave on the meta device, which only tracing, compiling and runs on
that device ask for. That is a quarter of the time that importing it takes, and 18 MB.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_LATER = "torch._meta_registrations"
# Who builds on torch finds it whole, and so does whoever traces: torch.compile and torch.export begin by importing the last.
_WHOLE = ("accelerate", "diffusers", "transformers", "torch._dynamo")
# Turns of GNU OpenMP's loop, some 80 us, before a thread that waits falls asleep. A picture of the pocket checkpoint is thousands
# of shorter waits: asleep at once, it takes 1.7 times as long. But who spins keeps others from the core, and those may be what is
# waited for: beside one busy process on two cores it takes 2.1 times as long as asleep, beside Chromium showing it 1.7 times, and
# with OpenMP's own number 2.5 times as long again beside three busy processes (bench.waiting).
SPINS = "3000"


def prepare(*, shared: bool = False) -> None:
    """To be called before torch is imported; without effect after that. What the environment says already, stands.

    Args:
        shared: others want the cores while pictures are made, such as the browser that shows them.
    """
    if "torch" in sys.modules:
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # GNU OpenMP goes by the next where there is one
    if not shared:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds the one module where Python does, but leaves it to be executed later.

    It stays among the finders: while one is taken away, an import in another thread might miss its neighbour.
    """

    def __init__(self) -> None:
        self._whole = False
        self._later: _Later | None = None

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in _WHOLE:
            self._whole = True
            if self._later:
                self._later.execute()
        elif name == _LATER and not self._whole:
            spec = PathFinder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = self._later = _Later(spec.loader)
            return spec
        return None


class _Later(Loader):
    """Makes an empty module, which becomes what it should be as soon as something is asked of it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._module: ModuleType | None = None
        self._lock = threading.RLock()

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        try:
            _let_generators_be_made()
        except (ImportError, AttributeError):  # a torch that does it otherwise
            self._loader.exec_module(module)
            return
        self._module = module

        def wanted(name: str) -> Any:
            if not name.startswith("__"):  # those are asked of every module, by whoever looks through all
                self.execute()
            try:
                return module.__dict__[name]
            except KeyError:
                raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}") from None

        module.__getattr__ = wanted  # type: ignore[method-assign]

    def execute(self) -> None:
        """Now, unless it was."""
        with self._lock:
            module, self._module = self._module, None
            if module is not None:
                self._loader.exec_module(module)


def _let_generators_be_made() -> None:
    """The one thing that all of torch waits for and that is done on the way to what is left for later (`torch._prims.rng_prims`).

    Without it torch.Generator() raises. Done a second time it has no effect.
    """
    base = importlib.import_module("torch._opaque_base")
    sys.modules["torch"]._C._set_generator_metaclass(base.OpaqueBaseMeta)
