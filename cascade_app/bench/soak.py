"""Many visitors at once for minutes: is an answer ever lost, does memory grow, and does everyone wait alike?

    python -m cascade_app.bench.soak --clients 200 --seconds 300

Starts the app in a process of its own. Half of the clients press Generate on the page, half call the API; each asks again as soon
as it is answered, from a network address of its own. A tenth misbehave, in turn: they cancel, close the connection, or never
listen. When the time is up nobody asks again, and what was asked is waited for. Prints one line of JSON last:

    answers, lost            pictures that came; calls that were taken and never answered (should be 0)
    announced, errors        refusals in a sentence that says what to wait for, and everything else, by kind
    memory                   of the server after the warm-up: how it grew, and whether it is flat
    fairness                 of the clients that behave, page and API each: the largest mean wait over the smallest and whether
                             that is fair, and of all waits the 95th percentile over the median; without everyone's first, for
                             which all ask at once: the first of those waits for nobody and the last for all

What is flat and what is fair is defined in verdict.py; null where the run was too short to tell. Exits with 1, and says why,
where an answer was lost, an error was not an announced one, the server did not end well, memory was not flat or waiting unfair.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cascade_app.bench import measure, verdict
from cascade_app.bench.http_client import Http, HttpError

BAD = ("cancels", "closes", "never listens")
PAUSE_S = 5.0  # between the calls of a client that does not wait for its answer
REFUSED_S = 2.0  # before one that was refused asks again
START_LIMIT_S = 300
ANNOUNCED = re.compile(r"full|limit|wait|try again in|at once|too many", re.IGNORECASE)
PROMPTS = ("a white lighthouse on a rock", "a red sun over blue mountains", "a green cactus at night", "a boat at sea")


@dataclass(frozen=True)
class Load:
    """What each client asks for."""

    steps: tuple[int, int]
    size: tuple[int, int] | None  # None for the checkpoint's own

    def values(self, dice: random.Random) -> dict[str, Any]:
        """A call of /generate by name."""
        sides = dict(zip(("width", "height"), self.size, strict=True)) if self.size else {}
        steps = {"prior_steps": self.steps[0], "decoder_steps": self.steps[1]}
        return {"prompt": dice.choice(PROMPTS), "seed": dice.randrange(2**31), **steps, **sides}


@dataclass
class Tally:
    """What all clients saw. A wait is (client, kind, seconds), in the order of the answers."""

    asked: int = 0
    answers: int = 0
    lost: list[str] = field(default_factory=list)
    given_up: Counter = field(default_factory=Counter)
    announced: Counter = field(default_factory=Counter)
    errors: Counter = field(default_factory=Counter)
    waits: list[tuple[int, str, float]] = field(default_factory=list)

    def later_waits(self, kind: str) -> list[tuple[int, float]]:
        """(client, seconds) of all but each client's first."""
        known, later = set(), []
        for client, which, seconds in self.waits:
            if which == kind and client in known:
                later.append((client, seconds))
            known.add(client)
        return later

    def refused(self, sentence: str) -> None:
        told = " ".join(re.sub(r"\d+", "#", sentence).split())[:90] or "no sentence"
        (self.announced if ANNOUNCED.search(sentence) else self.errors)[told] += 1


