"""What every test may rely on: no `CASCADE_*` variable of the machine reaches it, and nothing lands in the user's folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in [name for name in os.environ if name.startswith("CASCADE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CASCADE_DATA_DIR", str(tmp_path_factory.getbasetemp() / "data"))


@pytest.fixture(scope="session")
def pocket() -> Path:
    """The bundled checkpoint's folder."""
    folder = ROOT / "assets" / "pocket"
    if not (folder / "model_index.json").is_file():
        pytest.fail("assets/pocket is missing: it is part of the repository, or comes from `make train`")
    return folder
