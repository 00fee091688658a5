"""Which checkpoints a visitor may choose: the one this server was started with, and those that have a name.

Knows names only. A visitor may not make the server read any folder it likes, so every name that comes in is held
against this list.
"""

from __future__ import annotations

from cascade_app import published
from cascade_app.catalogue import KNOWN
from cascade_app.errors import InvalidRequest


def offered(launched: str) -> tuple[str, ...]:
    """The names, `launched` (a name, folder or file) first."""
    return (launched, *(name for name in (*KNOWN, *published.CHECKPOINTS) if name != launched))


def check_offered(name: str, launched: str) -> str:
    """`name`, if it is offered.

    Raises:
        InvalidRequest: it is not, or is no text at all.
    """
    names = offered(launched)
    if not isinstance(name, str) or name not in names:
        shown = f'"{" ".join(name[:80].split())}"' if isinstance(name, str) else "That"
        raise InvalidRequest(
            f"Checkpoint {shown} is not served here; choose one of {', '.join(names)}.", field="checkpoint"
        )
    return name
