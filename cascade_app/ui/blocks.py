"""The page: its panels in their order, and what it needs to be launched with.

The picture comes first in the document, so that it is first on a phone; the stylesheet sets the columns
side by side on wide screens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import CheckpointError
from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.reading import UploadLimits
from cascade_app.serving.api import add_api
from cascade_app.serving.backend import Backend
from cascade_app.serving.fair import runs_at_once
from cascade_app.ui import actions, markup
from cascade_app.ui.callbacks import Page
from cascade_app.ui.elements import Turn
from cascade_app.ui.form import Form, stand_in_spec
from cascade_app.ui.gallery_panel import build_gallery_panel
from cascade_app.ui.grid_panel import build_grid_panel
from cascade_app.ui.notice import notice
from cascade_app.ui.prompt_panel import build_prompt_panel
from cascade_app.ui.session import Table
from cascade_app.ui.settings_panel import build_settings_panel
from cascade_app.ui.stage_panel import build_stage_panel
from cascade_app.ui.system_panel import build_system_panel
from cascade_app.ui.theme import studio_theme
from cascade_app.ui.unchanged import Blocks
from cascade_app.ui.variations_panel import build_variations_panel
from cascade_app.ui.wiring import POLL_S, wire
from cascade_app.wordbook import Wordbook

TITLE = "Cascade Studio"
ROOT = Path(__file__).resolve().parents[2]
PROMPTS_PATH = ROOT / "examples" / "prompts.txt"
SESSIONS = 500  # tabs whose table is remembered, a quarter of a megabyte each; the one longest unused goes first
GRADIO_QUEUE = 16
QUICK_THREADS = 40  # beside those of runs that wait
SCRIPTS = ("page.js", "picks.js", "drop.js")


def read_prompts(path: Path = PROMPTS_PATH) -> list[str]:
    """The example prompts, one a line; none where the file is missing."""
    if not path.is_file():
        return []
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def build_ui(
    backend: Backend, gallery: Gallery, *, checkpoint: str, queue_size: int = 64, book: Wordbook | None = None,
    acceptable_use: str = "",
) -> gr.Blocks:  # fmt: skip
    """The whole page and the API. `checkpoint` is the one it starts with; at most `queue_size` runs may wait.

    `book` has the styles and wildcards; by default only those that come with the app. `acceptable_use` is said at the foot.
    """
    with Blocks(title=TITLE, fill_width=True, analytics_enabled=False) as blocks:
        page = lay_out(backend, gallery, checkpoint=checkpoint, book=book)
        spec = page.form.spec
        gr.HTML(notice(acceptable_use, checkpoint=spec.title, license=spec.license), **_still("notice"))
        runs = runs_at_once(queue_size)
        # Before the page's own functions, some of which are called the same: those then get other names.
        add_api(backend, gallery, page.form.spec, runs_at_once=runs, book=page.form.book)
        wire(page, blocks, runs_at_once=runs)
    # The engine's own queue decides who waits and who is refused (serving/fair.py); Gradio's holds what comes all at once.
    return blocks.queue(max_size=max(GRADIO_QUEUE, queue_size))


def lay_out(backend: Backend, gallery: Gallery, *, checkpoint: str, book: Wordbook | None = None) -> Page:
    """Put every element of the page into the Blocks being built."""
    spec = spec_of(backend, checkpoint)
    form = Form(spec, book=book or Wordbook.of())
    prompts = read_prompts()
    header = gr.HTML(markup.header(checkpoint=spec.title, license=spec.license), **_still("header"))
    lamp = gr.HTML(markup.engine_status("loading", "Loading"), **_still("lamp"))
    with gr.Row(elem_id="room", equal_height=False):
        with gr.Column(elem_id="stage-panel"):
            stage = build_stage_panel(prompts)
            shelf = build_gallery_panel()
        with gr.Column(elem_id="desk"):
            prompt = build_prompt_panel(form, prompts)
            variations = build_variations_panel()
            grid = build_grid_panel()
            settings = build_settings_panel(form, backend)
            system = build_system_panel()
    gr.HTML(actions.footer(), **_still("keys"))
    gr.HTML(markup.drop_target(UploadLimits().n_bytes), **_still("drop"))
    return Page(
        backend=backend, gallery=gallery, form=form, prompt=prompt, variations=variations, grid=grid, settings=settings,
        stage=stage, shelf=shelf, system=system, header=header, lamp=lamp, timer=gr.Timer(POLL_S), table=gr.State(Table()),
        turn=gr.State(Turn()), kept=gr.BrowserState(None, storage_key="cascade-studio-form", secret="no secret"),
        prompts=prompts,
    )  # fmt: skip


def launch_options(queue_size: int = 64) -> dict[str, Any]:
    """What makes the page look and behave as it should; nothing is fetched from elsewhere. `queue_size` as for `build_ui`."""
    style, *scripts = ((ROOT / "assets" / name).read_text(encoding="utf-8") for name in ("style.css", *SCRIPTS))
    return {
        "theme": studio_theme(),
        "head": f"<style>{style}</style>{''.join(f'<script>{script}</script>' for script in scripts)}",
        "favicon_path": ROOT / "assets" / "icon.svg",
        "footer_links": [],
        "run_history": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,  # serving/mcp_server.py is
        "share": False,
        "show_error": False,
        "enable_monitoring": False,
        "max_threads": runs_at_once(queue_size) + QUICK_THREADS,
        "state_session_capacity": SESSIONS,
    }


def spec_of(backend: Backend, checkpoint: str) -> CheckpointSpec:
    """The checkpoint's facts, or stand-ins where there are none."""
    try:
        return backend.checkpoint(checkpoint)
    except CheckpointError:
        return stand_in_spec(checkpoint)  # the page still opens; the backend's status says what is wrong


def _still(elem_id: str) -> dict[str, Any]:
    return {"elem_id": elem_id, "apply_default_css": False, "js_on_load": None}
