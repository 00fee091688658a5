"""`python -m cascade_app deploy`: puts this studio on a Space of the hub, or with --dry-run says how.

What is put there is decided in `space.py`. Here it is done, through an object with the methods of huggingface_hub's
HfApi, and every way it can fail becomes a sentence.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade_app import __version__, published
from cascade_app.catalogue import KNOWN, CheckpointSpec, find_checkpoint
from cascade_app.errors import CascadeError, InvalidRequest
from cascade_app.licenses import ASKING, require_license
from cascade_app.settings import Settings
from cascade_app.space import ROOT, Call, Space, space_files, space_variables

LOG_LINES = 40
_SPACE = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,99}", re.ASCII)
_WORDS_OF_SECRETS = ("TOKEN", "SECRET", "PASSWORD", "KEY")
_BUSY = ("BUILDING", "RUNNING_BUILDING", "APP_STARTING", "RUNNING_APP_STARTING")
# What a Space that does not run needs, in a sentence.
_CURES: Mapping[str, str] = {
    "BUILD_ERROR": "could not be built; its build log above says why",
    "CONFIG_ERROR": "is not configured as the hub wants; its build log above says why",
    "RUNTIME_ERROR": "was built and then stopped; its log above says why",
    "NO_APP_FILE": "has no app file yet; run the same command again",
    "PAUSED": "is paused; restart it on its settings page",
    "STOPPED": "is stopped; restart it on its settings page",
}


@dataclass(frozen=True)
class Pace:
    """How long to wait for the Space, in seconds.

    settle_s: for the hub to notice an upload; until then it tells the stage of what ran before.
    """

    limit_s: float = 1800.0
    settle_s: float = 30.0
    every_s: float = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the command."""
    parser.add_argument("--space", metavar="OWNER/NAME", required=True, help="the Space to make or to update")
    parser.add_argument("--hardware", metavar="NAME", default="cpu-basic", help="what it runs on (default cpu-basic)")
    parser.add_argument("--checkpoint", metavar="NAME", default="pocket", help="which checkpoint (default pocket)")
    parser.add_argument("--private", action="store_true", help="create it so that only you see it")
    parser.add_argument(
        "--variable", metavar="NAME=VALUE", action="append", default=[], help="a setting of the Space, for anyone to read"
    )
    parser.add_argument(
        "--secret", metavar="NAME", action="append", default=[], help="a secret of the Space; its value is that of $NAME here"
    )
    parser.add_argument("--dry-run", action="store_true", help="print every call and every file, and do nothing")


def connect() -> Any:
    """The hub, with the token of this machine."""
    import huggingface_hub

    return huggingface_hub.HfApi()


def run(
    arguments: argparse.Namespace, settings: Settings, *, hub: Callable[[], Any] = connect, pace: Pace = Pace(), root: Path = ROOT
) -> None:
    """Make or update the Space, or print how.

    Raises:
        InvalidRequest, CheckpointError: something asked for cannot be.
        CascadeError: the hub refused, cannot be reached, or the Space does not run.
    """
    spec = hosted_checkpoint(arguments.checkpoint)
    space = planned(arguments, spec, root)
    if spec.license_to_accept:
        print(_terms(spec), flush=True)
        require_license(spec.license_to_accept, by_setting=settings.accept_license, data_dir=settings.data_dir)
    if arguments.dry_run:
        print("\n".join(rehearsal(space, pace)), flush=True)
        return
    deploy(space, hub(), pace)


def hosted_checkpoint(name: str) -> CheckpointSpec:
    """The checkpoint a Space can have: one with a name, since a folder of this machine is not there."""
    names = (*KNOWN, *published.CHECKPOINTS)
    if name not in names:
        raise InvalidRequest(f'--checkpoint is "{_short(name)}"; a Space can have one of {", ".join(names)}.')
    return find_checkpoint(name)


