"""`python -m cascade_app plan`: the decision as a table and as JSON, and its refusals."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from cascade_app.cli import main

ARGUMENTS = ["plan", "--checkpoint", "stable-cascade", "--size", "1024x1024", "--images", "1"]


def plan(capsys, *arguments: str) -> tuple[int, str, str]:
    try:
        code = main([*ARGUMENTS, *arguments])
    except SystemExit as stopped:  # argparse's own refusals
        code = stopped.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("vram", "kind"),
    [("80GB", "resident"), ("24GB", "resident"), ("12 GB", "swap"), ("8GB", "swap"), ("6GB", "stream")],
)
def test_json_is_one_line_with_the_documented_keys(capsys, vram, kind):
    code, out, err = plan(capsys, "--vram", vram, "--json")
    facts = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert set(facts) == {"placement", "reason", "predicted_peak_bytes", "budget_bytes", "parts"}
    assert facts["placement"] == kind and facts["predicted_peak_bytes"] <= facts["budget_bytes"]
    assert [part["name"] for part in facts["parts"]] == ["text_encoder", "prior", "decoder", "vqgan"]
    assert all(set(part) == {"name", "bytes", "device"} for part in facts["parts"])


def test_the_table_says_the_same(capsys):
    code, out, _ = plan(capsys, "--vram", "12GB")
    assert code == 0 and "swap" in out and "7.2 GB" in out and "1 picture, 1024 x 1024 px" in out


def test_nothing_fits_is_exit_code_3_and_a_sentence(capsys):
    code, out, err = plan(capsys, "--vram", "1.5GB", "--json")
    assert (code, out) == (3, "") and err.startswith("Nothing fits") and err.count("\n") == 1


@pytest.mark.parametrize(
    "wrong",
    [["--vram", "lots"], ["--vram", "-3GB"], ["--vram", "nanGB"], ["--vram", "12GB", "--size", "big"],
     ["--vram", "12GB", "--size", "1000x1000"], ["--vram", "12GB", "--images", "0"],
     ["--vram", "12GB", "--placement", "cloud"], ["--vram", "12GB", "--checkpoint", "nowhere"]],
)  # fmt: skip
def test_mistakes_are_exit_code_2_and_a_sentence(capsys, wrong):
    code, out, err = plan(capsys, *wrong)
    assert (code, out) == (2, "") and err.strip() and err.count("\n") == 1


def test_nothing_is_loaded_for_it():
    code = (
        "import sys; from cascade_app.cli import main; "
        f"assert main({[*ARGUMENTS, '--vram', '12GB', '--json']!r}) == 0; "
        "assert not {'torch', 'diffusers', 'transformers', 'gradio'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
