"""A record: what is kept of one result beside its pixels. It travels inside the PNG, and the gallery's index is made from it."""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
import time
from dataclasses import dataclass, replace
from typing import Any, Literal

from cascade_app.errors import InvalidRequest
from cascade_app.negative import Negative, Start
from cascade_app.plan import GenerationPlan, own_request
from cascade_app.request import GenerationRequest, shown
from cascade_app.work import ACTIONS

RECORD_VERSION = 2  # 1 was a bare request
PARENTS_LIMIT = 4
_ID = re.compile(r"[0-9a-f]{32}")
_FIELDS = {"version", "id", "kind", "created_s", "action", "parents", "request", "start", "negative", "checkpoint_digest"}


def new_id() -> str:
    """Unguessable: 32 hexadecimal digits."""
    return secrets.token_hex(16)


def is_id(value: Any) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


@dataclass(frozen=True)
class Record:
    """One picture or sketch.

    request: makes this one image again: one image, its own seed, its real size.
    created_s: seconds since 1970, UTC.
    checkpoint_digest: says which weights made it; "" where that is not known.
    """

    id: str
    kind: Literal["picture", "sketch"]
    created_s: float
    request: GenerationRequest
    action: str = "generate"
    parents: tuple[str, ...] = ()
    start: Start | None = None
    negative: Negative | None = None
    checkpoint_digest: str = ""

    def to_json(self, *, with_negatives: bool = True) -> str:
        """One line of JSON. Without negatives it is small enough for JPEG's and WebP's metadata."""
        values: dict[str, Any] = {
            "version": RECORD_VERSION, "id": self.id, "kind": self.kind, "created_s": self.created_s, "action": self.action,
            "parents": list(self.parents), "request": json.loads(self.request.to_json()),
            "checkpoint_digest": self.checkpoint_digest,
        }  # fmt: skip
        if self.start is not None and (with_negatives or self.start.source is None):
            values["start"] = self.start.to_json()
        if self.negative is not None and with_negatives:
            values["negative"] = self.negative.to_json()
        return json.dumps(values, ensure_ascii=False, allow_nan=False)

    def reproducible(self) -> Record:
        """The same with an id made of its content and no time, so that the same command writes the same bytes again."""
        timeless = replace(self, id="0" * 32, created_s=0.0)
        return replace(timeless, id=hashlib.sha256(timeless.to_json().encode()).hexdigest()[:32])

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Read what `to_json` wrote, or a version 1 request, as a record of its own; checked like any other input.

        Raises:
            InvalidRequest: not JSON, not ours, of a later version, or out of limits.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidRequest("These settings are not valid JSON; they may have been cut off.") from None
        if not isinstance(values, dict):
            raise InvalidRequest("These settings are not a JSON object; they were not written by Cascade Studio.")
        version = values.get("version")
        if version == 1 and version is not True:
            return cls(new_id(), "picture", 0.0, GenerationRequest.from_json(text))
        if version != RECORD_VERSION or isinstance(version, bool):
            raise InvalidRequest(
                f"These settings have format version {shown(version)}; this Cascade Studio reads versions 1 and "
                f"{RECORD_VERSION}. Update it to read them."
            )
        return cls._checked(values)

    @classmethod
    def _checked(cls, values: dict[str, Any]) -> Record:
        parents, created_s, digest = values.get("parents", []), values.get("created_s", 0.0), values.get("checkpoint_digest", "")
        number = isinstance(created_s, (int, float)) and not isinstance(created_s, bool)
        sound = (
            set(values) <= _FIELDS
            and is_id(values.get("id"))
            and values.get("kind") in ("picture", "sketch")
            and values.get("action") in ACTIONS
            and isinstance(parents, list) and len(parents) <= PARENTS_LIMIT and all(is_id(parent) for parent in parents)
            and number and math.isfinite(created_s) and 0 <= created_s < 1e11
            and isinstance(digest, str) and len(digest) <= 100
            and isinstance(values.get("request"), dict)
        )  # fmt: skip
        if not sound:
            raise InvalidRequest("These settings are not written as Cascade Studio writes them; the file may be damaged.")
        return cls(
            id=values["id"],
            kind=values["kind"],
            created_s=float(created_s),
            request=GenerationRequest.from_json(json.dumps(values["request"])),
            action=values["action"],
            parents=tuple(parents),
            start=Start.from_json(values["start"]) if "start" in values else None,
            negative=Negative.from_json(values["negative"]) if "negative" in values else None,
            checkpoint_digest=digest,
        )


def record_of(plan: GenerationPlan, index: int, *, negative: Negative, checkpoint_digest: str = "") -> Record:
    """What to keep of image `index` of a run, now that it is made from `negative`."""
    origin = plan.origins[index]
    return Record(
        id=new_id(),
        kind="sketch" if plan.sketch else "picture",
        created_s=time.time(),
        request=own_request(plan, origin.seed),
        action=origin.action,
        parents=origin.parents,
        start=origin.start,
        negative=negative,
        checkpoint_digest=checkpoint_digest,
    )
