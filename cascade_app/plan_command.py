"""`python -m cascade_app plan`: what would go where on a card of some size, without reading any weights.

Exit code 3 and one sentence on standard error where nothing fits.
"""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

from cascade_app.catalogue import CheckpointSpec, find_checkpoint
from cascade_app.errors import InvalidRequest
from cascade_app.plan import GenerationPlan, draw_seed, make_plan
from cascade_app.request import GenerationRequest
from cascade_app.serving.sizing import DEVICE_KINDS, shown, size_up
from cascade_app.settings import Settings, parse_bytes

NOTHING_FITS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.add_argument("--checkpoint", metavar="NAME", help="name or folder (CASCADE_CHECKPOINT; default pocket)")
    parser.add_argument("--vram", metavar="SIZE", required=True, help="the whole memory of the card, such as 12GB")
    parser.add_argument("--size", metavar="WxH", help="such as 1024x1024; default the checkpoint's own")
    parser.add_argument("--images", metavar="N", help="pictures a run (default 1)")
    parser.add_argument("--placement", metavar="KIND", help=f"insist on one of {', '.join(DEVICE_KINDS)}")
    parser.add_argument("--fp8", action="store_true", help="store Stage C in 8 bits, which changes the picture a little")
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of a table")


def report(arguments: argparse.Namespace, settings: Settings) -> None:
    """Print what was decided.

    Raises:
        InvalidRequest, CheckpointError: something asked for cannot be.
        NothingFits: no placement does.
    """
    name = arguments.checkpoint or settings.checkpoint
    spec = find_checkpoint(name)
    plan = _plan(arguments, spec)
    vram_bytes = parse_bytes("--vram", arguments.vram)
    if arguments.placement not in (None, *DEVICE_KINDS):
        raise InvalidRequest(f'--placement "{arguments.placement[:40]}" is not known; choose {", ".join(DEVICE_KINDS)}.')
    facts = size_up(spec, plan, vram_bytes=vram_bytes, wanted=arguments.placement or "auto", fp8=arguments.fp8)
    print(json.dumps(facts) if arguments.json else _table(spec, plan, facts), flush=True)


def _plan(arguments: argparse.Namespace, spec: CheckpointSpec) -> GenerationPlan:
    values: dict[str, Any] = {**spec.defaults, "prompt": "a", "checkpoint": spec.name, "images": arguments.images}
    if arguments.size is not None:
        match = re.fullmatch(r"\s*(\d{1,6})\s*[xX]\s*(\d{1,6})\s*", arguments.size, re.ASCII)
        if not match:
            raise InvalidRequest(f'--size is "{arguments.size[:40]}"; write it as WIDTHxHEIGHT, such as 1024x1024.')
        values |= {"width": match[1], "height": match[2]}
    return make_plan(draw_seed(GenerationRequest.from_values(values)), spec)


def _table(spec: CheckpointSpec, plan: GenerationPlan, facts: dict[str, Any]) -> str:
    rows = [
        f"{spec.title}: {plan.summary}",
        f"Placement   {facts['placement']}",
        f"Why         {facts['reason']}",
        f"Peak        {shown(facts['predicted_peak_bytes'])} of {shown(facts['budget_bytes'])} for us on the device",
        "",
        f"{'Part':<14}{'16 bit':>9}  Where",
    ]
    rows += [f"{part['name']:<14}{shown(part['bytes']):>9}  {part['device']}" for part in facts["parts"]]
    return "\n".join(rows)
