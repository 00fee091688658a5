"""The stage panel: the picture, its settings and actions, and the session's pictures in a row."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from cascade_app.ui import markup, session

# One listener a panel: clicks on a picture or an action become events of the component, with the picture's position.
_CLICKS = """
element.addEventListener('click', (event) => {
  const picked = event.target.closest('[data-pick]');
  if (picked) trigger('select', {index: Number(picked.dataset.pick)});
  const act = event.target.closest('[data-act]');
  if (act && act.dataset.act === 'reuse_seed') trigger('reuse_seed');
  if (act && act.dataset.act === 'reuse_settings') trigger('reuse_settings');
});
"""


@dataclass(frozen=True)
class StagePanel:
    """The panel's elements that events touch."""

    easel: gr.HTML
    facts: gr.HTML
    row: gr.HTML


def build_stage_panel(prompts: list[str]) -> StagePanel:
    """Lay the panel out in the current context."""
    with gr.Column(elem_id="stage-panel"):
        return StagePanel(
            easel=gr.HTML(markup.easel(markup.Easel(), prompts), elem_id="easel", **_live()),
            facts=gr.HTML(markup.no_facts(), elem_id="facts", **_live()),
            row=gr.HTML(session.row([], None), elem_id="session", **_live()),
        )


def _live() -> dict:
    return {"apply_default_css": False, "js_on_load": _CLICKS}
