"""The wiring: which event runs which handler, with what, and what it may change on the page.

Events that read the form take what the browser sent (`preprocess=False`); see `form.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from cascade_app.ui.callbacks import Page
from cascade_app.ui.form import TUNED

POLL_S = 1.0
_QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}


def wire(page: Page, blocks: gr.Blocks, *, runs_at_once: int) -> None:
    """Connect every event of the page."""
    _wire_runs(page, runs_at_once)
    _wire_pictures(page)
    _wire_gallery(page)
    _wire_form(page)
    _wire_checkpoint(page)
    lamp = [page.lamp, page.timer, page.prompt.message]
    page.timer.tick(page.poll, None, lamp, **_QUIET)
    blocks.load(page.poll, None, lamp, **_QUIET)
    blocks.load(page.open, None, [*_stage(page), page.settings.reuse_last], **_QUIET)
    remembered = [*page.form.inputs, *_follows_checkpoint(page)]
    blocks.load(
        page.remember, [page.kept, page.settings.checkpoint.in_use], list(dict.fromkeys(remembered)), **_QUIET
    ).then(page.plan, page.form.inputs, [page.prompt.plan], preprocess=False, **_QUIET)
    blocks.load(page.look_again, [page.settings.checkpoint.in_use], _told_again(page), **_QUIET)


def _stage(page: Page) -> list[Any]:
    """What changes when other records come onto the easel."""
    return [page.stage.easel, page.stage.facts, page.stage.row, page.prompt.message, page.table]


def _wire_runs(page: Page, runs_at_once: int) -> None:
    stage, prompt = page.stage, page.prompt
    shown = [*_stage(page), prompt.generate, prompt.sketch, page.grid.make, prompt.cancel, prompt.words]
    presses = (
        (prompt.generate.click, page.begin_generate),
        (prompt.sketch.click, page.begin_sketch),
        (page.grid.make.click, page.begin_grid),
        (stage.switchboard.make, page.begin_make),
    )
    for press, begin in presses:
        run = press(begin, [page.turn], shown, **_QUIET).then(
            page.run,
            page.run_inputs,
            [*shown, page.form.controls["seed"], page.settings.reuse_last],
            preprocess=False,
            show_progress="hidden",
            concurrency_limit=runs_at_once,
            concurrency_id="engine",
            api_visibility="private",
        )
        run.failure(page.not_started, [page.table], shown, **_QUIET)
        _keep_after(page, run.then)
        run.then(page.look_again, [page.settings.checkpoint.in_use], _told_again(page), **_QUIET)
    asked = [page.grid.fold.expand, page.form.controls["prompt"].change, *(one.change for one in page.grid.inputs)]
    gr.on(
        asked, page.plan_grid, [*page.form.inputs, *page.grid.inputs], [page.grid.plan], trigger_mode="always_last",
        preprocess=False, **_QUIET,
    )  # fmt: skip
    prompt.cancel.click(page.cancel, [page.turn], None, **_QUIET)


def _keep_after(page: Page, event: Callable[..., Any]) -> None:
    """Have the browser keep the form as it is then; the server is not asked."""
    event(None, page.form.inputs, [page.kept], js="(...values) => [values]", **_QUIET)


def _typed(control: Any) -> Any:
    """The event of a control that a person changed. A Textbox has none for what is pasted or dropped into it."""
    return control.change if isinstance(control, gr.Textbox) else control.input


def _wire_pictures(page: Page) -> None:
    stage, form, shelf = page.stage, page.form, page.shelf
    # Not "always_last", which sends what the first event brought once more in place of the last one's.
    each: dict[str, Any] = {**_QUIET, "trigger_mode": "multiple"}
    stage.switchboard.show(page.show, [page.table, page.turn], _stage(page), **each)
    opened = [*_stage(page), page.settings.reuse_last, *form.inputs, *_follows_checkpoint(page)]
    stage.switchboard.opened(
        page.opened, [page.table, page.settings.checkpoint.in_use], list(dict.fromkeys(opened)), **each
    ).then(page.plan, form.inputs, [page.prompt.plan], preprocess=False, **_QUIET)
    stage.switchboard.picks(page.picks, [page.table, page.turn], [stage.facts, page.prompt.message], **each)
    touched = [*_stage(page), shelf.shelf, shelf.at, *form.inputs, *_follows_checkpoint(page)]
    acted = stage.switchboard.act(
        page.act, [page.table, shelf.at], list(dict.fromkeys(touched)), trigger_mode="multiple", **_QUIET
    )
    acted.then(page.plan, form.inputs, [page.prompt.plan], preprocess=False, **_QUIET)
    _keep_after(page, acted.then)
    page.settings.reuse_last.click(page.reuse_last, None, [form.controls["seed"], form.randomise, page.prompt.message], **_QUIET)


def _wire_gallery(page: Page) -> None:
    shelf = page.shelf
    changes = [shelf.shelf, shelf.at, shelf.checkpoint]
    latest: dict[str, Any] = {**_QUIET, "trigger_mode": "always_last", "preprocess": False}
    page.stage.switchboard.look(page.look, shelf.inputs, changes, **{**latest, "trigger_mode": "multiple"})
    gr.on([_typed(one) for one in shelf.inputs], page.seek, shelf.inputs, changes, **latest)


def _wire_form(page: Page) -> None:
    form, settings = page.form, page.settings
    size, in_use = [form.controls["width"], form.controls["height"]], settings.checkpoint.in_use
    raw: dict[str, Any] = {**_QUIET, "preprocess": False}
    settings.aspect.input(page.take_aspect, [settings.aspect, *size, in_use], size, **raw)
    settings.swap.click(page.swap, size, size, **raw)
    _keep_after(page, partial(gr.on, [_typed(one) for one in form.inputs]))
    names = ("width", "height", "images", "prior_steps", "decoder_steps")
    planned = [form.controls[name].change for name in names]
    gr.on(planned, page.plan, form.inputs, [page.prompt.plan], trigger_mode="always_last", **raw)
    worded = [form.controls["prompt"].change, form.controls["negative_prompt"].change, form.controls["seed"].input]
    worded += [form.style.change, form.randomise.input, form.controls["images"].change]
    gr.on(worded, page.words, form.inputs, [page.prompt.words], trigger_mode="always_last", **raw)
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
