"""Settings as other tools write them into pictures: the "parameters" text, and ComfyUI's graph of nodes. Pure.

Each gives those settings that we have too, unchecked, and sentences on what it had to leave out. A graph is walked by what
its nodes are, never run. Knows nothing of files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cascade_app.errors import InvalidRequest
from cascade_app.request import SAMPLERS, shown

LINE_LIMIT = 20_000
NODES_LIMIT, HOPS_LIMIT = 2_000, 64
_PAIR = re.compile(r'\s*([A-Za-z][\w /-]{0,60}):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')
_NAMES = {  # in the parameters line -> ours
    "Steps": "prior_steps", "CFG scale": "prior_guidance", "Seed": "seed", "Decoder steps": "decoder_steps",
    "Decoder CFG scale": "decoder_guidance",
}  # fmt: skip
_WIDGETS = {  # a saved workflow lists values without names; these are the names of the nodes we read
    "KSampler": ("seed", "", "steps", "cfg", "sampler_name"),
    "KSamplerAdvanced": ("", "noise_seed", "", "steps", "cfg", "sampler_name"),
    "CLIPTextEncode": ("text",),
    "EmptyLatentImage": ("width", "height"),
    "StableCascade_EmptyLatentImage": ("width", "height"),
}
_PASSED = ("positive", "negative", "conditioning", "conditioning_1", "conditioning_to", "conditioning_from", "samples")


@dataclass
class Taken:
    """Settings by their names in `request.FIELDS`, as they were found, and sentences on what was not taken."""

    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def sampler(self, name: Any) -> None:
        if name in SAMPLERS:
            self.values["sampler"] = name
        elif name is not None:
            self.notes.append(f"The sampler {shown(name)} is not one of ours; {SAMPLERS[0]} stays.")


def parameters(text: str) -> Taken:
    """The common text: the prompt, "Negative prompt: ...", and last a line of "Name: value" pairs."""
    taken = Taken()
    lines = text.strip().split("\n")
    last = lines[-1][:LINE_LIMIT]
    pairs = {name.strip(): value.strip().strip('"') for name, value in _PAIR.findall(last)} if "Steps:" in last else {}
    if pairs:
        lines.pop()
    prompt, _, negative = "\n".join(lines).partition("Negative prompt:")
    taken.values = {"prompt": _clean(prompt), "negative_prompt": _clean(negative)}
    taken.values |= {ours: pairs[theirs] for theirs, ours in _NAMES.items() if theirs in pairs}
    if match := re.fullmatch(r"(\d{1,6})x(\d{1,6})", pairs.get("Size", "")):
        taken.values |= {"width": match[1], "height": match[2]}
    taken.sampler(pairs.get("Sampler"))
    if "Model" in pairs:
        taken.notes.append(f"It was made with the model {shown(pairs['Model'])}, which is not chosen here.")
    others = sorted(set(pairs) - {*_NAMES, "Size", "Sampler", "Model"})
    if others:
        taken.notes.append(f"Left out, as there is nothing like it here: {shown(', '.join(others))[1:-1]}.")
    return taken


def _clean(text: str) -> str:
    """Words without what no keyboard writes."""
    return "".join(one if one.isprintable() or one == "\n" else " " for one in text).strip()


# --- ComfyUI ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Node:
    kind: str
    inputs: Mapping[str, Any]  # a value, or a list whose first part is the id of the node it comes from


def comfyui(prompt: str, workflow: str) -> Taken:
    """The graph that was run ("prompt"), or the one on the screen ("workflow") where only that is there.

    Raises:
        InvalidRequest: neither is a graph, or nothing in it makes a picture from words.
    """
    nodes = _nodes_of_prompt(_parsed(prompt)) or _nodes_of_workflow(_parsed(workflow))
    samplers = [node for node in nodes.values() if "KSampler" in node.kind]
    if not samplers:
        raise InvalidRequest("This picture holds a ComfyUI graph without a sampler that we know; its settings cannot be read.")
    taken = Taken()
    decoders = [node for node in samplers if any("StageB" in one.kind for one in _before(nodes, node))]
    priors = [node for node in samplers if node not in decoders]
    if priors:
        _take_prior(taken, nodes, priors[0])
    if decoders:
        _take(taken, decoders[0], {"steps": "decoder_steps", "cfg": "decoder_guidance"})
    if len(priors) > 1:
        taken.notes.append(f"The graph has {len(samplers)} samplers; only the first ones were read.")
    taken.notes.append("Other nodes of the ComfyUI graph, such as models and LoRAs, are left out.")
    return taken


def _take_prior(taken: Taken, nodes: Mapping[str, _Node], sampler: _Node) -> None:
    _take(taken, sampler, {"seed": "seed", "noise_seed": "seed", "steps": "prior_steps", "cfg": "prior_guidance"})
    taken.sampler(sampler.inputs.get("sampler_name"))
    for side, name in (("positive", "prompt"), ("negative", "negative_prompt")):
        words = [
            text for node in _before(nodes, sampler, through=side) if "TextEncode" in node.kind
            for text in [_clean(_text(nodes, node.inputs.get("text")))] if text
        ]  # fmt: skip
        if words:
            taken.values[name] = words[0]
    for node in _before(nodes, sampler, through="latent_image"):
        if "EmptyLatent" in node.kind:
            _take(taken, node, {"width": "width", "height": "height"})


def _take(taken: Taken, node: _Node, names: Mapping[str, str]) -> None:
    for theirs, ours in names.items():
        value = node.inputs.get(theirs)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            taken.values[ours] = value


def _text(nodes: Mapping[str, _Node], value: Any) -> str:
    """Words, also where another node holds them."""
    for _ in range(HOPS_LIMIT):
        if isinstance(value, str):
            return value
        node = nodes.get(_source(value))
        if node is None:
            return ""
        value = next((node.inputs[name] for name in ("text", "string", "value", "text_g") if name in node.inputs), None)
    return ""


def _before(nodes: Mapping[str, _Node], node: _Node, *, through: str = "") -> Iterator[_Node]:
    """Nodes that `node`'s words, or what comes `through` one of its inputs, come from; the nearest first, each once."""
    waiting = [node.inputs.get(name) for name in ([through] if through else _PASSED)]
    seen: set[str] = set()
    while waiting:
        id = _source(waiting.pop(0))
        if id in seen or id not in nodes:
            continue
        seen.add(id)
        yield nodes[id]
        waiting += [nodes[id].inputs.get(name) for name in _PASSED]


