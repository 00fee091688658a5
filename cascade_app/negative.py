"""The negative: Stage C's latent as a value, and how Stage C began when it did not begin at one seed and one prompt.

Owns their limits and their JSON, and checks both, because they arrive inside pictures from anywhere. Knows nothing of
tensors, files or pages.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade_app.errors import InvalidRequest
from cascade_app.request import FIELD, SEED_LIMIT

CHANNELS_LIMIT, SIDE_LIMIT = 32, 128  # a side of 128 is 5,461 px
MAGNITUDE_LIMIT = 1e3  # a latent has about unit variance
NOISE_DEPTH_LIMIT, NOISE_LEAVES_LIMIT = 64, 256


@dataclass(frozen=True)
class Negative:
    """A Stage C latent: little-endian float16 bytes of `shape` (channels, rows, columns); 18 KB for 1024 px.

    Rounded once, when Stage C ends: Stage B always sees exactly these numbers, so developing again gives the same pixels.
    """

    data: bytes
    shape: tuple[int, int, int]

    @classmethod
    def checked(cls, data: bytes, shape: tuple[int, ...]) -> Negative:
        """From bytes of unknown origin.

        Raises:
            InvalidRequest: the bytes are not a latent of that shape.
        """
        limits = (CHANNELS_LIMIT, SIDE_LIMIT, SIDE_LIMIT)
        whole = len(shape) == 3 and all(type(n) is int and 1 <= n <= most for n, most in zip(shape, limits))
        if not whole:
            raise InvalidRequest("This negative's shape is not one of a Stage C latent; the file may be damaged.")
        if len(data) != 2 * shape[0] * shape[1] * shape[2]:
            raise InvalidRequest("This negative has another length than its shape says; the file may be damaged.")
        if not all(abs(value) <= MAGNITUDE_LIMIT for (value,) in struct.iter_unpack("<e", data)):  # not for NaN either
            raise InvalidRequest("This negative holds values that no latent has; the file may be damaged.")
        return cls(data, tuple(shape))

    def to_json(self) -> dict[str, Any]:
        return {"dtype": "float16", "shape": list(self.shape), "data": base64.b64encode(self.data).decode("ascii")}

    @classmethod
    def from_json(cls, value: Any) -> Negative:
        """Raises InvalidRequest for anything that `to_json` would not write."""
        fields = _object(value, "negative", {"dtype", "shape", "data"})
        shape, text = fields.get("shape"), fields.get("data")
        longest = 4 * CHANNELS_LIMIT * SIDE_LIMIT**2
        if fields.get("dtype") != "float16" or not isinstance(shape, list) or not isinstance(text, str) or len(text) > longest:
            raise InvalidRequest("This negative is not written as Cascade Studio writes one; the file may be damaged.")
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest("This negative's bytes cannot be read; the file may be damaged.") from None
        return cls.checked(data, tuple(shape))


@dataclass(frozen=True)
class Noise:
    """Where Stage C's noise comes from: a seed, or two noises and how far to turn (slerp) from the first to the second."""

    seed: int | None = None
    mix: tuple[Noise, Noise, float] | None = None

    def to_json(self) -> Any:
        if self.mix is None:
            return self.seed
        first, second, amount = self.mix
        return {"mix": [first.to_json(), second.to_json(), amount]}

    @classmethod
    def from_json(cls, value: Any) -> Noise:
        """Raises InvalidRequest for anything that `to_json` would not write, or mixes of mixes beyond the limit."""
        noise, leaves = cls._read(value, 0)
        _check_leaves(leaves)
        return noise

    def towards(self, other: Noise, amount: float) -> Noise:
        """This noise turned towards another one, by a number from 0 to 1.

        Raises:
            InvalidRequest: mixes of mixes beyond the limit.
        """
        mixed = Noise(mix=(self, other, amount))
        if mixed.depth > NOISE_DEPTH_LIMIT:
            raise _too_deep()
        _check_leaves(mixed.leaves)
        return mixed

    @classmethod
    def _read(cls, value: Any, depth: int) -> tuple[Noise, int]:
        if depth > NOISE_DEPTH_LIMIT:
            raise _too_deep()
        if isinstance(value, dict):
            parts = _object(value, "noise", {"mix"}).get("mix")
            if not isinstance(parts, list) or len(parts) != 3:
                raise InvalidRequest("A mix of noises is two noises and an amount; the file may be damaged.")
            first, left = cls._read(parts[0], depth + 1)
            second, right = cls._read(parts[1], depth + 1)
            return cls(mix=(first, second, fraction(parts[2], "amount of a mix"))), left + right
        if type(value) is not int or not 0 <= value < SEED_LIMIT:
            raise InvalidRequest(f"The seed of a noise must be a whole number from 0 to {SEED_LIMIT - 1}.")
        return cls(seed=value), 1

    @property
    def depth(self) -> int:
        """How many mixes lie on top of each other."""
        return 0 if self.mix is None else 1 + max(self.mix[0].depth, self.mix[1].depth)

    @property
    def leaves(self) -> int:
        """How many seeds it is mixed from."""
        return 1 if self.mix is None else self.mix[0].leaves + self.mix[1].leaves


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"This noise is mixed more than {NOISE_DEPTH_LIMIT} times; start from a fresh seed.")


