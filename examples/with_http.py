"""A picture from a running Cascade Studio with nothing but HTTP: Python's standard library, no package to install.

    python examples/with_http.py "a red sun over blue mountains" --server http://127.0.0.1:7860 -o sun.png

Three requests, the same in any language:

    POST /gradio_api/call/v2/generate        the arguments by name, as JSON; answers {"event_id": ...}
    GET  /gradio_api/call/generate/EVENT_ID  server-sent events; the last is "complete", or "error" with a sentence
    GET  the "url" of each picture in it     the PNG file, which holds the settings that made it
"""

from __future__ import annotations

import argparse
import json
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

TIMEOUT_S = 60  # without a byte; while a run waits or works, the server says "heartbeat" more often than that


class Refused(Exception):
    """What the server has against the request, in its own sentence."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompt", help="what the picture shows")
    parser.add_argument("--server", default="http://127.0.0.1:7860", help="address of the page (%(default)s)")
    parser.add_argument("--seed", type=int, help="the same seed gives the same picture; random if left out")
    parser.add_argument("-o", "--output", default="picture.png", help="where to save it (%(default)s)")
    parser.add_argument("--login", metavar="NAME:PASSWORD", help="where the server asks for one")
    asked = parser.parse_args()
    server = Server(asked.server.rstrip("/"), asked.login)
    try:
        pictures, made = server.call("generate", prompt=asked.prompt, seed=asked.seed)
        data = server.fetch(f"/gradio_api/file={quote(pictures[0]['path'])}").read()
    except Refused as error:
        return refuse(str(error))
    except (URLError, ValueError, OSError):
        return refuse(f"No Cascade Studio answers at {asked.server}. Start one with `make run`, or say --server.")
    try:
        Path(asked.output).write_bytes(data)
    except OSError as error:
        return refuse(f"{asked.output} cannot be written: {error.strerror}.")
    print(f"{asked.output}: {made['width']} x {made['height']} px, seed {made['seed']}, {made['seconds']['total']:.1f} s")
    return 0


class Server:
    """A running Cascade Studio. Its methods raise Refused where it answers with an error."""

    def __init__(self, address: str, login: str | None = None) -> None:
        self.address = address
        self.headers = {"Authorization": f"Basic {b64encode(login.encode()).decode()}"} if login else {}

    def call(self, name: str, **arguments: Any) -> list[Any]:
        """What the function `name` returns."""
        event_id = json.load(self.fetch(f"/gradio_api/call/v2/{name}", json.dumps(arguments).encode()))["event_id"]
        for event, data in self.events(f"/gradio_api/call/{name}/{event_id}"):
            if event == "complete":
                return data
            if event == "error":
                raise Refused(data["error"] if isinstance(data, dict) and data.get("error") else "The run failed.")
        raise Refused("The server closed the connection before the run was over.")

    def events(self, path: str) -> Iterator[tuple[str, Any]]:
        """Server-sent events: the name and the JSON of each."""
        event = ""
        for line in self.fetch(path):
            field, _, value = line.decode().rstrip("\r\n").partition(": ")
            if field == "event":
                event = value
            elif field == "data":
                yield event, json.loads(value)

    def fetch(self, path: str, body: bytes | None = None) -> Any:
        """The answer, open to be read."""
        headers = {**self.headers, **({"Content-Type": "application/json"} if body else {})}
        try:
            return urlopen(Request(self.address + path, body, headers), timeout=TIMEOUT_S)
        except HTTPError as error:
            raise Refused(told(error)) from None


def told(error: HTTPError) -> str:
    """The sentence in the body of an error, if there is one."""
    try:
        body = json.loads(error.read())
        return str(body.get("error") or body["detail"])
    except (ValueError, KeyError, AttributeError, OSError):
        return f"The server answered {error.code} {error.reason}."


def refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
