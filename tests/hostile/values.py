"""Values that nobody sends by accident, for hypothesis: by a parameter's schema, by a control's limits, and beyond any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

NUMBERS = (
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**63 - 1,
    2**63,
    -(2**63) - 1,
    10**40,
    0.1,
    -0.0,
    1e-320,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
)
TEXTS = (
    "",
    " ",
    "\x00",
    "a\x00b",
    "\ud83d",
    "\udcff",
    "\u202egnp.exe",
    "é" * 3000,
    "x" * 100_000,
    "(" * 3000,
    "{a|" * 800,
    "{a|b}" * 300,
    "(a:1e999)",
    "(a:nan)",
    "__../../etc/passwd__",
    "__colour__" * 200,
    "[" * 400 + "]" * 400,
    "\\" * 999,
    "<img src=x onerror=alert(1)>",
    "'; DROP TABLE pictures; --",
    "%s%n%x",
    "{0.__class__}",
    "../../../../etc/passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "http://127.0.0.1:1/x.png",
    "pocket",
    "stable-cascade",
    "NaN",
    "1e5",
    "true",
    "null",
    "\U0001f600" * 500,
    "CON",
    "~root",
    "generate",
    "0" * 32,
)
PATHS = (
    "/etc/passwd",
    "../../../../../../etc/passwd",
    "/proc/self/environ",
    "/proc/self/mem",
    "/dev/zero",
    "/dev/random",
    ".",
    "",
    "/",
    "\x00",
    "http://127.0.0.1:1/a.png",
    "file:///etc/passwd",
    "//host/share",
    "C:\\boot.ini",
    "a" * 5000,
)

numbers = st.sampled_from(NUMBERS) | st.integers(-(2**70), 2**70) | st.floats()
texts = st.sampled_from(TEXTS) | st.text(st.characters(), max_size=40)
plain = st.none() | st.booleans() | numbers | texts
junk = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)
deep = st.integers(2, 400).map(lambda n: _nested(n))


def _nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def files(own: Sequence[str]) -> st.SearchStrategy:
    """Values shaped as Gradio's files, which point where no caller may look."""
    paths = st.sampled_from((*PATHS, *own))
    meta = st.sampled_from(({"_type": "gradio.FileData"}, {"_type": "x"}, {}, None, "gradio.FileData", 1))
    shaped = st.fixed_dictionaries(
        {"path": paths | plain},
        optional={
            "url": paths | plain,
            "orig_name": paths | plain,
            "size": plain,
            "mime_type": plain,
            "is_stream": plain,
            "meta": meta,
            "video": plain,
        },
    )
    return shaped | shaped.map(lambda one: {**one, "meta": {"_type": "gradio.FileData"}})


def of_schema(schema: Any, own: Sequence[str]) -> st.SearchStrategy:
    """Right, and far from right."""
    return _right(schema, own) | plain | junk | files(own)


def _right(schema: Any, own: Sequence[str]) -> st.SearchStrategy:
    kinds = {
        "string": texts,
        "integer": numbers,
        "number": numbers,
        "boolean": st.booleans(),
        "null": st.none(),
        "array": st.lists(plain, max_size=20),
        "object": files(own),
    }
    if not isinstance(schema, dict):
        return junk
    if schema.get("enum"):
        return st.sampled_from(schema["enum"])
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return st.one_of([_right(one, own) for one in schema[key]])
    return kinds.get(schema.get("type"), junk)


def of_control(component: dict[str, Any], own: Sequence[str]) -> st.SearchStrategy:
    """What a browser might send of a control of the page, and what none would."""
    props = component.get("props", {})
    given = [props.get(name) for name in ("value", "minimum", "maximum") if props.get(name) is not None]
    given += [one[1] if isinstance(one, (list, tuple)) else one for one in props.get("choices") or ()]
    usual = st.sampled_from(given) if given else st.none()
    return usual | usual | numbers | texts | junk | files(own)


def told(ids: Sequence[str], acts: Sequence[str]) -> st.SearchStrategy:
    """What the page's script tells with its own events, forged."""
    some = st.sampled_from((*ids, "0" * 32, "../../x", "", "\ud800")) | junk
    act = st.sampled_from((*acts, "__init__", "", "\x00")) | junk
    shaped = st.fixed_dictionaries(
        {},
        optional={
            "act": act,
            "ids": st.lists(some, max_size=5) | junk,
            "id": some,
            "view": texts,
            "turn": numbers,
            "n": numbers,
            "values": junk,
            "notes": junk,
            "error": junk,
            "preset": plain,
            "source": plain,
        },
    )
    return shaped | junk