def _check_leaves(leaves: int) -> None:
    if leaves > NOISE_LEAVES_LIMIT:
        raise InvalidRequest(
            f"This noise is mixed from {leaves} seeds; the limit is {NOISE_LEAVES_LIMIT}. Start from a fresh seed."
        )


def between(first: Negative, second: Negative, amount: float) -> Negative:
    """`first` turned towards `second` (slerp), by a number from 0 to 1; its spread stays that of the two.

    Raises:
        InvalidRequest: they have different shapes.
    """
    if first.shape != second.shape:
        sizes = " and ".join(f"{one.shape[2]} x {one.shape[1]}" for one in (first, second))
        raise InvalidRequest(f"These negatives have {sizes} cells; only negatives of the same size can be blended.")
    a, b = ([value for (value,) in struct.iter_unpack("<e", one.data)] for one in (first, second))
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    cosine = sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 1.0
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    near, far = 1 - amount, amount
    if math.sin(angle) > 1e-4:
        near, far = (math.sin(part * angle) / math.sin(angle) for part in (near, far))
    mixed = [near * x + far * y for x, y in zip(a, b, strict=True)]
    return Negative.checked(struct.pack(f"<{len(mixed)}e", *mixed), first.shape)


@dataclass(frozen=True)
class Start:
    """How Stage C begins for one image, when not with its seed's noise and the request's prompt alone.

    noise: instead of the seed's own noise.
    source, strength: begin from this negative, noised up to `strength` of the schedule (0 keeps it, 1 forgets it).
    blend_prompt, blend: the prompt's embedding moved by `blend` (0 to 1) towards that of another prompt.
    """

    noise: Noise | None = None
    source: Negative | None = None
    strength: float = 1.0
    blend_prompt: str = ""
    blend: float = 0.0

    def to_json(self) -> dict[str, Any]:
        result: dict[str, Any] = {}
        if self.noise is not None:
            result["noise"] = self.noise.to_json()
        if self.source is not None:
            result.update(source=self.source.to_json(), strength=self.strength)
        if self.blend:
            result.update(blend_prompt=self.blend_prompt, blend=self.blend)
        return result

    @classmethod
    def from_json(cls, value: Any) -> Start:
        """Raises InvalidRequest for anything that `to_json` would not write."""
        fields = _object(value, "start", {"noise", "source", "strength", "blend_prompt", "blend"})
        return cls(
            noise=Noise.from_json(fields["noise"]) if "noise" in fields else None,
            source=Negative.from_json(fields["source"]) if "source" in fields else None,
            strength=fraction(fields.get("strength", 1.0), "strength"),
            blend_prompt=FIELD["negative_prompt"].parse(fields.get("blend_prompt", "")),
            blend=fraction(fields.get("blend", 0.0), "blend"),
        )


def fraction(value: Any, what: str) -> float:
    """`value` as a number from 0 to 1. Raises InvalidRequest."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InvalidRequest(f"The {what} must be a number from 0 to 1.")
    return float(value)


def _object(value: Any, what: str, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not set(value) <= known:
        raise InvalidRequest(f"The {what} in these settings is not written as Cascade Studio writes one.")
    return value
