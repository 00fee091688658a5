"""Fetching what a checkpoint lacks from the hub into huggingface_hub's own cache: with progress, and resumed where it broke off.

huggingface_hub 2 begins a file anew after every interruption, so the bytes are streamed here, into one partial file a blob
that the next try goes on with; checked against the hub's size and hash, it becomes a blob of the cache, and the library links
it into place. Nothing half-written ever has a name that a loader would read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import huggingface_hub
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import WeakFileLock, build_hf_headers, hf_raise_for_status, http_stream_backoff

from cascade_app.catalogue import CheckpointSpec, on_this_machine
from cascade_app.errors import DownloadFailed
from cascade_app.layouts import hub_cache
from cascade_app.licenses import require_license
from cascade_app.published import HubFiles
from cascade_app.settings import Settings

try:  # what huggingface_hub 2 speaks through, and 1 did
    import httpx2 as httpx
except ImportError:
    import httpx

Progress = Callable[[int, int, str], None]  # bytes done, bytes in all, the file that is being fetched

CHUNK_BYTES = 1 << 20
TRIES = 5  # without a single new byte between them
_TIMEOUT_S = 20.0
_ENDPOINT = "https://huggingface.co"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class _File:
    """One file to fetch, as the hub describes it."""

    repository: str
    revision: str
    name: str
    etag: str
    size: int

    @property
    def folder(self) -> Path:
        return hub_cache() / f"models--{self.repository.replace('/', '--')}"

    @property
    def blob(self) -> Path:
        return self.folder / "blobs" / self.etag

    @property
    def partial(self) -> Path:
        return self.folder / "blobs" / f"{self.etag}.incomplete"

    @property
    def bytes_here(self) -> int:
        """How much of it is on this machine already."""
        for path in (self.blob, self.partial):
            if path.is_file():
                return min(path.stat().st_size, self.size)
        return 0


def download_checkpoint(
    spec: CheckpointSpec,
    *,
    settings: Settings,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> CheckpointSpec:
    """Fetch what `spec` lacks; returns it with everything on this machine. Does nothing if nothing is missing.

    Args:
        settings: accepted licences, and where clicks are recorded.
        progress: called about once a megabyte.
        cancelled: asked as often; true stops the download, and the next one goes on from there.

    Raises:
        LicenseNotAccepted: the checkpoint's licence has to be accepted first.
        DownloadFailed: with a sentence on why; what was fetched is kept for the next try.
    """
    if spec.license_to_accept:
        require_license(spec.license_to_accept, by_setting=settings.accept_license, data_dir=settings.data_dir)
    wanted = {name: source.hub for name, source in spec.sources.items() if source.path is None and source.hub}
    if not wanted:
        return spec
    if _is_offline():
        raise DownloadFailed(
            f"{spec.title} is not whole on this machine ({', '.join(wanted)} missing), and HF_HUB_OFFLINE forbids to fetch "
            "it. Unset HF_HUB_OFFLINE, or copy the hub's cache here."
        )
    files = [file for name, hub in wanted.items() for file in _describe(hub, needed=name != "previewer")]
    _check_room(files)
    _fetch_all(files, progress or (lambda done, total, name: None), cancelled)
    done = on_this_machine(spec)
    if not done.is_on_disk:
        raise DownloadFailed(f"{spec.title} is still not whole after its download. Try again, or remove it from the hub's cache.")
    return done


def _is_offline() -> bool:
    said = os.environ.get("HF_HUB_OFFLINE", "").strip().lower()
    return said in ("1", "true", "yes", "on") or (said == "" and huggingface_hub.is_offline_mode())


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or _ENDPOINT).rstrip("/")


def _url(repository: str, name: str, revision: str) -> str:
    return huggingface_hub.hf_hub_url(repository, name, revision=revision, endpoint=_endpoint())


def _describe(hub: HubFiles, *, needed: bool) -> Iterator[_File]:
    """The files of one part, its weights under the first name that the hub has."""
    for name in hub.other_files():
        yield _ask(hub, name)
    for name in hub.optional_files():
        yield from _ask_for_one(hub, (name,), needed=False)
    if hub.weights:
        yield from _ask_for_one(hub, hub.weight_files(), needed=needed)


def _ask_for_one(hub: HubFiles, names: tuple[str, ...], *, needed: bool) -> Iterator[_File]:
    for name in names:
        try:
            yield _ask(hub, name)
            return
        except _NoSuchFile:
            continue
    if needed:
        raise DownloadFailed(f"{hub.repository} on the hub has no file {' or '.join(names)}. Update Cascade Studio.")


class _NoSuchFile(DownloadFailed):
    """The repository has no file of that name."""


def _ask(hub: HubFiles, name: str) -> _File:
    with _explained(hub.repository, name):
        url = _url(hub.repository, name, hub.revision)
        found = huggingface_hub.get_hf_file_metadata(url, endpoint=_endpoint(), timeout=_TIMEOUT_S)
    # Both become names of files, so neither may lead elsewhere.
    if not (re.fullmatch(r"[\w-]{8,128}", found.etag or "") and re.fullmatch(r"\w{1,64}", found.commit_hash or "")):
        raise DownloadFailed(f"The address asked for {hub.repository} is no hub. Check HF_ENDPOINT and proxy settings.")
    if found.size is None or found.size < 0:
        raise DownloadFailed(f"The hub does not say how large {name} of {hub.repository} is. Try again later.")
    return _File(hub.repository, hub.revision, name, found.etag, found.size)


def _check_room(files: list[_File]) -> None:
    """Refuse before the first byte what cannot end well."""
    needed = sum(file.size - file.bytes_here for file in files)
    place = hub_cache().absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DownloadFailed(
            f"The download needs {needed / 1e9:.2f} GB, and the disk of the hub's cache has {free / 1e9:.2f} GB free. "
            "Make room, or set HF_HOME to another disk."
        )


def _fetch_all(files: list[_File], progress: Progress, cancelled: Callable[[], bool]) -> None:
    total = sum(file.size for file in files)
    before = 0
    for file in files:
        start = before

        def report(here: int, file: _File = file, start: int = start) -> None:
            if cancelled():
                raise DownloadFailed("The download was stopped; the next one goes on from where it was.")
            progress(start + here, total, file.name)

        with _explained(file.repository, file.name):
            _fetch(file, report)
        before += file.size


def _fetch(file: _File, report: Callable[[int], None]) -> None:
    """Have the file in the cache, as huggingface_hub would have put it there."""
    lock = hub_cache() / ".locks" / file.folder.name / f"{file.etag}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    file.blob.parent.mkdir(parents=True, exist_ok=True)
    report(file.bytes_here)
    with WeakFileLock(lock):  # the library's own, so that nobody else writes the same blob
        if not file.blob.is_file():
            _stream(file, report)
            _check(file)
            file.partial.replace(file.blob)
    huggingface_hub.hf_hub_download(
        file.repository, file.name, revision=file.revision, cache_dir=hub_cache(), endpoint=_endpoint(), etag_timeout=_TIMEOUT_S
    )
    report(file.size)


def _stream(file: _File, report: Callable[[int], None]) -> None:
    """Bring the partial file to its full size, going on from what it holds and beginning again where the line breaks."""
    tries = TRIES
    with file.partial.open("ab") as out:
        while (here := out.tell()) < file.size or (here > file.size and _emptied(out)):
            try:
                _receive(file, out, report)
            except (httpx.TransportError, httpx.StreamError):
                tries = TRIES if out.tell() > here else tries - 1
                if tries <= 0:
                    raise
                time.sleep(min(1.0, 0.2 * (TRIES - tries)))
                continue
            if out.tell() == here:  # an empty answer; asking forever would not help
                raise DownloadFailed(f"The hub sends nothing for {file.name} of {file.repository}. Try again later.")
        out.flush()
        os.fsync(out.fileno())


def _receive(file: _File, out: BinaryIO, report: Callable[[int], None]) -> None:
    """One answer of the hub, written as it comes."""
    url, here = _url(file.repository, file.name, file.revision), out.tell()
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if here:
        headers["Range"] = f"bytes={here}-"
    with http_stream_backoff("GET", url, headers=headers, timeout=_TIMEOUT_S, retry_on_exceptions=(), max_retries=1) as response:
        if response.status_code == 416 or (here and response.status_code == 200):
            _emptied(out)  # the server cannot go on in the middle
        if response.status_code == 416:
            raise httpx.RemoteProtocolError("the range was refused")
        hf_raise_for_status(response)
        for chunk in response.iter_bytes(CHUNK_BYTES):
            out.write(chunk)
            if out.tell() > file.size:
                raise DownloadFailed(f"The hub sends more of {file.name} than it announced. Try again later.")
            report(out.tell())


def _emptied(out: BinaryIO) -> bool:
    out.seek(0)
    out.truncate()
    return True


def _check(file: _File) -> None:
    """The hub names a large file by its SHA-256, a small one by git's SHA-1 of it; other names say nothing.

    Raises:
        DownloadFailed: the content is not what the name says; it is thrown away.
    """
    if re.fullmatch(r"[0-9a-f]{64}", file.etag):
        digest = hashlib.sha256()
    elif re.fullmatch(r"[0-9a-f]{40}", file.etag):
        digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    else:
        return
    with file.partial.open("rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != file.etag:
        file.partial.unlink()
        raise DownloadFailed(f"{file.name} of {file.repository} came damaged and was thrown away. Try again.")


@contextmanager
def _explained(repository: str, name: str) -> Iterator[None]:
    """Whatever goes wrong inside, as a sentence for the user."""
    try:
        yield
    except DownloadFailed:
        raise
    except EntryNotFoundError as error:
        if isinstance(error, HfHubHTTPError):
            raise _NoSuchFile(f"{repository} on the hub has no file {name}. Update Cascade Studio.") from error
        raise DownloadFailed(f"The hub cannot be reached to fetch {name} of {repository}. Try again later.") from error
    except (HfHubHTTPError, FileMetadataError, OfflineModeIsEnabled) as error:
        raise DownloadFailed(_refusal(error, repository)) from error
    except (httpx.TransportError, httpx.StreamError) as error:
        raise DownloadFailed(
            f"The hub cannot be reached to fetch {name} of {repository}. Check the network, HF_ENDPOINT and proxy settings; "
            "the next try goes on from where this one was."
        ) from error
    except OSError as error:
        raise DownloadFailed(_disk_trouble(error, name)) from error


def _refusal(error: Any, repository: str) -> str:
    """What an answer of the hub means, and what to do."""
    if isinstance(error, OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE forbids to fetch {repository}. Unset it and start again."
    if isinstance(error, FileMetadataError):
        return "The address asked is no hub: its answers lack what the hub's have. Check HF_ENDPOINT and proxy settings."
    if isinstance(error, GatedRepoError):
        return f"{repository} is gated: accept its conditions on its page on the hub, then set HF_TOKEN to that account's token."
    if isinstance(error, RevisionNotFoundError):
        return f"{repository} on the hub has no such revision. Update Cascade Studio."
    status = error.response.status_code
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
        return f"The hub does not show {repository} to this account (status {status}). Check HF_TOKEN, or unset it."
    if status == 429:
        return "The hub asks to wait before fetching more (status 429). Try again in a few minutes."
    return f"The hub answers for {repository} with status {status}. Try again later."


def _disk_trouble(error: OSError, name: str) -> str:
    if error.errno in _FULL:
        return f"The disk of the hub's cache is full while fetching {name}. Make room and try again: it goes on from there."
    return f"{name} cannot be written to the hub's cache: {error.strerror or type(error).__name__}. Check HF_HOME."
