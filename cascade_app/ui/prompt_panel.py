"""The prompt panel: what the picture shows, the two buttons, and what the next run will make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from cascade_app.plan import GenerationPlan
from cascade_app.ui import markup
from cascade_app.ui.form import Form
from cascade_app.ui.variations_panel import SKETCHES
from cascade_app.words import Span, weigh

LISTED = 4  # different texts of one run, shown whole


@dataclass(frozen=True)
class PromptPanel:
    """The panel's controls that events touch."""

    generate: gr.Button
    sketch: gr.Button
    sketches: gr.Number
    cancel: gr.Button
    message: gr.HTML
    plan: gr.HTML
    words: gr.HTML


def build_prompt_panel(form: Form, prompts: list[str]) -> PromptPanel:
    """Lay the panel out in the current context."""
    with gr.Column(elem_id="prompt-panel", elem_classes="cs-panel"):
        form.control("prompt", lines=3, max_lines=8, placeholder="a white lighthouse on a rock in a blue sea at sunset")
        with gr.Row(elem_id="without-and-style", elem_classes="cs-pair"):
            form.control("negative_prompt", lines=1, max_lines=4, placeholder="people, text", scale=2, min_width=150)
            form.style_control()
        words = gr.HTML("", elem_id="words-sent", apply_default_css=False, js_on_load=None)
        with gr.Row(elem_id="buttons"):
            generate = gr.Button("Generate", variant="primary", elem_id="generate")
            cancel = gr.Button("Cancel", variant="secondary", elem_id="cancel", interactive=False)
        with gr.Row(elem_id="sketching"):
            sketch = gr.Button("Sketch a contact sheet", variant="secondary", elem_id="sketch")
            sketches = gr.Number(
                SKETCHES.default, label=SKETCHES.label, show_label=False, container=False, minimum=SKETCHES.minimum,
                maximum=SKETCHES.maximum, step=1, elem_id="sketches", scale=0, min_width=116,
            )  # fmt: skip
        message = gr.HTML("", elem_id="message", apply_default_css=False, js_on_load=None)
        plan = gr.HTML("", elem_id="plan", apply_default_css=False, js_on_load=None)
        with gr.Accordion("Example prompts", open=False, elem_id="examples"):
            gr.HTML(markup.prompt_chips(prompts), apply_default_css=False, js_on_load=None)
    return PromptPanel(generate, sketch, sketches, cancel, message, plan, words)


def words_line(plan: GenerationPlan, *, typed: Sequence[Any], lead: str, unread: str = "") -> str:
    """A plan's words as the encoder gets them, weights as small figures, where they are not simply the two texts typed; and
    what it will not read."""
    prompts = tuple(dict.fromkeys(words.prompt for words in plan.words))
    negatives = tuple(dict.fromkeys(words.negative_prompt for words in plan.words if words.negative_prompt))
    plain = [" ".join(str(text or "").split()) for text in typed]
    rows = [(lead, texts) for texts, text in ((prompts, plain[0]),) if _differ(texts, text)]
    rows += [("Without", texts) for texts, text in ((negatives, plain[1]),) if _differ(texts, text)]
    lines = [f"<p><span>{name}</span> {_listed(texts)}</p>" for name, texts in rows]
    lines += [f"<p data-cut>{escape(unread)}</p>"] if unread else []
    return f'<div class="cs-words">{"".join(lines)}</div>' if lines else ""


def words_problem(sentence: str) -> str:
    """Why the words cannot be read."""
    return f'<div class="cs-words" data-problem><p>{escape(sentence)}</p></div>'


def _differ(texts: Sequence[str], typed: str) -> bool:
    return any(" ".join(text.split()) != typed or any(span.weight != 1 for span in weigh(text)) for text in texts)


def _listed(texts: Sequence[str]) -> str:
    shown = "; ".join(_weighted(weigh(text)) for text in texts[:LISTED])
    return shown if len(texts) <= LISTED else f"{shown}; and {len(texts) - LISTED} more"


def _weighted(spans: Sequence[Span]) -> str:
    return "".join(
        escape(span.text) if span.weight == 1 else f"<b>{escape(span.text)}<sub>{round(span.weight, 2):g}</sub></b>"
        for span in spans
    )
