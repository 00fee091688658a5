"""Gradio imported without its stubs made again: the same components, and no file written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MINE = "import gradio\n\n\nclass Mine(gradio.Textbox):\n    pass\n"
USE = "import mine\nfrom gradio import Blocks\nwith Blocks():\n    mine.Mine(value='a').change(lambda: None)\n"


@pytest.mark.parametrize("quick", [True, False])
def test_a_component_gets_a_stub_file_only_from_gradio_as_it_comes(tmp_path: Path, quick: bool):
    (tmp_path / "mine.py").write_text(MINE)
    first = "from cascade_app import stubs\nstubs.leave_alone()\nstubs.leave_alone()\n" if quick else ""
    code = f"{first}import sys\nsys.path.insert(0, {str(tmp_path)!r})\n{USE}print(len(sys.meta_path))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (tmp_path / "mine.pyi").exists() is not quick
    plain = subprocess.run(
        [sys.executable, "-c", "import sys, gradio; print(len(sys.meta_path))"], capture_output=True, text=True
    )
    assert done.stdout == plain.stdout  # the finder is gone again


def test_a_gradio_that_makes_its_stubs_otherwise_is_left_as_it_is(tmp_path: Path):
    package = tmp_path / "gradio"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "component_meta.py").write_text("kept = 1\n")
    code = (
        "import sys\nfrom cascade_app import stubs\nstubs.leave_alone()\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\nimport gradio.component_meta as m\nprint(m.kept, hasattr(m, stubs._MAKER))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
