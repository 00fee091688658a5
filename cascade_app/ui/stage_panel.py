"""The stage panel: the picture, what is said of it and done with it, and the session's pictures in a row."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from cascade_app.ui import cards
from cascade_app.ui.easel import Easel, easel

# The page's script hears all clicks and keys itself and tells of them through this one element, whose events the server gets.
_SWITCHBOARD = "(window.cascade = window.cascade || {}).trigger = trigger; /* 'show' 'picks' 'act' 'make' 'look' 'opened' */"


@dataclass(frozen=True)
class StagePanel:
    """The panel's elements that events touch. `switchboard` brings the script's events."""

    switchboard: gr.HTML
    easel: gr.HTML
    facts: gr.HTML
    row: gr.HTML


def build_stage_panel(prompts: list[str]) -> StagePanel:
    """Lay the panel out in the current context."""
    still = {"apply_default_css": False, "js_on_load": None}
    return StagePanel(
        switchboard=gr.HTML("", elem_id="switchboard", apply_default_css=False, js_on_load=_SWITCHBOARD),
        easel=gr.HTML(easel(Easel(), prompts), elem_id="easel", **still),
        facts=gr.HTML(cards.no_facts(), elem_id="facts", **still),
        row=gr.HTML(cards.session_row([]), elem_id="session", **still),
    )
