"""A page whose updates cost as much as they change.

A handler names the elements that change; to Gradio every other output of its event then is one with an empty update, and for
each of those it builds the component and describes it twice: with a dozen outputs some ten milliseconds of the server's one
event loop, at every step of every run.
"""

from __future__ import annotations

import copy
import inspect
from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction, convert_component_dict_to_list
from gradio.state_holder import SessionState


class Blocks(gr.Blocks):
    """Gradio's, but for what is left as it is: that is told to the browser and not worked on."""

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: list | dict, state: SessionState | None
    ) -> list[Any]:
        """As Gradio's: what the browser is told, an entry an output."""
        outputs = list(block_fn.outputs)
        listed = _listed(outputs, predictions)
        if listed is None or block_fn.batch or len(outputs) < 2:
            return await super().postprocess_data(block_fn, predictions, state)
        changed = [n for n, value in enumerate(listed) if outputs[n].stateful or not _is_skip(value)]
        told: list[Any] = [gr.skip() for _ in outputs]
        if changed:
            some = copy.copy(block_fn)
            some.outputs = [outputs[n] for n in changed]
            values: Any = [listed[n] for n in changed]
            # A function with one output returns it bare.
            of_some = await super().postprocess_data(some, values if len(values) > 1 else values[0], state)
            for n, one in zip(changed, of_some, strict=True):
                told[n] = one
        return told


def remember_signatures(blocks: gr.Blocks) -> None:
    """Have Python keep what the components' constructors take: Gradio asks anew for each component it describes.

    A session begins with a description of the whole page, and half of the time for that went into these answers.
    """
    for kind in {type(one) for one in blocks.blocks.values()}:
        for ancestor in kind.__mro__:
            constructor = ancestor.__dict__.get("__init__")
            while inspect.isfunction(constructor):
                if not hasattr(constructor, "__signature__"):
                    constructor.__signature__ = inspect.signature(constructor)  # what `inspect` looks for first
                constructor = getattr(constructor, "__wrapped__", None)


def _is_skip(value: Any) -> bool:
    return isinstance(value, dict) and value == gr.skip()


def _listed(outputs: list[Any], predictions: Any) -> list[Any] | None:
    """A value an output; None for what is better left to Gradio, mistakes among it."""
    if _is_skip(predictions):
        return [gr.skip()] * len(outputs)
    if isinstance(predictions, dict) and predictions:
        predictions = convert_component_dict_to_list(outputs, predictions)
    fits = isinstance(predictions, (list, tuple)) and len(predictions) == len(outputs)
    return list(predictions) if fits else None
