"""What can be told of a checkpoint, and of a request that is not run: plain values, fit for JSON.

Nothing here waits for the engine or reads a weight.
"""

from __future__ import annotations

from typing import Any

from cascade_app.catalogue import CheckpointSpec
from cascade_app.errors import CascadeError
from cascade_app.plan import GenerationPlan
from cascade_app.request import GenerationRequest
from cascade_app.serving.backend import Backend
from cascade_app.serving.offer import offered
from cascade_app.work import WHOLE, Work


def checkpoint_facts(backend: Backend, launched: str) -> list[dict[str, Any]]:
    """Every checkpoint that may be asked for, that of the server first."""
    return [_checkpoint(backend, name) for name in offered(launched)]


def _checkpoint(backend: Backend, name: str) -> dict[str, Any]:
    try:
        spec = backend.checkpoint(name)
    except CascadeError as error:
        return {"name": name, "problem": error.message}
    return {
        "name": spec.name,
        "title": spec.title,
        "license": spec.license,
        "license_to_accept": spec.license_to_accept,
        "license_accepted": backend.license_accepted(spec.license_to_accept),
        "on_this_machine": spec.is_on_disk,
        "parts": {part: {"parameters": facts.parameters, "bytes": facts.bytes} for part, facts in spec.parts.items()},
        "default_size": spec.default_size_px,
        "min_size": spec.min_size_px,
        "max_size": spec.max_size_px,
        "size_step": spec.size_step_px,
        "defaults": dict(spec.defaults),
        "presets": {preset: dict(values) for preset, values in spec.presets.items()},
    }


def plan_facts(backend: Backend, request: GenerationRequest, work: Work = WHOLE) -> dict[str, Any]:
    """What would be made of `request`, and whether the engine could begin now.

    Raises:
        CascadeError: it cannot be made.
    """
    plan = backend.plan(request, work)
    return {
        "summary": plan.summary,
        "checkpoint": plan.checkpoint_name,
        "images": len(plan.seeds),
        "width": plan.width,
        "height": plan.height,
        "seeds": list(plan.seeds),
        "prompts": [words.prompt for words in plan.words],
        "negative_prompts": [words.negative_prompt for words in plan.words],
        "prior_steps": max(plan.prior_steps),
        "decoder_steps": plan.decoder_steps,
        "guided": {"prior": plan.guides_prior, "decoder": plan.guides_decoder},
        "latents": {"prior": list(plan.prior_shape), "decoder": None if plan.sketch else list(plan.decoder_shape)},
        "weights_bytes": _weights_bytes(backend.checkpoint(request.checkpoint), plan),
        "engine": _engine(backend),
        "notes": _notes(backend, request, plan),
    }


def _weights_bytes(spec: CheckpointSpec, plan: GenerationPlan) -> int:
    """In 16 bits, of the networks that this plan needs."""
    needed = ("text_encoder", "prior") if plan.sketch else tuple(spec.parts)
    return sum(part.bytes for name, part in spec.parts.items() if name in needed)


def _engine(backend: Backend) -> dict[str, Any]:
    """The engine as it is: where the weights of the last run were, and what is free."""
    facts: dict[str, Any] = {"state": backend.status().state}
    report = backend.system()
    if report is None:
        return facts
    return facts | {
        "device": report.device,
        "dtype": report.dtype,
        "placement": report.placement or None,  # decided when a run begins, from what is free then
        "placement_reason": report.reason or None,
        "device_free_bytes": report.device_free_bytes or None,
        "host_free_bytes": report.host_free_bytes,
    }


def _notes(backend: Backend, request: GenerationRequest, plan: GenerationPlan) -> list[str]:
    notes = [backend.unread(plan)]
    if request.seed is None:
        notes.append(f"The seed was left open and is drawn anew each time; send {plan.seeds[0]} to have these.")
    if not backend.license_accepted(backend.checkpoint(request.checkpoint).license_to_accept):
        notes.append("The licence of this checkpoint has to be accepted before it makes a picture.")
    return [note for note in notes if note]