class Client:
    """One visitor, until `until`. `kind` is "page" or "api", `manner` one of BAD or ""."""

    def __init__(
        self, number: int, address: tuple[str, int], load: Load, *, kind: str, manner: str, tally: Tally, until: float
    ) -> None:
        self.number, self.kind, self.manner, self.tally, self.until = number, kind, manner, tally, until
        self.dice, self.load = random.Random(number), load
        self.session = f"soak{secrets.token_hex(5)}"
        self.http = Http(*address, headers={"X-Forwarded-For": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"})
        self.page: dict[str, Any] = {}
        self.asked = 0
        self.taken = False  # the call under way has a number, and so is owed an answer

    async def live(self) -> None:
        """Ask, wait, ask again; once at least."""
        if self.kind == "page":
            await self._open()
        while not self.asked or time.monotonic() < self.until:
            self.asked, self.taken = self.asked + 1, False
            asked = time.monotonic()
            self.tally.asked += 1
            try:
                outcome = await (self._press() if self.kind == "page" else self._call())
            except (OSError, HttpError, asyncio.IncompleteReadError) as error:
                outcome = "lost" if self.taken else "refused"
                if not self.taken:
                    self.tally.errors[f"{type(error).__name__}: {error}"[:90]] += 1
            if outcome == "answered":
                self.tally.answers += 1
                if not self.manner:
                    self.tally.waits.append((self.number, self.kind, time.monotonic() - asked))
            elif outcome == "lost":
                self.tally.lost.append(f"{self.kind} client {self.number}")
            elif outcome in BAD:
                self.tally.given_up[outcome] += 1
                await asyncio.sleep(PAUSE_S)
            else:
                await asyncio.sleep(REFUSED_S)

    async def _open(self) -> None:
        """The page: its cookie, and which function is which."""
        status, headers, _body = await self.http.ask("GET", "/")
        self.http.headers["Cookie"] = headers["set-cookie"].partition(";")[0]
        status, _headers, body = await self.http.ask("GET", "/config")
        config = json.loads(body)
        elements = {one["id"]: one.get("props", {}) for one in config["components"]}
        named = {one["api_name"]: one for one in config["dependencies"]}
        begin = named["begin_generate"]
        run = next(one for one in config["dependencies"] if one.get("trigger_after") == begin["id"])
        self.page = {"begin": begin, "run": run, "cancel": named["cancel"], "elements": elements}
        assert status == 200

    def _sent(self, dependency: dict[str, Any]) -> dict[str, Any]:
        values = self.load.values(self.dice)

        def value(props: dict[str, Any]) -> Any:
            name = str(props.get("elem_id", "")).removeprefix("field-")
            return values[name] if name in values else props.get("value")

        data = [value(self.page["elements"][id]) for id in dependency["inputs"]]
        return {"data": data, "fn_index": dependency["id"], "session_hash": self.session}

    async def _press(self) -> str:
        """Generate, on the page."""
        await self.http.ask("POST", "/gradio_api/run/predict", self._sent(self.page["begin"]))
        status, _headers, body = await self.http.ask("POST", "/gradio_api/queue/join", self._sent(self.page["run"]))
        if status != 200:
            return self._refused(status, body)
        if self.manner == "never listens":
            return self.manner
        self.taken = not self.manner
        saved, sentence, seen = False, "", 0
        async with self.http.stream(f"/gradio_api/queue/data?session_hash={self.session}") as messages:
            async for message in messages:
                seen += 1
                if self.manner and seen > 2:
                    return await self._misbehave(json.loads(body)["event_id"])
                saved = saved or "/thumbnail.jpg" in message
                found = re.search(r'data-kind=\\"error\\"[^>]*>([^<]*)<', message)
                sentence = found[1] if found else sentence
                if '"process_completed"' in message:
                    if saved and '"success":true' in message and not sentence:
                        return "answered"
                    if self.manner == "cancels" and not sentence:
                        return self.manner  # its last cancel came when this run had begun
                    self.tally.refused(sentence or message[:90])
                    return "refused"
        return "lost"

    async def _misbehave(self, event: str) -> str:
        """Leave a run that has begun to answer; the stream closes behind this."""
        if self.manner == "cancels":
            await self.http.ask("POST", "/gradio_api/run/predict", self._sent(self.page["cancel"]))
            body = {"session_hash": self.session, "fn_index": self.page["run"]["id"], "event_id": event}
            await self.http.ask("POST", "/gradio_api/cancel", body)
        return self.manner

    async def _call(self) -> str:
        """/generate, of the API."""
        status, _headers, body = await self.http.ask("POST", "/gradio_api/call/v2/generate", self.load.values(self.dice))
        if status != 200:
            return self._refused(status, body)
        if self.manner == "never listens":
            return self.manner
        self.taken = not self.manner
        event = json.loads(body)["event_id"]
        async with self.http.stream(f"/gradio_api/call/generate/{event}") as messages:
            if self.manner:
                return self.manner
            kind = ""
            async for message in messages:
                for line in message.splitlines():
                    if line.startswith("event:"):
                        kind = line[6:].strip()
                    elif line.startswith("data:") and kind == "complete":
                        return "answered"
                    elif line.startswith("data:") and kind == "error":
                        self.tally.refused(line[5:].strip())
                        return "refused"
        return "lost"

    def _refused(self, status: int, body: bytes) -> str:
        with suppress(ValueError, KeyError, TypeError):
            sentence = json.loads(body)["detail"]
            if status < 500 or status == 503:
                self.tally.refused(str(sentence))
                return "refused"
        self.tally.errors[f"HTTP {status}"] += 1
        return "refused"


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark; returns what it prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200, help="at once (200)")
    parser.add_argument("--seconds", type=float, default=300, help="that they go on asking (300)")
    parser.add_argument("--drain", type=float, default=300, help="seconds at most to wait for the last answers (300)")
    parser.add_argument("--warm-up", type=float, default=0.5, help="fraction of the time in which memory does not count (0.5)")
    parser.add_argument("--checkpoint", default="pocket", help="a name or a folder in diffusers layout")
    parser.add_argument("--steps", type=measure.both_steps, default=(2, 1), help="of Stage C + of Stage B (2+1)")
    parser.add_argument("--size", type=measure.both_sides, default=None, help="WIDTHxHEIGHT in pixels; the checkpoint's own")
    parser.add_argument("--queue", type=int, default=0, help="how many may wait, 0 for as many as there are clients")
    parser.add_argument("--save", action="store_true", help="keep the result")
    arguments = parser.parse_args(argv)
    result = soak(arguments)
    asked = {"clients": arguments.clients, "seconds": arguments.seconds, "checkpoint": arguments.checkpoint,
             "steps": "+".join(map(str, arguments.steps)), "size": "x".join(map(str, arguments.size or ("own",)))}  # fmt: skip
    return measure.report("soak", {**asked, **result}, save=arguments.save)


def soak(arguments: argparse.Namespace, command: Sequence[str] = (sys.executable, "app.py")) -> dict[str, Any]:
    """Serve by `command`, let the clients loose, and stop it again."""
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        log = Path(folder) / "server.log"
        settings = {
            "CASCADE_PORT": str(port), "CASCADE_HOST": "127.0.0.1", "CASCADE_DATA_DIR": f"{folder}/data",
            "GRADIO_TEMP_DIR": f"{folder}/files", "CASCADE_CHECKPOINT": arguments.checkpoint, "CASCADE_PROXIES": "1",
            "HF_HUB_OFFLINE": "1", "CASCADE_QUEUE_SIZE": str(arguments.queue or arguments.clients),
        }  # fmt: skip
        with log.open("w") as told:
            process = subprocess.Popen(command, cwd=measure.ROOT, env={**os.environ, **settings}, stdout=told, stderr=told)
        try:
            result = asyncio.run(_visit(arguments, process, ("127.0.0.1", port)))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                status = process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                status = process.wait()
            faults = Counter(re.findall(r"\b(?:error|Error)=\"?(\w+)", log.read_text(errors="replace")))
        return {**result, "exit_status": status, "errors_in_log": dict(faults)}


async def _visit(arguments: argparse.Namespace, process: subprocess.Popen, address: tuple[str, int]) -> dict[str, Any]:
    with measure.told("Starting"):
        await _ready(process, address, Load(arguments.steps, arguments.size))
    tally, samples = Tally(), []
    begin = time.monotonic()
    until = begin + arguments.seconds
    sampling = asyncio.create_task(_sample(process, samples))
    clients = [_client(number, arguments, address, tally, until) for number in range(arguments.clients)]
    with measure.told(f"{arguments.clients} clients for {arguments.seconds:g} s"):
        living = [asyncio.create_task(one.live()) for one in clients]
        done, late = await asyncio.wait(living, timeout=arguments.seconds + arguments.drain)
    took_s = time.monotonic() - begin
    for task in late:
        task.cancel()
    tally.lost += [f"{clients[living.index(task)].kind} client still waiting" for task in late]
    for task in done:
        if task.exception():
            tally.errors[repr(task.exception())[:90]] += 1
    sampling.cancel()
    warm = begin + arguments.warm_up * arguments.seconds
    return {
        "asked": tally.asked, "answers": tally.answers, "lost": len(tally.lost), "lost_by": dict(Counter(tally.lost)),
        "given_up": dict(tally.given_up), "announced": dict(tally.announced), "errors": dict(tally.errors),
        "pictures_per_min": measure.rounded(60 * tally.answers / took_s), "took_s": measure.rounded(took_s),
        "memory": verdict.memory([one for one in samples if warm <= one[0] <= until]),
        "fairness": {kind: verdict.fairness(tally.later_waits(kind)) for kind in ("page", "api")},
    }  # fmt: skip


def _client(number: int, arguments: argparse.Namespace, address: tuple[str, int], tally: Tally, until: float) -> Client:
    """Every tenth client misbehaves; of those, as of the others, every second is on the page."""
    tenth, rest = divmod(number, 10)
    manner = BAD[tenth % len(BAD)] if rest == 9 else ""
    kind = ("page", "api")[tenth % 2 if manner else number % 2]
    kind = "page" if manner == "cancels" else kind
    load = Load(arguments.steps, arguments.size)
    return Client(number, address, load, kind=kind, manner=manner, tally=tally, until=until)


async def _ready(process: subprocess.Popen, address: tuple[str, int], load: Load) -> None:
    """Return when a first picture has been made.

    Raises:
        RuntimeError: it cannot be.
    """
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError, HttpError, asyncio.IncompleteReadError):
            tally = Tally()
            first = Client(0, address, load, kind="api", manner="", tally=tally, until=0)
            outcome = await first._call()
            if outcome == "answered":
                return
            raise RuntimeError(f"no first picture: {outcome} {dict(tally.announced)} {dict(tally.errors)}")
        await asyncio.sleep(0.2)
    raise RuntimeError(f"the server did not start: exit code {process.poll()}")


async def _sample(process: subprocess.Popen, samples: list[tuple[float, int]]) -> None:
    """The server's memory, once a second."""
    server = psutil.Process(process.pid)
    while True:
        with suppress(psutil.Error):
            samples.append((time.monotonic(), server.memory_info().rss))
        await asyncio.sleep(1)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


if __name__ == "__main__":
    found = verdict.faults(main())
    print("\n".join(found), file=sys.stderr)
    sys.exit(bool(found))
