"""The prompt panel: what the picture shows, the two buttons, and what the next run will make."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from cascade_app.ui import markup
from cascade_app.ui.form import Form


@dataclass(frozen=True)
class PromptPanel:
    """The panel's controls that events touch."""

    generate: gr.Button
    cancel: gr.Button
    message: gr.HTML
    plan: gr.HTML


def build_prompt_panel(form: Form, prompts: list[str]) -> PromptPanel:
    """Lay the panel out in the current context."""
    with gr.Column(elem_id="prompt-panel", elem_classes="cs-panel"):
        form.control("prompt", lines=3, max_lines=8, placeholder="a white lighthouse on a rock in a blue sea at sunset")
        form.control("negative_prompt", lines=1, max_lines=4, placeholder="people, text")
        with gr.Row(elem_id="buttons"):
            generate = gr.Button("Generate", variant="primary", elem_id="generate")
            cancel = gr.Button("Cancel", variant="secondary", elem_id="cancel", interactive=False)
        message = gr.HTML("", elem_id="message", apply_default_css=False, js_on_load=None)
        plan = gr.HTML("", elem_id="plan", apply_default_css=False, js_on_load=None)
        with gr.Accordion("Example prompts", open=False, elem_id="examples"):
            gr.HTML(markup.prompt_chips(prompts), apply_default_css=False, js_on_load=None)
    return PromptPanel(generate, cancel, message, plan)
