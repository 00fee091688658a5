"""An exploration's steps, as what to run: from records and requests to a request and its `Work`.

Pure but for fresh seeds, and knows nothing of engines or pages. Every child names its parents and what made it, and its own
record makes it again: its request and its start say all that Stage C depends on.

What a change does.
    vary, "slerp"     All of Stage C's noise is turned towards a fresh seed's, from subtle (SLERP[0]) to strong (SLERP[1]; 1 would
                      be another picture). The seed stays, and with it Stage B's noise. On the bundled checkpoint this moves the
                      negative by 0.1 to 0.8 of its distance from an unrelated one; so does the other way.
    vary, "renoise"   The negative itself is noised up to a part of the schedule (RENOISE) with fresh noise, and finished.
    blend             Where both come from noise alone: their noises are turned and their words blended, so that the ends are the
                      two pictures. Where one began from a source: the two negatives are turned, noised (BLEND_STRENGTH) and
                      finished. The first one's seed and other settings hold for all.
Words can be blended from two prompts at most: of a blend that would take more, each end counts as its heavier prompt.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

from cascade_app.errors import InvalidRequest
from cascade_app.negative import Negative, Noise, Start, between, fraction
from cascade_app.plan import draw_seed
from cascade_app.record import Record
from cascade_app.request import FIELD, SEED_LIMIT, GenerationRequest, shown
from cascade_app.work import Origin, Work

Order = tuple[GenerationRequest, Work]  # what `Backend.generate` takes

SLERP = (0.1, 0.6)
RENOISE = (0.1, 0.75)
AMOUNTS: Mapping[str, float] = {"subtle": 0.0, "medium": 0.5, "strong": 1.0}
BLEND_STRENGTH = 0.5
DECODER_FIELDS = ("decoder_steps", "decoder_guidance")  # what Stage B alone reads


def sketches(request: GenerationRequest, count: int) -> Order:
    """`count` negatives, from the request's seed on."""
    return replace(request, images=FIELD["images"].parse(count)), Work(sketch=True)


def develop(record: Record, **settings: Any) -> Order:
    """Stage B and A on a record's negative, with some of DECODER_FIELDS changed, or the checkpoint.

    Raises:
        InvalidRequest: the record holds no negative, or a setting is none of these or out of its limits.
    """
    [order] = develop_all([record], **settings)
    return order


def develop_all(records: Sequence[Record], **settings: Any) -> tuple[Order, ...]:
    """The same for many: those that differ in nothing but their seeds and starts go in one run. Raises as `develop`."""
    for name in settings:
        if name not in (*DECODER_FIELDS, "checkpoint"):
            raise InvalidRequest(
                f"{shown(name)} does not change how a negative is developed; {', '.join(DECODER_FIELDS)} do.", field=name
            )
    runs: dict[GenerationRequest, list[Origin]] = {}
    for record in records:
        request = _changed(record.request, **settings)
        runs.setdefault(replace(request, seed=0), []).append(_child(record, "develop", negative=_negative(record)))
    most = int(FIELD["images"].maximum)
    return tuple(
        _order(request, origins[begin : begin + most])
        for request, origins in runs.items()
        for begin in range(0, len(origins), most)
    )


def vary(
    record: Record,
    amount: float | str,
    count: int = 1,
    *,
    how: Literal["slerp", "renoise"] = "slerp",
    prompt: str | None = None,
    sketch: bool = False,
    seed: int | None = None,
) -> Order:
    """`count` children near a record.

    Args:
        amount: from 0 (subtle) to 1 (strong), or a name of AMOUNTS.
        how: what is changed; see the module's description. "renoise" needs the negative.
        prompt: other words for them; the record's own if None.
        sketch: negatives only.
        seed: of the first child's fresh noise, the others count on from it; drawn if None.

    Raises:
        InvalidRequest: an argument is out of its limits, or the record holds no negative.
    """
    amount = fraction(AMOUNTS.get(amount, amount) if isinstance(amount, str) else amount, "amount of a variation")
    begun = record.start or Start()
    if prompt is not None and prompt != record.request.prompt:
        begun = replace(begun, blend_prompt="", blend=0.0)
    fresh = _fresh_seeds(seed, FIELD["images"].parse(count))
    if how == "renoise":
        source = _negative(record)
        starts = [replace(begun, noise=noise, source=source, strength=_within(RENOISE, amount)) for noise in fresh]
    elif how == "slerp":
        own = _noise(record)
        starts = [replace(begun, noise=own.towards(noise, _within(SLERP, amount))) for noise in fresh]
    else:
        raise InvalidRequest(f"A variation by {shown(how)} is not known; choose slerp or renoise.")
    request = record.request if prompt is None else _changed(record.request, prompt=prompt)
    return _order(request, [_child(record, "vary", start=start) for start in starts], sketch=sketch)


def new_words(record: Record, prompt: str, *, sketch: bool = False) -> Order:
    """The same noise (and source, where it has one), with another prompt."""
    start = record.start and replace(record.start, blend_prompt="", blend=0.0)
    origin = _child(record, "words", start=start if start != Start() else None)
    return _order(_changed(record.request, prompt=prompt), [origin], sketch=sketch)


