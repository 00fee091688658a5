"""The wiring: which event runs which handler, with what, and what it may change on the page.

Events that read the form take what the browser sent (`preprocess=False`); see `form.py`.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from cascade_app.ui.callbacks import Page
from cascade_app.ui.form import TUNED

RUNS_AT_ONCE = 12  # runs that may wait for the engine and hear their place; the engine itself makes one at a time
POLL_S = 1.0
_QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}


def wire(page: Page, blocks: gr.Blocks) -> None:
    """Connect every event of the page."""
    _wire_run(page)
    _wire_session(page)
    _wire_form(page)
    _wire_checkpoint(page)
    lamp = [page.lamp, page.timer, page.prompt.message]
    page.timer.tick(page.poll, None, lamp, **_QUIET)
    blocks.load(page.poll, None, lamp, **_QUIET)
    blocks.load(page.plan, page.form.inputs, [page.prompt.plan], preprocess=False, **_QUIET)
    blocks.load(page.look_again, [page.settings.checkpoint.in_use], _told_again(page), **_QUIET)


def _wire_run(page: Page) -> None:
    stage, prompt = page.stage, page.prompt
    memory = [page.pictures, page.chosen]
    shown = [stage.easel, stage.facts, stage.row, prompt.message, prompt.generate, prompt.cancel, *memory]
    run = prompt.generate.click(page.begin, [page.turn], shown, **_QUIET).then(
        page.run,
        [*page.form.inputs, *memory, page.turn],
        [*shown, page.form.controls["seed"], page.settings.reuse_last],
        preprocess=False,
        show_progress="hidden",
        concurrency_limit=RUNS_AT_ONCE,
        api_visibility="private",
    )
    run.failure(page.not_started, memory, shown, **_QUIET)
    run.then(page.look_again, [page.settings.checkpoint.in_use], _told_again(page), **_QUIET)
    prompt.cancel.click(page.cancel, [page.turn], None, **_QUIET)


def _wire_session(page: Page) -> None:
    stage, form = page.stage, page.form
    memory = [page.pictures, page.chosen]
    shown = [stage.easel, stage.facts, stage.row, *memory]
    for source in (stage.easel, stage.row):
        source.select(page.select, [page.pictures], shown, **_QUIET)
    seed = [form.controls["seed"], form.randomise]
    stage.facts.reuse_seed(page.reuse_seed, memory, seed, **_QUIET)
    reused = [*form.inputs, *_follows_checkpoint(page)]
    stage.facts.reuse_settings(page.reuse_settings, memory, reused, **_QUIET).then(
        page.plan, form.inputs, [page.prompt.plan], preprocess=False, **_QUIET
    )
    page.settings.reuse_last.click(page.reuse_last, [page.pictures], seed, **_QUIET)


def _wire_form(page: Page) -> None:
    form, settings = page.form, page.settings
    size, in_use = [form.controls["width"], form.controls["height"]], settings.checkpoint.in_use
    raw: dict[str, Any] = {**_QUIET, "preprocess": False}
    settings.aspect.input(page.take_aspect, [settings.aspect, *size, in_use], size, **raw)
    settings.swap.click(page.swap, size, size, **raw)
    names = ("width", "height", "images", "prior_steps", "decoder_steps")
    planned = [form.controls[name].change for name in names]
    gr.on(planned, page.plan, form.inputs, [page.prompt.plan], trigger_mode="always_last", **raw)
    sides = [side.change for side in size]
    gr.on(sides, page.follow_size, [*size, in_use], [settings.aspect], trigger_mode="always_last", **raw)


def _wire_checkpoint(page: Page) -> None:
    form, panel, system = page.form, page.settings.checkpoint, page.system
    chooser = form.controls["checkpoint"]
    raw: dict[str, Any] = {**_QUIET, "preprocess": False}
    chosen = [chooser, *(form.controls[name] for name in ("width", "height", *TUNED)), *_follows_checkpoint(page)]
    chooser.input(page.choose, [chooser, panel.in_use], chosen, **raw).then(
        page.plan, form.inputs, [page.prompt.plan], **raw
    )
    tuned = [*(form.controls[name] for name in TUNED), page.prompt.message]
    panel.about.apply(page.apply_preset, [panel.in_use], tuned, **_QUIET)
    panel.about.accept(page.accept, [panel.in_use], [panel.about, page.prompt.message, page.timer], **_QUIET)
    for read in (system.fold.expand, system.again.click):
        read(page.read_system, None, [system.report], **_QUIET)


def _follows_checkpoint(page: Page) -> list[Any]:
    """What changes with the checkpoint beside the form's own controls, and where an error about it is said."""
    panel = page.settings.checkpoint
    return [page.header, page.settings.aspect, panel.about, panel.in_use, page.prompt.message]


def _told_again(page: Page) -> list[Any]:
    return [page.system.report, page.form.controls["checkpoint"], page.settings.checkpoint.about]
