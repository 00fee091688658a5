"""Licences that must be accepted once before a checkpoint's weights are fetched or used, and the record of it.

Accepted by setting (`CASCADE_ACCEPT_LICENSE` names the licence) or by a click, which is written under the data folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from cascade_app.errors import CascadeError, LicenseNotAccepted
from cascade_app.published import LICENSE

# What the licence asks, in a sentence for the user. The text that binds is in the repository.
ASKING: Mapping[str, str] = MappingProxyType(
    {
        LICENSE: "Stability AI's non-commercial research licence: no commercial use, and no serving of the model to others."
    }
)
_RECORD = "licenses.json"


def accepted(name: str, *, by_setting: str, data_dir: Path) -> bool:
    """Whether the licence `name` needs no asking (any more).

    Args:
        by_setting: the value of `CASCADE_ACCEPT_LICENSE`; may name several, with commas.
        data_dir: where clicks are recorded.
    """
    if name not in ASKING:
        return True
    return name in {part.strip() for part in by_setting.split(",")} or name in _recorded(data_dir)


def accept_license(name: str, *, data_dir: Path) -> None:
    """Record that the licence `name` was accepted.

    Raises:
        CascadeError: there is no such licence to accept, or the record cannot be written.
    """
    if name not in ASKING:
        raise CascadeError(f'"{name[:60]}" is no licence that is asked for; those are {", ".join(ASKING)}.')
    names = sorted({*_recorded(data_dir), name})
    record, part = data_dir / _RECORD, data_dir / f".{_RECORD}.{os.getpid()}.part"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"accepted": names}) + "\n", encoding="utf-8")
        part.replace(record)
    except OSError as error:
        raise CascadeError(
            f"That the licence was accepted cannot be recorded: {error.strerror}. Set CASCADE_ACCEPT_LICENSE to {name}."
        ) from error


def require_license(name: str, *, by_setting: str, data_dir: Path) -> None:
    """Do nothing if the licence `name` is accepted.

    Raises:
        LicenseNotAccepted: it is not, with a sentence on what it asks and how to accept it.
    """
    if not accepted(name, by_setting=by_setting, data_dir=data_dir):
        raise LicenseNotAccepted(
            f"These weights are under {ASKING[name]} Accept it on the page, or set CASCADE_ACCEPT_LICENSE to {name}.",
            license=name,
        )


def _recorded(data_dir: Path) -> set[str]:
    try:
        names = json.loads((data_dir / _RECORD).read_text(encoding="utf-8"))["accepted"]
        return {name for name in names if isinstance(name, str)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()  # never accepted, or a record that cannot be read: ask (again)