def blend(first: Record, second: Record, steps: int, *, sketch: bool = False) -> Order:
    """`steps` children between two records, evenly spaced, without the two themselves. See the module's description.

    Raises:
        InvalidRequest: they have different sizes, or one began from a source and one holds no negative.
    """
    steps = FIELD["images"].parse(steps)
    sizes = {(one.request.width, one.request.height) for one in (first, second)}
    if len(sizes) > 1:
        named = " and ".join(f"{one.request.width} x {one.request.height}" for one in (first, second))
        raise InvalidRequest(f"These are {named} px; only negatives of the same size can be blended.")
    sourced = any(one.start is not None and one.start.source is not None for one in (first, second))
    prompts = _two_prompts(first, second)
    children = []
    for step in range(1, steps + 1):
        amount = step / (steps + 1)
        start = Start(noise=_noise(first).towards(_noise(second), amount))
        if sourced:
            source = between(_negative(first), _negative(second), amount)
            start = Start(noise=_noise(first), source=source, strength=BLEND_STRENGTH)
        start = _worded(start, prompts, first, second, amount)
        parents = (first.id, second.id)
        children.append(replace(_child(first, "blend", start=start), parents=parents))
    return _order(replace(first.request, prompt=prompts[0]), children, sketch=sketch)


def blend_prompts(begin: Record | GenerationRequest, prompt: str, steps: int, *, sketch: bool = False) -> Order:
    """`steps` children on the way to another prompt, which is the last one's; from a request, the first has its own words.

    Raises:
        InvalidRequest: the prompt or the number is out of its limits.
    """
    steps, prompt = FIELD["images"].parse(steps), FIELD["prompt"].parse(prompt)
    if isinstance(begin, GenerationRequest):
        request = draw_seed(begin)
        amounts = [step / max(1, steps - 1) for step in range(steps)]
        plain = Origin(request.seed, "blend")
        return _order(request, [replace(plain, start=_led(Start(), prompt, amount)) for amount in amounts], sketch=sketch)
    words = max(_words(begin).items(), key=lambda item: item[1])[0]
    begun = begin.start or Start()
    starts = [_led(begun, prompt, step / steps) for step in range(1, steps + 1)]
    return _order(
        replace(begin.request, prompt=words), [_child(begin, "blend", start=start) for start in starts], sketch=sketch
    )


def regenerate(record: Record) -> Order:
    """All of it again, from its settings alone."""
    return _order(record.request, [_child(record, "generate", start=record.start)], sketch=record.kind == "sketch")


# --- parts ---


def _child(record: Record, action: str, *, start: Start | None = None, negative: Negative | None = None) -> Origin:
    return Origin(
        seed=record.request.seed,
        action=action,
        parents=(record.id,),
        start=record.start if negative is not None else start,
        negative=negative,
        made_by=record.checkpoint_digest,
    )


def _order(request: GenerationRequest, origins: Sequence[Origin], *, sketch: bool = False) -> Order:
    own = replace(request, seed=origins[0].seed, images=len(origins))
    return own, Work(sketch=sketch, origins=tuple(origins))


def _changed(request: GenerationRequest, **values: Any) -> GenerationRequest:
    return GenerationRequest.from_values({**asdict(request), **values})


def _negative(record: Record) -> Negative:
    if record.negative is None:
        raise InvalidRequest("This picture holds no negative; generate it again, and the new one does.")
    return record.negative


def _noise(record: Record) -> Noise:
    start = record.start
    return start.noise if start is not None and start.noise is not None else Noise(seed=record.request.seed)


def _fresh_seeds(seed: int | None, count: int) -> list[Noise]:
    first = secrets.randbelow(SEED_LIMIT) if seed is None else FIELD["seed"].parse(seed)
    return [Noise(seed=(first + number) % SEED_LIMIT) for number in range(count)]


def _within(limits: tuple[float, float], amount: float) -> float:
    return round(limits[0] + (limits[1] - limits[0]) * amount, 4)


# --- words ---


def _words(record: Record) -> dict[str, float]:
    """The prompts a record's words are made of, and their weights."""
    start = record.start
    if start is None or not start.blend:
        return {record.request.prompt: 1.0}
    weights = {record.request.prompt: 1 - start.blend}
    weights[start.blend_prompt] = weights.get(start.blend_prompt, 0.0) + start.blend
    return {prompt: weight for prompt, weight in weights.items() if weight}


def _two_prompts(first: Record, second: Record) -> tuple[str, str]:
    """The prompts between which a blend of the two lies; the same twice where there is nothing to blend."""
    here, there = _words(first), _words(second)
    known = list(dict.fromkeys([*here, *there]))
    if len(known) <= 2:
        return known[0], known[-1]
    return max(here, key=here.__getitem__), max(there, key=there.__getitem__)


def _worded(start: Start, prompts: tuple[str, str], first: Record, second: Record, amount: float) -> Start:
    if prompts[0] == prompts[1]:
        return start
    here, there = (_weight(record, prompts, end) for record, end in ((first, 0.0), (second, 1.0)))
    return _led(start, prompts[1], (1 - amount) * here + amount * there)


def _weight(record: Record, prompts: tuple[str, str], otherwise: float) -> float:
    """How far a record's words are on the way between two prompts."""
    words = _words(record)
    return words.get(prompts[1], 0.0) if set(words) <= set(prompts) else otherwise


def _led(start: Start, prompt: str, amount: float) -> Start:
    return replace(start, blend_prompt=prompt if amount else "", blend=amount)
