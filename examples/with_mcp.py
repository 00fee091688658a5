"""A picture from a running Cascade Studio over the Model Context Protocol, the way a language model's host does it.

    pip install mcp
    python examples/with_mcp.py "a red sun over blue mountains" --server http://127.0.0.1:7860 -o sun.png

Lists the tools, calls `generate`, tells its progress, and saves the image it answers with, which holds the settings that made
it. With an address out of `pictures` in the answer, `develop` and `vary` go on from there.
"""

from __future__ import annotations

import argparse
import base64
import sys
from pathlib import Path

import anyio  # both come with mcp
import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import McpError
from mcp.types import CallToolResult


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompt", help="what the picture shows")
    parser.add_argument("--server", default="http://127.0.0.1:7860", help="address of the page (%(default)s)")
    parser.add_argument("--seed", type=int, help="the same seed gives the same picture; random if left out")
    parser.add_argument("-o", "--output", default="picture.png", help="where to save it (%(default)s)")
    parser.add_argument("--login", metavar="NAME:PASSWORD", help="where the server asks for one")
    asked = parser.parse_args()
    login = tuple(asked.login.partition(":")[::2]) if asked.login else None
    try:
        result = anyio.run(make, f"{asked.server.rstrip('/')}/gradio_api/mcp/", login, asked.prompt, asked.seed)
    except Exception as error:
        causes = [*leaves(error)]
        if not all(isinstance(cause, (httpx.HTTPError, httpx.InvalidURL, McpError)) for cause in causes):
            raise
        if any(isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code == 401 for cause in causes):
            return refuse(f"{asked.server} asks for a login: say --login NAME:PASSWORD.")
        return refuse(f"No Cascade Studio answers at {asked.server}. Start one with `make run`, or say --server.")
    texts = [one.text for one in result.content if one.type == "text"]
    if result.isError:  # the server's own sentence: a setting out of its limits, a full queue
        return refuse(" ".join(texts))
    [image] = (one for one in result.content if one.type == "image")
    try:
        Path(asked.output).write_bytes(base64.b64decode(image.data))
    except OSError as error:
        return refuse(f"{asked.output} cannot be written: {error.strerror}.")
    made = result.structuredContent
    print(f"{asked.output}: {made['width']} x {made['height']} px, seed {made['seed']}, {made['seconds']['total']:.1f} s")
    return 0


async def make(address: str, login: tuple[str, str] | None, prompt: str, seed: int | None) -> CallToolResult:
    """What the tool `generate` answers."""
    async with (
        httpx.AsyncClient(auth=login and httpx.BasicAuth(*login), timeout=httpx.Timeout(30, read=300)) as http,
        streamable_http_client(address, http_client=http) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        tools = (await session.list_tools()).tools
        print(f"Tools: {', '.join(tool.name for tool in tools)}", file=sys.stderr)
        arguments = {"prompt": prompt, **({} if seed is None else {"seed": seed})}
        return await session.call_tool("generate", arguments, progress_callback=tell)


async def tell(fraction: float, total: float | None, message: str | None) -> None:
    print(f"{fraction / (total or 1):4.0%} {message or ''}", file=sys.stderr)


def leaves(error: BaseException):
    """The errors in a group of them; the client's tasks end together."""
    if hasattr(error, "exceptions"):
        for one in error.exceptions:
            yield from leaves(one)
    else:
        yield error


def refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
