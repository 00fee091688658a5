"""The page's own Blocks against Gradio's: the browser is told the same, and what stays as it is is not built anew."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import gradio as gr
import pytest
from gradio.context import Context
from gradio.state_holder import SessionState

from cascade_app.ui import unchanged

Outputs = list[Any]


def told(kind: type[gr.Blocks], answer: Callable[[Outputs], Any], count: int) -> tuple[Any, Outputs, SessionState]:
    """What the browser is told when a handler with `count` of the outputs returns `answer` of them."""
    with kind() as blocks:
        outputs = [gr.HTML("a"), gr.Slider(0, 9, value=1), gr.State("kept"), gr.Button("go")][:count]
        gr.Button("press").click(lambda: None, None, outputs)
    handler = blocks.default_config.fns[0]
    state = SessionState(blocks)
    return asyncio.run(blocks.postprocess_data(handler, answer(outputs), state)), outputs, state


ANSWERS: dict[str, tuple[int, Callable[[Outputs], Any]]] = {
    "one element": (4, lambda out: {out[0]: "b"}),
    "all elements": (4, lambda out: dict(zip(out, ("b", 3, "new", "on"), strict=True))),
    "an update and a value": (4, lambda out: {out[1]: gr.update(maximum=20, value=12), out[0]: "b"}),
    "a state": (4, lambda out: {out[2]: "new"}),
    "a component": (4, lambda out: {out[3]: gr.Button(interactive=False)}),
    "nothing": (4, lambda out: gr.skip()),
    "nothing of one": (4, lambda out: {out[1]: gr.skip()}),
    "a list": (4, lambda out: ["b", gr.skip(), gr.skip(), gr.update(visible=False)]),
    "None": (4, lambda out: [None, None, None, None]),
    "a single output": (1, lambda out: "b"),
    "an update of a single output": (1, lambda out: gr.update(value="b", visible=False)),
    "a single output by its element": (1, lambda out: {out[0]: "b"}),
}


def _without_echo(one: Any) -> Any:
    """Gradio sends the mark of an update to a gr.HTML once more, as one of its properties."""
    if isinstance(one, dict) and one.get("props") == {"__type__": "update"}:
        return {name: value for name, value in one.items() if name != "props"}
    return one


@pytest.mark.parametrize("name", ANSWERS)
def test_the_browser_is_told_what_gradio_would_tell(name: str):
    count, answer = ANSWERS[name]
    ours, outputs, state = told(unchanged.Blocks, answer, count)
    theirs, others, other_state = told(gr.Blocks, answer, count)
    assert [*map(_without_echo, ours)] == [*map(_without_echo, theirs)]
    for one, other in zip(outputs, others, strict=True):
        mine, its = state[one._id], other_state[other._id]
        if isinstance(one, gr.State):
            assert mine == its
        else:
            # A component that Gradio builds anew has lost the value it began with.
            assert {**mine.get_config(), "value": ""} == {**its.get_config(), "value": ""}


def test_what_stays_as_it_is_is_not_built_anew():
    _told, outputs, state = told(unchanged.Blocks, lambda out: {out[0]: "b"}, 4)
    assert state[outputs[1]._id] is outputs[1] and state[outputs[3]._id] is outputs[3]
    _told, outputs, state = told(gr.Blocks, lambda out: {out[0]: "b"}, 4)
    assert state[outputs[1]._id] is not outputs[1], "Gradio has learnt to leave it: unchanged.py is needed no longer"


@pytest.mark.parametrize("answer", [lambda out: ["b", 1], lambda out: {out[0]: "b", "no element": 1}])
def test_a_handler_s_mistake_is_still_one(answer: Callable[[Outputs], Any]):
    with pytest.raises(ValueError):
        told(unchanged.Blocks, answer, 4)


def test_a_session_describes_no_elements():
    def described(kind: type[gr.Blocks]) -> list[dict]:
        _told, _outputs, state = told(kind, lambda out: {out[0]: "b", out[1]: gr.update(value=3)}, 4)
        return list(state.components)

    assert described(gr.Blocks) and not described(unchanged.Blocks)


def test_the_page_is_described_as_gradio_does():
    def page(kind: type[gr.Blocks]) -> list[dict]:
        Context.id = 0
        with kind() as blocks:
            gr.HTML("a")
            gr.Slider(0, 9, value=1)
        SessionState(blocks)
        return blocks.get_config_file()["components"]

    assert page(unchanged.Blocks) == page(gr.Blocks)