def _source(value: Any) -> str:
    """The id of the node a link comes from; "" for what is no link."""
    return str(value[0]) if isinstance(value, list) and value and isinstance(value[0], (str, int)) else ""


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _nodes_of_prompt(graph: Any) -> dict[str, _Node]:
    if not isinstance(graph, dict):
        return {}
    return {
        id: _Node(node["class_type"], node["inputs"])
        for id, node in list(graph.items())[:NODES_LIMIT]
        if isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)
    }


def _nodes_of_workflow(graph: Any) -> dict[str, _Node]:
    if not isinstance(graph, dict) or not isinstance(graph.get("nodes"), list):
        return {}
    links = graph.get("links") if isinstance(graph.get("links"), list) else []
    sources = {str(link[0]): link[1] for link in links if isinstance(link, list) and len(link) > 1}
    nodes: dict[str, _Node] = {}
    for node in graph["nodes"][:NODES_LIMIT]:
        if not isinstance(node, dict) or not isinstance(node.get("type"), str):
            continue
        values = node.get("widgets_values")
        names = _WIDGETS.get(node["type"], ("value",))
        inputs = dict(zip(names, values, strict=False)) if isinstance(values, list) else {}
        for one in node.get("inputs") if isinstance(node.get("inputs"), list) else []:
            if isinstance(one, dict) and isinstance(one.get("name"), str) and str(one.get("link")) in sources:
                inputs[one["name"]] = [sources[str(one["link"])], 0]
        nodes[str(node.get("id"))] = _Node(node["type"], inputs)
    return nodes