def planned(arguments: argparse.Namespace, spec: CheckpointSpec, root: Path) -> Space:
    """What was asked for, checked."""
    if not _SPACE.fullmatch(arguments.space):
        raise InvalidRequest(f'--space is "{_short(arguments.space)}"; write it as OWNER/NAME, such as ada/cascade-studio.')
    _check_hardware(arguments.hardware)
    variables = space_variables(spec) | _variables(arguments.variable)
    secrets = {name: _secret(name) for name in arguments.secret}
    settings = Settings.from_env(variables | secrets)  # what the app would refuse there is refused here
    files = space_files(root, spec, arguments.hardware, sign_in=settings.login == "hub")
    return Space(
        name=arguments.space,
        hardware=arguments.hardware,
        private=arguments.private or bool(spec.license_to_accept),
        files=files,
        variables=variables,
        secrets=secrets,
    )


def _check_hardware(name: str) -> None:
    from huggingface_hub import SpaceHardware

    names = [hardware.value for hardware in SpaceHardware]
    if name not in names:
        raise InvalidRequest(f'--hardware is "{_short(name)}"; the hub has {", ".join(names)}.')


def _variables(given: list[str]) -> dict[str, str]:
    variables = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not _VARIABLE.fullmatch(name):
            raise InvalidRequest(f'--variable is "{_short(text)}"; write it as NAME=VALUE, NAME in capitals.')
        if name in ("CASCADE_CHECKPOINT", "CASCADE_ACCEPT_LICENSE"):
            raise InvalidRequest(f"{name} follows from --checkpoint; leave it out of --variable.")
        if any(word in name for word in _WORDS_OF_SECRETS) or (name == "CASCADE_LOGIN" and value.strip() not in ("", "hub")):
            raise InvalidRequest(f"{name} looks like a secret, and anyone can read a variable; use --secret {name}.")
        variables[name] = value
    return variables


