"""A page whose updates cost as much as they change.

A handler names the elements that change; to Gradio every other output of its event then is one with an empty update, and for
each of those it builds the component and describes it twice: with a dozen outputs some ten milliseconds of the server's one
event loop, at every step of every run.

A session, too, begins with a description of every element, and keeps one of what it changes: 240 KB and a fifth of the loop's
time where many ask. Only Gradio's deep links are made of these, and the border refuses them.
"""

from __future__ import annotations

import copy
from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction, BlocksConfig, convert_component_dict_to_list
from gradio.state_holder import SessionState


class _Elements(BlocksConfig):
    """What a page is made of. A session's copy of it describes nothing."""

    def __copy__(self) -> BlocksConfig:
        mine = super().__copy__()
        mine.config_for_block = _undescribed
        return mine


class Blocks(gr.Blocks):
    """Gradio's, but for what is left as it is: that is told to the browser and not worked on."""

    def __init__(self, *values: Any, **settings: Any) -> None:
        super().__init__(*values, **settings)
        begun, self.default_config = self.default_config, _Elements(self)
        vars(self.default_config).update(vars(begun))

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


def _undescribed(*_block: Any) -> dict[str, Any]:
    return {}


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
