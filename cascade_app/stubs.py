"""Keeps Gradio from making its components' type stubs again at every import: over a third of the time that importing it takes.

For each of its some hundred components Gradio parses the source, fills a template and compares the result with the
`.pyi` file beside it. The stubs serve editors alone and come with the package.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_MODULE, _MAKER = "gradio.component_meta", "create_or_modify_pyi"


def leave_alone() -> None:
    """From now on importing Gradio leaves its stubs as they are. Without effect once it is imported."""
    if _MODULE not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds the one module as Python itself would, and steps aside."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if hasattr(module, _MAKER):  # a Gradio that works in another way is left as it is
            setattr(module, _MAKER, lambda *_: None)