def _secret(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise InvalidRequest(f'--secret is "{_short(name)}"; write only its name, in capitals.')
    if not os.environ.get(name):
        raise InvalidRequest(f"--secret {name} takes its value from the variable {name} here, which is not set. Set it first.")
    return os.environ[name]


def _terms(spec: CheckpointSpec) -> str:
    return (
        f"{spec.title} is under {ASKING[spec.license_to_accept]}\n"
        "So the Space will be private: only you, or the members of its organisation, may see it."
    )


def rehearsal(space: Space, pace: Pace) -> Iterator[str]:
    """What would be done, line by line. Needs no network and no token."""
    sizes = space.sizes()
    yield f"Space {space.name} on {space.hardware}, {'private' if space.private else 'public'}. Calls to the hub, in order:"
    yield "  whoami()"
    yield f"  repo_exists(repo_id={space.name!r}, repo_type='space')"
    yield "If it does not exist:"
    yield from (f"  {call}" for call in space.create())
    yield "If it does:"
    if space.private:
        yield f"  space_info(repo_id={space.name!r})  which must say that it is private"
    yield f"  get_space_runtime(repo_id={space.name!r})  for the hardware it has; the last call is left out if that is right"
    yield from (f"  {call}" for call in space.update())
    yield "Then:"
    yield f"  {space.upload('a folder with the files below', __version__)}"
    every, limit = f"{pace.every_s:.0f} s", f"{pace.limit_s / 60:.0f} min"
    yield f"  get_space_runtime(repo_id={space.name!r})  every {every} until it runs, for {limit} at most"
    yield f"  fetch_space_logs(repo_id={space.name!r}, build=False)  or build=True if it was not built"
    yield f"{len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB:"
    yield from (f"  {size:>10,}  {name}" for name, size in sizes.items())
    yield "Nothing was sent (--dry-run)."


def deploy(space: Space, api: Any, pace: Pace) -> None:
    """Do it, telling what is done.

    Raises:
        CascadeError: in a sentence; the same command goes on from there.
    """
    with explained(space):
        who = api.whoami()
        print(f"At the hub as {who['name']}.", flush=True)
        exists = api.repo_exists(repo_id=space.name, repo_type="space")
        if exists and space.private:
            _check_private(space, api)
        for call in _update(space, api) if exists else space.create():
            _do(call, api)
        _upload(space, api)
        stage = watch(space.name, api, pace)
        show_logs(space.name, api, build=stage in ("BUILD_ERROR", "CONFIG_ERROR"))
    if stage != "RUNNING":
        cure = _CURES.get(stage, f"is in the stage {_short(stage)}; its page says more")
        raise CascadeError(f"The Space {space.name} {cure}.")
    print(f"{space.name} runs: https://huggingface.co/spaces/{space.name}", flush=True)


def _check_private(space: Space, api: Any) -> None:
    if not api.space_info(repo_id=space.name).private:
        raise CascadeError(
            f"{space.name} is public, and this checkpoint may not be served to others. Make it private on its settings page, "
            "or deploy pocket."
        )


def _update(space: Space, api: Any) -> list[Call]:
    return space.update(api.get_space_runtime(repo_id=space.name).requested_hardware)


def _upload(space: Space, api: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="cascade-space-") as folder:
        space.write(Path(folder))
        try:
            _do(space.upload(folder, __version__), api)
        except RuntimeError as error:  # what the library's uploader raises has no class of its own
            raise CascadeError(
                f"The upload broke off ({_short(str(error))}). Run the same command again: it goes on from there."
            ) from error


def _do(call: Call, api: Any) -> None:
    print(call, flush=True)
    getattr(api, call.name)(**call.arguments)


def watch(name: str, api: Any, pace: Pace) -> str:
    """Tell each stage until the Space rests in one; returns that.

    Not `wait_for_space`: just after an upload that answers at once, with the stage of what ran before.
    """
    begin, seen, was_busy = time.monotonic(), "", False
    while True:
        stage = str(api.get_space_runtime(repo_id=name).stage)
        if stage != seen:
            print(f"{name}: {stage}", flush=True)
        seen, was_busy, waited_s = stage, was_busy or stage in _BUSY, time.monotonic() - begin
        if stage not in _BUSY and (was_busy or waited_s >= pace.settle_s):
            return stage
        if waited_s >= pace.limit_s:
            raise CascadeError(f"{name} is still {stage} after {pace.limit_s / 60:.0f} minutes. Its page tells how it goes on.")
        time.sleep(pace.every_s)


def show_logs(name: str, api: Any, *, build: bool) -> None:
    """The end of the Space's log."""
    lines = deque((line.rstrip() for line in api.fetch_space_logs(repo_id=name, build=build)), maxlen=LOG_LINES)
    print(f"The end of its {'build ' if build else ''}log:", *(f"  {line}" for line in lines), sep="\n", flush=True)


@contextmanager
def explained(space: Space) -> Iterator[None]:
    """Whatever the hub's library raises inside, as a sentence."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    try:  # what huggingface_hub 2 speaks through, and 1 did
        import httpx2 as httpx
    except ImportError:
        import httpx
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise CascadeError(
            "There is no token for the hub here. Run `hf auth login`, or set HF_TOKEN to a token that may write."
        ) from error
    except OfflineModeIsEnabled as error:
        raise CascadeError("HF_HUB_OFFLINE forbids to speak with the hub. Unset it and start again.") from error
    except HfHubHTTPError as error:
        raise CascadeError(_refusal(error.response.status_code, space)) from error
    except (httpx.TransportError, httpx.StreamError, ConnectionError, TimeoutError) as error:
        raise CascadeError(
            "The hub cannot be reached. Check the network, HF_ENDPOINT and proxy settings, then run the same command again: "
            "it goes on from there."
        ) from error


def _refusal(status: int, space: Space) -> str:
    """What an answer of the hub means, and what to do."""
    owner = space.name.partition("/")[0]
    sentences = {
        401: "The hub does not know this token (status 401). Run `hf auth login` again, or set HF_TOKEN to a valid one.",
        402: f"The hub wants {space.hardware} to be paid for (status 402). See its billing page, or choose other --hardware.",
        403: f"This token may not do that at {space.name} (status 403). Use one that may write for {owner}.",
        404: f"The hub does not show {space.name} to this account (status 404). Check the name, and that the token may write.",
        429: "The hub asks to wait (status 429). Run the same command again in a few minutes.",
    }
    return sentences.get(status, f"The hub answers for {space.name} with status {status}. Run the same command again later.")


def _short(text: str) -> str:
    """A value as a message may show it: short, one line."""
    return " ".join(text[:60].split())
