"""The Spacefile, and the README front matter made from it. Pure.

Knows the form of the two and the keys the hub reads; nothing of the app.
"""

from __future__ import annotations

from typing import Any

import yaml

FENCE = "---\n"
# The keys of the hub's Spaces configuration reference, and `license` of its metadata reference.
KEYS = frozenset(
    """
    title emoji colorFrom colorTo sdk sdk_version python_version app_file suggested_hardware startup_duration_timeout
    short_description models tags thumbnail pinned header hf_oauth preload_from_hub disable_embedding custom_headers
    license
    """.split()
)
COLOURS = frozenset({"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"})
MAX_SHORT_DESCRIPTION = 60


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
    unknown = sorted(set(map(str, values)) - KEYS)
    if unknown:
        raise ValueError(f"The Spacefile holds keys the hub does not know: {', '.join(unknown)}")
    for key in ("colorFrom", "colorTo"):
        if values.get(key, "gray") not in COLOURS:
            raise ValueError(f"{key} is {values[key]}; choose one of {', '.join(sorted(COLOURS))}")
    length = len(str(values.get("short_description", "")))
    if length > MAX_SHORT_DESCRIPTION:
        raise ValueError(f"short_description has {length} characters; the limit is {MAX_SHORT_DESCRIPTION}")
    for key in ("sdk_version", "python_version"):
        if not isinstance(values.get(key, ""), str):
            raise ValueError(f"{key} must be quoted: YAML reads {values[key]} as a number")
    return values


def front_matter(spacefile: str) -> str:
    """The front matter of a README for this Spacefile, both fences included."""
    body = yaml.safe_dump(declaration(spacefile), sort_keys=False, allow_unicode=True, width=1000)
    return f"{FENCE}{body}{FENCE}"


def with_front_matter(readme: str, spacefile: str) -> str:
    """`readme` with its front matter replaced, or put before it where there is none."""
    body = readme
    if readme.startswith(FENCE):
        _, found, after = readme[len(FENCE) :].partition("\n" + FENCE)
        body = after if found else readme
    return front_matter(spacefile) + body
