"""What every request passes before anything answers it, as the settings say, the outermost first.

    address     whose it is (addresses.py)
    streams     how many connections stay open, and how large a body is (bounds.py)
    gate        the login, where there is one (gate.py)

Behind these come the visitor's cookie and the border (`app_options` in pictures.py), then Gradio. Knows nothing of pages.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from starlette.middleware import Middleware

from cascade_app.gallery.limits import Limits, check_disk
from cascade_app.serving.addresses import Addresses
from cascade_app.serving.bounds import Bodies, Streams
from cascade_app.serving.gate import Door, Gate, SharedDoor
from cascade_app.serving.login import SharedLogin
from cascade_app.settings import Settings

ADDRESS_PART = 4  # where hosted, an address may have one in so many of the connections


@dataclass(frozen=True)
class Front:
    """The middleware, and the door in it. `launched` is told once the page is up."""

    middleware: tuple[Middleware, ...]
    door: Door | None = None

    def launched(self) -> None:
        """From now on nothing but the open addresses is open."""
        if self.door is not None:
            self.door.starting = False


def front(settings: Settings) -> Front:
    """Raises SettingsError where the login that the settings ask for cannot be had here."""
    door = _door(settings.login)
    of_one = max(1, settings.streams // ADDRESS_PART) if settings.hosted and settings.streams else 0
    middleware = [
        Middleware(Addresses, proxies=settings.proxies),
        Middleware(Streams, most=settings.streams, of_one=of_one),
        Middleware(Bodies, n_bytes=settings.body_bytes, room=lambda n_bytes: _room(n_bytes, settings)),
    ]
    return Front((*middleware, *([Middleware(Gate, door=door)] if door else [])), door)


def _door(login: str) -> Door | None:
    if login == "hub":
        from cascade_app.serving.hub_login import HubDoor

        return HubDoor.on_this_space()
    return SharedDoor(SharedLogin.of(login)) if login else None


def _room(n_bytes: int, settings: Settings) -> None:
    """Room for an upload, where those go first and where pictures are kept."""
    for folder in (Path(tempfile.gettempdir()), settings.data_dir):
        with suppress(OSError):  # not there yet
            check_disk(shutil.disk_usage(folder).free, n_bytes, Limits(disk_free_bytes=settings.disk_free_bytes))
