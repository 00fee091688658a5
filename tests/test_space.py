"""What goes to a Space: exactly what app.py imports, in a form the hub takes, and it runs there by itself."""

from __future__ import annotations

import inspect
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from gradio_client import Client
from huggingface_hub import HfApi

from cascade_app.catalogue import find_checkpoint
from cascade_app.errors import InvalidRequest
from cascade_app.space import (
    ROOT,
    ZERO_GPU,
    ZERO_GPU_PYTHON,
    Space,
    shipped_files,
    space_files,
    space_readme,
    space_variables,
)
from cascade_app.spacefile import declaration
from tests.test_arrows import imports, modules

POCKET = find_checkpoint("pocket")
SPACEFILE = (ROOT / "Spacefile").read_text(encoding="utf-8")


def a_space(**changed) -> Space:
    plain = Space("ada/studio", "cpu-basic", False, space_files(ROOT, POCKET, "cpu-basic"), space_variables(POCKET))
    return replace(plain, **changed)


def reached_from(start: str) -> set[str]:
    """Every module of the house that `start` imports, now or later, and the packages they lie in."""
    sources = modules(ROOT)
    waiting, seen = [start], {start}
    while waiting:
        module = waiting.pop()
        found = imports(module, sources[module], set(sources)) & set(sources)
        found |= {parent for name in found for parent in _packages(name)}
        waiting += found - seen
        seen |= found
    return seen


def _packages(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))}


def _module(path: str) -> str:
    name = path.removesuffix(".py").replace("/", ".")
    return name.removesuffix(".__init__")


def test_the_python_files_are_those_that_the_app_imports():
    shipped = {_module(name) for name in shipped_files(ROOT) if name.endswith(".py")}
    reached = reached_from("app")
    assert reached - shipped == set(), "app.py imports these and a Space would lack them: see LEFT_OUT in space.py"
    assert shipped - reached == set(), "app.py never imports these: name them in LEFT_OUT in space.py"


def test_nothing_else_goes_along():
    names = shipped_files(ROOT)
    unwanted = re.compile(r"(^|/)(tests?|training|bench|sheets|screenshots?|\.[^/]*|__pycache__)(/|$)|\.pyc$|screenshot")
    assert [name for name in names if unwanted.search(name)] == []
    sizes = a_space().sizes()
    assert set(sizes) == {*names, "README.md", "requirements.txt"}
    assert sum(sizes.values()) < 100e6


@pytest.mark.parametrize("hardware", ["cpu-basic", "t4-small", ZERO_GPU])
@pytest.mark.parametrize("name", ["pocket", "stable-cascade"])
def test_the_readme_is_one_the_hub_reads(hardware: str, name: str):
    spec = find_checkpoint(name)
    _, front, body = space_readme(SPACEFILE, spec, hardware).split("---\n", 2)
    values = declaration(front)  # refuses what the hub would
    assert values["app_file"] == "app.py" and values["sdk"] == "gradio" and values["license"] == "apache-2.0"
    assert values["python_version"] == (ZERO_GPU_PYTHON if hardware == ZERO_GPU else "3.12")
    assert values.get("suggested_hardware") == (None if hardware == ZERO_GPU else hardware)
    assert spec.title in body and spec.license in body
    assert ("no commercial use" in body) == (name != "pocket")


def test_on_zero_gpu_the_pins_differ_by_what_it_needs_only():
    def pins(name: str) -> dict[str, str]:
        lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines())
        kept = [line.partition(";") for line in lines if line and '< "3.11"' not in line]
        return dict(requirement.strip().split("==") for requirement, _, _ in kept)

    usual, lent = pins("requirements.txt"), pins("requirements-zerogpu.txt")
    assert lent.pop("torch") in ("2.8.0", "2.9.1", "2.10.0", "2.11.0")  # those ZeroGPU has
    assert lent.pop("spaces")
    assert lent == {name: version for name, version in usual.items() if name != "torch"}
    assert ZERO_GPU_PYTHON in ("3.10.13", "3.12.12")
    assert space_files(ROOT, POCKET, ZERO_GPU)["requirements.txt"] == ROOT / "requirements-zerogpu.txt"


def test_the_calls_are_ones_the_library_has():
    space = a_space(secrets={"HF_TOKEN": "hf_abc"}, private=True)
    for call in [*space.create(), *space.update(), space.upload("folder", "1")]:
        inspect.signature(getattr(HfApi, call.name)).bind(None, **call.arguments)


def test_secrets_reach_the_hub_and_no_screen():
    space = a_space(secrets={"HF_TOKEN": "hf_abc"})
    for calls in (space.create(), space.update()):
        assert "hf_abc" not in " ".join(map(str, calls)) and "***" in " ".join(map(str, calls))
    [call] = [call for call in space.update() if call.name == "add_space_secret"]
    assert call.arguments["value"] == "hf_abc"
    assert space.create()[0].arguments["space_secrets"] == [{"key": "HF_TOKEN", "value": "hf_abc"}]


def test_hardware_is_asked_for_only_if_it_changes():
    def names(hardware: str | None) -> list[str]:
        return [call.name for call in a_space().update(hardware)]

    assert "request_space_hardware" in names("t4-small") and "request_space_hardware" in names(None)
    assert "request_space_hardware" not in names("cpu-basic")


def test_every_space_states_its_checkpoint_and_licence():
    assert space_variables(POCKET) == {"CASCADE_CHECKPOINT": "pocket", "CASCADE_ACCEPT_LICENSE": "none"}
    spec = find_checkpoint("stable-cascade-lite")
    assert space_variables(spec) == {
        "CASCADE_CHECKPOINT": "stable-cascade-lite", "CASCADE_ACCEPT_LICENSE": "stable-cascade-nc-community"
    }  # fmt: skip


def test_an_installed_package_is_no_repository(tmp_path: Path):
    (tmp_path / "app.py").touch()
    with pytest.raises(InvalidRequest, match="requirements.txt is not beside the package"):
        space_files(tmp_path, POCKET, "cpu-basic")


def test_the_spacefile_still_names_what_is_shipped():
    assert yaml.safe_load(SPACEFILE)["app_file"] in shipped_files(ROOT)


def test_these_files_alone_serve_the_page_and_make_a_picture(tmp_path: Path, pocket: Path):
    space = tmp_path / "space"
    a_space().write(space)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment |= {
        **a_space().variables, "CASCADE_PORT": str(port), "CASCADE_HOST": "127.0.0.1", "HF_HUB_OFFLINE": "1",
        "CASCADE_DATA_DIR": str(tmp_path / "data"), "HF_HOME": str(tmp_path / "hub"), "PYTHONUNBUFFERED": "1",
    }  # fmt: skip
    with (tmp_path / "log").open("w") as log:
        app = subprocess.Popen([sys.executable, "app.py"], cwd=space, env=environment, stdout=log, stderr=log)
    try:
        assert _status_of_page(port, app) == 200, (tmp_path / "log").read_text()
        client = Client(f"http://127.0.0.1:{port}/", verbose=False, download_files=str(tmp_path / "downloads"))
        pictures, made = client.predict(prompt="a red boat", prior_steps=1, decoder_steps=1, api_name="/generate")[:2]
        assert made["checkpoint"] == "pocket" and len(pictures) == 1
    finally:
        app.send_signal(signal.SIGTERM)
        assert app.wait(60) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


def _status_of_page(port: int, app: subprocess.Popen) -> int:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and app.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
                return answer.status
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    return 0
