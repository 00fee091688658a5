"""The Spacefile, and the README front matter made from it. Pure.

Knows the form of the two and what the hub's Spaces reference allows in them; nothing of the app.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import yaml

FENCE = "---\n"
COLOURS = frozenset({"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"})
# What the reference lets a Space suggest. It may be put on more: those the hub's library names.
SUGGESTED_HARDWARE = frozenset(
    """
    cpu-basic cpu-upgrade t4-small t4-medium l4x1 l4x4 l40sx1 l40sx4 l40sx8 a10g-small a10g-large a10g-largex2
    a10g-largex4 a100-large a100x4 a100x8
    """.split()
)
CUSTOM_HEADERS = frozenset(
    {"cross-origin-embedder-policy", "cross-origin-opener-policy", "cross-origin-resource-policy"}
)
MAX_SHORT_DESCRIPTION = 60

_Check = Callable[[Any], bool]


def _matches(pattern: str) -> _Check:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _one_of(*choices: str) -> _Check:
    return lambda value: isinstance(value, str) and value in choices


def _is_true_or_false(value: Any) -> bool:
    return isinstance(value, bool)


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _are_headers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name in CUSTOM_HEADERS and isinstance(text, str) and text == text.lower() for name, text in value.items()
    )


def _is_emoji(value: Any) -> bool:
    return isinstance(value, str) and value != "" and not any(letter.isalnum() or letter.isascii() for letter in value)


# The keys of the hub's Spaces reference, and `license` of its metadata reference: what each takes, in words and as a check.
KEYS: Mapping[str, tuple[str, _Check]] = MappingProxyType(
    {
        "title": ("text", _matches(r".+")),
        "emoji": ("one emoji", _is_emoji),
        "colorFrom": (f"one of {', '.join(sorted(COLOURS))}", _one_of(*COLOURS)),
        "colorTo": (f"one of {', '.join(sorted(COLOURS))}", _one_of(*COLOURS)),
        "sdk": ("gradio, docker or static", _one_of("gradio", "docker", "static")),
        "sdk_version": ("a version in quotes, such as '6.31.0'", _matches(r"\d+(\.\d+){1,2}")),
        "python_version": ("a version in quotes, such as '3.12'", _matches(r"3\.\d+(\.\d+)?")),
        "app_file": ("a path in the repository", _matches(r"(?!/)(?!.*\.\.)\S+")),
        "suggested_hardware": (f"one of {', '.join(sorted(SUGGESTED_HARDWARE))}", _one_of(*SUGGESTED_HARDWARE)),
        "startup_duration_timeout": ("a duration such as 30m or 1h", _matches(r"[1-9]\d*[smh]")),
        "short_description": (f"at most {MAX_SHORT_DESCRIPTION} characters", _matches(rf".{{1,{MAX_SHORT_DESCRIPTION}}}")),
        "models": ("a list of repositories", _is_list_of_text),
        "datasets": ("a list of repositories", _is_list_of_text),
        "tags": ("a list of words", _is_list_of_text),
        "thumbnail": ("an address", _matches(r"https?://\S+")),
        "pinned": ("true or false", _is_true_or_false),
        "header": ("mini or default", _one_of("mini", "default")),
        "fullWidth": ("true or false", _is_true_or_false),
        "base_path": ("a path that begins with /", _matches(r"/\S*")),
        "hf_oauth": ("true or false", _is_true_or_false),
        "hf_oauth_scopes": ("a list of scopes", _is_list_of_text),
        "hf_oauth_expiration_minutes": (
            "1 to 43200 minutes", lambda value: type(value) is int and 1 <= value <= 43_200
        ),
        "preload_from_hub": ("a list of repositories", _is_list_of_text),
        "disable_embedding": ("true or false", _is_true_or_false),
        "custom_headers": (f"lower-case values of {', '.join(sorted(CUSTOM_HEADERS))}", _are_headers),
        "license": ("the hub's name of a licence, such as apache-2.0", _matches(r"[a-z0-9][a-z0-9.-]*")),
    }
)  # fmt: skip


def declaration(spacefile: str) -> dict[str, Any]:
    """The Spacefile's keys and values, in its order.

    Raises:
        ValueError: not YAML, an unknown key, or a value the hub would refuse.
    """
    try:
        values = yaml.safe_load(spacefile)
    except yaml.YAMLError as error:
        raise ValueError(f"The Spacefile is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError("The Spacefile must hold keys and values, such as: sdk: gradio")
    unknown = sorted(set(map(str, values)) - set(KEYS))
    if unknown:
        raise ValueError(f"The Spacefile holds keys the hub does not know: {', '.join(unknown)}")
    for key, value in values.items():
        takes, is_right = KEYS[key]
        if not is_right(value):
            raise ValueError(f"{key} is {value!r}, and the hub takes {takes}")
    return values


def front_matter(spacefile: str, **changed: Any) -> str:
    """The front matter of a README for this Spacefile, both fences included.

    Args:
        changed: keys with other values than the Spacefile gives them; None leaves one out.
    """
    values = {key: value for key, value in (declaration(spacefile) | changed).items() if value is not None}
    body = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=1000)
    declaration(body)  # what was changed has to be right too
    return f"{FENCE}{body}{FENCE}"


def with_front_matter(readme: str, spacefile: str) -> str:
    """`readme` with its front matter replaced, or put before it where there is none."""
    body = readme
    if readme.startswith(FENCE):
        _, found, after = readme[len(FENCE) :].partition("\n" + FENCE)
        body = after if found else readme
    return front_matter(spacefile) + body
