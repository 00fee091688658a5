"""From the start of the process to the page, to the first preview, to the first picture; whole processes.

    python -m cascade_app.bench.startup --rounds 3

Each round, in turn: `import_everything_s`, a Python that imports torch, Gradio, diffusers' pipelines and transformers' models and
does nothing; `loading_s`, one that loads the engine and the checkpoint without a page; and the app itself, whose server is asked
over HTTP as a browser would ask it: `page_s` until the page answers, then one click on Generate, `first_preview_s` and
`first_picture_s` from the start of the process. `warm_picture_s` is a later picture through the same server. Prints one line of
JSON last: `page_ratio` is page_s over import_everything_s, `first_picture_ratio` first_picture_s over what would be fair, the
page, loading and twice a warm picture one after another.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

from cascade_app.bench import measure

EVERYTHING = (
    "import torch, gradio\n"
    "from diffusers import StableCascadeDecoderPipeline, StableCascadePriorPipeline\n"
    "from transformers import CLIPTextModelWithProjection, CLIPTokenizer, CLIPVisionModelWithProjection\n"
)
LOADING = (
    "from cascade_app.serving.local import LocalBackend\n"
    "from cascade_app.settings import Settings\n"
    "LocalBackend(Settings.from_env()).load()\n"
)
APP = (sys.executable, "app.py")
LIMIT_S = 300
PROMPT = "a white lighthouse on a rock"


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark; returns what it prints."""
    arguments = measure.parser(__doc__, rounds=3).parse_args(argv)
    measure.begin(arguments.threads)
    result = measure_rounds(arguments.rounds, arguments.checkpoint, arguments.threads)
    return measure.report("startup", {**measure.asked(arguments, arguments.checkpoint), **result}, save=arguments.save)


def measure_rounds(
    rounds: int, checkpoint: str, threads: int, *, app: Sequence[str] = APP, everything: str = EVERYTHING,
    loading: str = LOADING, warmups: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """All of it, `rounds` times, after `warmups` that bring the files into the system's cache.

    Args:
        app: the command that serves the page on CASCADE_PORT.
        everything, loading: Python to run to its end.
    """
    environment = {**os.environ, "CASCADE_CHECKPOINT": checkpoint, "CASCADE_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    rows: dict[str, list[float]] = {}
    for number in range(-warmups, rounds):
        with measure.told(f"Round {number + 1} of {rounds}"):
            row = {
                "import_everything_s": python_seconds(everything, environment),
                "loading_s": python_seconds(loading, environment),
                **app_seconds(app, environment),
            }
        if number >= 0:
            for name, seconds in row.items():
                rows.setdefault(name, []).append(seconds)
    fair = [
        page + load + 2 * warm
        for page, load, warm in zip(rows["page_s"], rows["loading_s"], rows["warm_picture_s"], strict=True)
    ]
    return {
        **{name: measure.rounded(statistics.median(seconds)) for name, seconds in rows.items()},
        "page_ratio": measure.rounded(measure.ratio(rows["page_s"], rows["import_everything_s"])),
        "first_picture_ratio": measure.rounded(measure.ratio(rows["first_picture_s"], fair)),
    }


def python_seconds(code: str, environment: dict[str, str]) -> float:
    """Seconds a fresh Python takes for `code`."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", code], cwd=measure.ROOT, env=environment, check=True, capture_output=True)
    return time.monotonic() - begin


def app_seconds(app: Sequence[str], environment: dict[str, str]) -> dict[str, float]:
    """Start `app`, press Generate as soon as the page answers, then twice more; seconds as the result names them."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        one.close()
        settings = {"CASCADE_PORT": str(port), "CASCADE_HOST": "127.0.0.1", "CASCADE_DATA_DIR": folder}
        begin = time.monotonic()
        process = subprocess.Popen(
            app, cwd=measure.ROOT, env={**environment, **settings}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            browser = Browser(f"http://127.0.0.1:{port}")
            browser.open_page(process)
            page_s = time.monotonic() - begin
            first = browser.press_generate()
            preview_s, picture_s = (at - begin for at in first)
            warm = []
            for _ in range(2):
                again = time.monotonic()
                warm.append(browser.press_generate()[1] - again)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(LIMIT_S)
    return {"page_s": page_s, "first_preview_s": preview_s, "first_picture_s": picture_s, "warm_picture_s": min(warm)}


class Browser:
    """As much of one as presses Generate: it keeps its cookies and its session.

    Args:
        server: the page's address, without a slash at its end.
    """

    def __init__(self, server: str) -> None:
        self._server, self._session = server, secrets.token_hex(6)
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def open_page(self, process: subprocess.Popen) -> None:
        """Return when the page answers with 200.

        Raises:
            RuntimeError: the process ended, or the limit is over.
        """
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                self._opener.open(self._server, timeout=LIMIT_S).read()
                return
            time.sleep(0.02)
        raise RuntimeError(f"the page did not come: exit code {process.poll()}")

    def press_generate(self) -> tuple[float, float]:
        """One run as the page's button starts it; the moments of its first preview and of its end (time.monotonic).

        Raises:
            RuntimeError: it ended without having shown a preview.
        """
        with self._opener.open(f"{self._server}/config", timeout=LIMIT_S) as answer:
            config = json.load(answer)
        prefix = config.get("api_prefix", "")
        elements = {element["id"]: element.get("props", {}) for element in config["components"]}
        begin = next(each for each in config["dependencies"] if each.get("api_name") == "begin_generate")
        run = next(each for each in config["dependencies"] if each.get("trigger_after") == begin["id"])
        for path, each in (("run/predict", begin), ("queue/join", run)):
            data = [_value(elements[element]) for element in each["inputs"]]
            self._post(f"{prefix}/{path}", {"data": data, "fn_index": each["id"], "session_hash": self._session})
        preview = 0.0
        for message in self._messages(f"{prefix}/queue/data?session_hash={self._session}"):
            if not preview and "data:image/jpeg" in message:
                preview = time.monotonic()
            if '"process_completed"' in message:
                if not json.loads(message).get("success") or not preview:
                    raise RuntimeError(f"no picture came: {message[:300]}")
                return preview, time.monotonic()
        raise RuntimeError("the server closed the connection before the picture was done")

    def _post(self, path: str, body: dict[str, Any]) -> None:
        request = urllib.request.Request(
            self._server + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        self._opener.open(request, timeout=LIMIT_S).close()

    def _messages(self, path: str) -> Iterator[str]:
        """The queue's server-sent events."""
        with self._opener.open(self._server + path, timeout=LIMIT_S) as stream:
            for line in stream:
                if line.startswith(b"data:"):
                    yield line[5:].decode()


def _value(props: dict[str, Any]) -> Any:
    return PROMPT if props.get("elem_id") == "field-prompt" else props.get("value")


if __name__ == "__main__":
    main()
