"""The System panel: device, memory, where the weights are and why. Read when it is opened, on a click, after a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import gradio as gr

from cascade_app.system import PartReport, SystemReport
from cascade_app.ui import markup

LOADING = "The engine is still loading."
_WHERE = {"device": "on the device", "host": "in host memory"}


@dataclass(frozen=True)
class SystemPanel:
    """The fold, its text, and the button that reads anew."""

    fold: gr.Accordion
    report: gr.HTML
    again: gr.Button


def build_system_panel() -> SystemPanel:
    """Lay the panel out in the current context."""
    with gr.Accordion("System", open=False, elem_id="system") as fold:
        report = gr.HTML(system_html(None), apply_default_css=False, js_on_load=None, elem_id="system-report")
        again = gr.Button("Read again", size="sm", elem_id="system-again")
    return SystemPanel(fold, report, again)


def system_html(report: SystemReport | None) -> str:
    """The report as the panel's text."""
    if report is None:
        return markup.system_note(LOADING)
    return markup.system(facts_of(report), tables_of(report.parts))


def facts_of(report: SystemReport) -> list[tuple[str, str]]:
    """What is known of the engine as a whole, each with its name."""
    facts = [
        ("Device", f"{report.device}, {report.dtype}"),
        ("Its precision", _precision(report)),
        ("Its memory", _device_memory(report)),
        ("Host memory", f"{markup.size_text(report.host_free_bytes)} free"),
        ("Placement", _placement(report)),
        ("Prompts kept", str(report.prompts_cached)),
    ]
    return facts + [(f"{title} loaded in", f"{seconds:.1f} s") for title, seconds in report.load_seconds.items()]


def tables_of(parts: Iterable[PartReport]) -> dict[str, list[tuple[str, str, str]]]:
    """Checkpoint's title to its networks: name, size, and where they are."""
    tables: dict[str, list[tuple[str, str, str]]] = {}
    for part in parts:
        row = part.name.replace("_", " "), markup.size_text(part.bytes), _WHERE.get(part.where, part.where)
        tables.setdefault(part.checkpoint, []).append(row)
    return tables


def _placement(report: SystemReport) -> str:
    if not report.placement:
        return "Decided with the first picture."
    kind = "CPU" if report.placement == "cpu" else report.placement.capitalize()
    return f"{kind}. {report.reason}"


def _precision(report: SystemReport) -> str:
    return f"{report.dtype_reason[:1].upper()}{report.dtype_reason[1:]}." if report.dtype_reason else "As it was set."


def _device_memory(report: SystemReport) -> str:
    if not report.device_free_bytes:
        return "shared with the host"
    free, used = markup.size_text(report.device_free_bytes), markup.size_text(report.device_used_bytes)
    return f"{free} free, {used} in weights"
