"""What a user may ask for: one table of fields, and the frozen request made from it.

`FIELDS` is the only place that knows names, limits, defaults and the line of help of a setting; the page,
the API and the command line are all built from it. This module knows nothing of checkpoints beyond their
name: limits that depend on one (size, step) are checked in `plan.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from cascade_app.errors import InvalidRequest

REQUEST_VERSION = 1
SEED_LIMIT = 2**32  # seeds are 0 <= seed < SEED_LIMIT: exact in JSON and JavaScript, and enough for anyone
SAMPLERS = ("ddpm", "ddim")

Kind = Literal["text", "int", "float", "choice"]


@dataclass(frozen=True)
class Field:
    """One setting: its name, limits and default, and what the user is told about it.

    `default=None` means that the checkpoint decides (width, height) or that it is required (prompt).
    `minimum`, `maximum` are inclusive; for text they count characters.
    """

    name: str
    kind: Kind
    label: str
    help: str
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    flag: str = ""  # command line flag where it is not --name-with-dashes

    def parse(self, value: Any) -> Any:
        """Return `value` as this field's type, or raise InvalidRequest saying what, value, limit and cure."""
        if value is None or (isinstance(value, str) and self.kind != "text" and not value.strip()):
            value = self.default
            if value is None:
                if self.kind != "text":
                    return None
                value = ""  # required, and missing: say so in the words for an empty one
        parser = {"text": self._text, "int": self._number, "float": self._number, "choice": self._choice}
        return parser[self.kind](value)

    def _text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise self.error(f"{self.label} must be text, not {shown(value)}. Write it as one string.")
        if self.maximum is not None and len(value) > self.maximum:
            raise self.error(
                f"{self.label} has {len(value):,} characters; the limit is {self.maximum:,.0f}. Shorten it."
            )
        if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
            raise self.error(f"{self.label} holds characters that are not valid text. Remove them.")
        value = value.replace("\x00", "").strip()
        if self.minimum and len(value) < self.minimum:
            cure = "Describe the picture in a few words." if self.name == "prompt" else "Fill it in."
            raise self.error(f"{self.label} is empty. {cure}")
        return value

    def _number(self, value: Any) -> int | float:
        whole = self.kind == "int"
        what = "a whole number" if whole else "a number"
        within = f"from {_number(self.minimum)} to {_number(self.maximum)}"
        try:
            if isinstance(value, bool) or not isinstance(value, (int, float, str)):
                raise ValueError
            number = float(value)
        except (ValueError, OverflowError):
            raise self.error(f"{self.label} must be {what} {within}, not {shown(value)}.") from None
        if not math.isfinite(number) or (whole and number != int(number)):
            raise self.error(f"{self.label} must be {what} {within}, not {shown(value)}.")
        if not self.minimum <= number <= self.maximum:
            raise self.error(f"{self.label} is {shown(value)}; choose {what} {within}.")
        return int(number) if whole else number

    def _choice(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise self.error(f"{self.label} {shown(value)} is not known; choose one of {', '.join(self.choices)}.")
        return value

    def error(self, message: str) -> InvalidRequest:
        return InvalidRequest(message, field=self.name)


def _number(value: float | None) -> str:
    return f"{value:g}" if value is None or abs(value) < 1e6 else f"{value:.0f}"


def shown(value: Any) -> str:
    """A value as a message may show it: short, one line."""
    try:
        text = value[:200] if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a list nested as deep
        return "a value too long to show"
    text = "".join(character if character.isprintable() else " " for character in text)
    text = " ".join(text.split())
    text = text if len(text) <= 40 else text[:37] + "..."
    return f'"{text}"' if isinstance(value, str) else text


FIELDS: tuple[Field, ...] = (
    Field("prompt", "text", "Prompt", "What the picture shows.", minimum=1, maximum=2000),
    Field("negative_prompt", "text", "Negative prompt", "What to keep out of the picture.", default="",
          maximum=2000, flag="--negative"),
    Field("width", "int", "Width", "Pixels across; the checkpoint's own size if left alone.",
          minimum=1, maximum=8192),
    Field("height", "int", "Height", "Pixels down; the checkpoint's own size if left alone.",
          minimum=1, maximum=8192),
    Field("images", "int", "Images", "How many pictures to make, each with the next seed.",
          default=1, minimum=1, maximum=16, step=1),
    Field("seed", "int", "Seed", "The same seed and settings give the same picture; random if left alone.",
          minimum=0, maximum=SEED_LIMIT - 1, step=1),
    Field("prior_steps", "int", "Prior steps", "Stage C steps: more settle the composition, 20 is plenty.",
          default=20, minimum=1, maximum=200, step=1),
    Field("prior_guidance", "float", "Prior guidance", "How closely Stage C follows the prompt; 1 or less is off.",
          default=4.0, minimum=0, maximum=20, step=0.1),
    Field("decoder_steps", "int", "Decoder steps", "Stage B steps: more refine the detail, 10 is plenty.",
          default=10, minimum=1, maximum=100, step=1),
    Field("decoder_guidance", "float", "Decoder guidance",
          "How closely Stage B follows the prompt; 1 or less is off.",
          default=0.0, minimum=0, maximum=20, step=0.1),
    Field("sampler", "choice", "Sampler", "ddpm adds fresh noise at each step; ddim is smooth and deterministic.",
          default="ddpm", choices=SAMPLERS),
    Field("prior_shift", "float", "Prior shift",
          "Moves Stage C's noise schedule: above 1 spends more steps on the composition.",
          default=1.0, minimum=0.25, maximum=8, step=0.05),
    Field("guidance_rescale", "float", "Guidance rescale",
          "Tames the contrast of strong guidance; 0 is off, the authors use 0.7.",
          default=0.0, minimum=0, maximum=1, step=0.05),
    Field("guidance_start", "float", "Guidance from",
          "Fraction of the steps before guidance begins. Approximate: faster, another picture; 0 is exact.",
          default=0.0, minimum=0, maximum=1, step=0.05),
    Field("guidance_stop", "float", "Guidance until",
          "Fraction of the steps before guidance ends. Approximate: faster, another picture; 1 is exact.",
          default=1.0, minimum=0, maximum=1, step=0.05),
    Field("checkpoint", "text", "Checkpoint", "Name of a known checkpoint, or a folder in diffusers layout.",
          default="pocket", minimum=1, maximum=1000),
)

FIELD: Mapping[str, Field] = {field.name: field for field in FIELDS}


@dataclass(frozen=True)
class GenerationRequest:
    """What the user asked for, checked and complete but for what the checkpoint decides (None).

    Make one with `from_values`; the constructor does not check. Sizes are pixels.
    """

    prompt: str
    negative_prompt: str = ""
    width: int | None = None
    height: int | None = None
    images: int = 1
    seed: int | None = None
    prior_steps: int = 20
    prior_guidance: float = 4.0
    decoder_steps: int = 10
    decoder_guidance: float = 0.0
    sampler: str = "ddpm"
    prior_shift: float = 1.0
    guidance_rescale: float = 0.0
    guidance_start: float = 0.0
    guidance_stop: float = 1.0
    checkpoint: str = "pocket"

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> GenerationRequest:
        """Check `values` (missing ones take their default) against FIELDS.

        Raises:
            InvalidRequest: naming the first field that does not fit, or a name that is no field.
        """
        unknown = sorted(set(values) - set(FIELD))
        if unknown:
            raise InvalidRequest(
                f"{shown(unknown[0])} is not a setting; the settings are {', '.join(FIELD)}.", field=unknown[0]
            )
        request = cls(**{field.name: field.parse(values.get(field.name)) for field in FIELDS})
        if request.guidance_start > request.guidance_stop:
            raise InvalidRequest(
                f"Guidance from ({request.guidance_start:g}) lies after Guidance until "
                f"({request.guidance_stop:g}); lower the first or raise the second.",
                field="guidance_start",
            )
        return request

    def with_seed(self, seed: int) -> GenerationRequest:
        """The same request with its seed fixed."""
        return replace(self, seed=seed)

    def to_json(self) -> str:
        """One line of JSON, with the version of its format."""
        return json.dumps({"version": REQUEST_VERSION, **asdict(self)}, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> GenerationRequest:
        """Read what `to_json` wrote; checked like any other input.

        Raises:
            InvalidRequest: not JSON, not ours, of a later version, or out of limits.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidRequest("These settings are not valid JSON; they may have been cut off.") from None
        if not isinstance(values, dict):
            raise InvalidRequest("These settings are not a JSON object; they were not written by Cascade Studio.")
        version = values.pop("version", None)
        if version != REQUEST_VERSION or isinstance(version, bool):
            raise InvalidRequest(
                f"These settings have format version {shown(version)}; this Cascade Studio reads "
                f"version {REQUEST_VERSION}. Update it to read them."
            )
        return cls.from_values(values)
