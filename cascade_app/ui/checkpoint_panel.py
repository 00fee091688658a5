"""The checkpoint chooser: which networks make the picture, what their licence asks, and settings made for them.

Owns what is said of a checkpoint before it is used. What choosing one changes elsewhere is in `callbacks.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import CheckpointError
from cascade_app.licenses import ASKING
from cascade_app.serving.backend import Backend
from cascade_app.serving.offer import offered
from cascade_app.ui import markup
from cascade_app.ui.form import Form

HELP = "The networks that make the picture; their sizes and settings come with them."
_CLICKS = """
element.addEventListener('click', (event) => {
  if (event.target.closest('[data-act=accept]')) trigger('accept');
  const preset = event.target.closest('[data-preset]');
  if (preset) trigger('apply', {preset: preset.dataset.preset});
});
"""


@dataclass(frozen=True)
class CheckpointPanel:
    """The panel's elements that events touch, beyond the form's chooser. `in_use` is the name the form is set to."""

    about: gr.HTML
    in_use: gr.State


def build_checkpoint_panel(form: Form, backend: Backend) -> CheckpointPanel:
    """Lay the panel out in the current context."""
    with gr.Group(elem_classes="cs-group"):
        gr.HTML("<h3>Checkpoint</h3>", apply_default_css=False, js_on_load=None)
        form.control("checkpoint", choices=choices(backend, form.spec.name), info=HELP, show_label=False)
        about = gr.HTML(
            about_html(backend, form.spec), elem_id="checkpoint-about", apply_default_css=False, js_on_load=_CLICKS
        )
    return CheckpointPanel(about, gr.State(form.spec.name))


def choices(backend: Backend, launched: str) -> list[tuple[str, str]]:
    """Label and name of what is offered. One that cannot be read is left out, but for the one the page starts with."""
    found = []
    for name in offered(launched):
        try:
            found.append((label_of(backend.checkpoint(name)), name))
        except CheckpointError:
            if name == launched:
                found.append((f"{Path(name).name} (cannot be used)", name))
    return found


def label_of(spec: CheckpointSpec) -> str:
    """Its title, and about how much has to be fetched before it can be used."""
    missing = spec.missing_bytes
    return f"{spec.title} ({markup.size_text(missing)} to fetch)" if missing else spec.title


def about_html(backend: Backend, spec: CheckpointSpec) -> str:
    """What stands under the chooser: a licence that is still to be accepted, and sets of settings to start from."""
    license = spec.license_to_accept
    asking = "" if backend.license_accepted(license) else ASKING.get(license, license)
    return markup.checkpoint_about(asking=asking, presets=tuple(spec.presets))
