"""Fetching a checkpoint as events: the download runs in a thread of its own and is told about while it runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from cascade_app.catalogue import CheckpointSpec
from cascade_app.events import Waiting
from cascade_app.settings import Settings


def fetch(spec: CheckpointSpec, settings: Settings, *, every_s: float = 0.5) -> Iterator[Waiting]:
    """Yield `Waiting` until all of `spec` is on this machine; at once empty if it is. Closing it stops the download.

    Raises:
        LicenseNotAccepted, DownloadFailed: with a sentence; what was fetched is kept for the next try.
    """
    if spec.is_on_disk and not spec.license_to_accept:
        return
    from cascade_app.runtime.download import download_checkpoint  # the hub's client is 4 MB that most never need

    ended, cancelled = threading.Event(), threading.Event()
    told: dict[str, str] = {"reason": f"Asking the hub for {spec.title}."}
    failure: list[BaseException] = []

    def progress(done: int, total: int, name: str) -> None:
        told["reason"] = f"Fetching {done / 1e9:.2f} of {total / 1e9:.2f} GB: {name.rpartition('/')[2]}"

    def work() -> None:
        try:
            download_checkpoint(spec, settings=settings, progress=progress, cancelled=cancelled.is_set)
        except BaseException as error:  # raised again below, in the thread that waits
            failure.append(error)
        finally:
            ended.set()

    threading.Thread(target=work, name="cascade-fetch", daemon=True).start()
    try:
        while not ended.wait(every_s if not spec.is_on_disk else 0.02):
            yield Waiting(told["reason"])
    finally:
        cancelled.set()
    if failure:
        raise failure[0]
