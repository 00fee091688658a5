"""The settings panel: checkpoint, size, count and seed, the two stages, and the rest folded away."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from cascade_app.serving.backend import Backend
from cascade_app.ui.aspects import presets
from cascade_app.ui.checkpoint_panel import CheckpointPanel, build_checkpoint_panel
from cascade_app.ui.form import Form


@dataclass(frozen=True)
class SettingsPanel:
    """The panel's controls that events touch, beyond those of the form."""

    aspect: gr.Radio
    swap: gr.Button
    reuse_last: gr.Button
    checkpoint: CheckpointPanel


def build_settings_panel(form: Form, backend: Backend) -> SettingsPanel:
    """Lay the panel out in the current context."""
    with gr.Column(elem_id="settings-panel", elem_classes="cs-panel"):
        checkpoint = build_checkpoint_panel(form, backend)
        with gr.Group(elem_classes="cs-group"):
            gr.HTML("<h3>Picture</h3>", apply_default_css=False, js_on_load=None)
            with gr.Row(elem_id="aspects"):
                aspect = gr.Radio(
                    list(presets(form.spec)),
                    value="1:1",
                    label="Aspect ratio",
                    show_label=False,
                    container=False,
                    elem_id="aspect",
                    scale=1,
                )
                swap = gr.Button("Swap", size="sm", elem_id="swap", scale=0, min_width=64)
            with gr.Row(elem_classes="cs-pair"):
                form.control("width", min_width=120)
                form.control("height", min_width=120)
            form.control("images")
        with gr.Group(elem_classes="cs-group"):
            gr.HTML("<h3>Seed</h3>", apply_default_css=False, js_on_load=None)
            form.control("seed", show_label=False)
            with gr.Row(elem_id="seed-row"):
                form.randomise = gr.Checkbox(
                    True, label="Randomise", container=False, elem_id="randomise", scale=1, min_width=120
                )
                reuse_last = gr.Button(
                    "Reuse last", size="sm", elem_id="reuse-last", interactive=False, scale=0, min_width=100
                )
        with gr.Group(elem_classes="cs-group"):
            gr.HTML('<h3><b class="cs-letter">C</b>The negative</h3>', apply_default_css=False, js_on_load=None)
            with gr.Row(elem_classes="cs-pair"):
                form.control("prior_steps", min_width=120)
                form.control("prior_guidance", min_width=120)
        with gr.Group(elem_classes="cs-group"):
            gr.HTML('<h3><b class="cs-letter">B</b>Developing it</h3>', apply_default_css=False, js_on_load=None)
            with gr.Row(elem_classes="cs-pair"):
                form.control("decoder_steps", min_width=120)
                form.control("decoder_guidance", min_width=120)
        with gr.Accordion("Advanced", open=False, elem_id="advanced"):
            form.control("sampler")
            form.control("prior_shift")
            form.control("guidance_rescale")
            with gr.Row(elem_classes="cs-pair"):
                form.control("guidance_start", min_width=120)
                form.control("guidance_stop", min_width=120)
    return SettingsPanel(aspect, swap, reuse_last, checkpoint)
