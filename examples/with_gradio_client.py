"""A picture from a running Cascade Studio with Gradio's own client.

    pip install gradio_client
    python examples/with_gradio_client.py "a red sun over blue mountains" --server http://127.0.0.1:7860 -o sun.png

The file holds the settings that made it. Every argument of the page can be passed to `predict`; `client.view_api()` lists them.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from base64 import b64encode

import httpx  # comes with gradio_client
from gradio_client import Client
from gradio_client.exceptions import AppError, AuthenticationError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompt", help="what the picture shows")
    parser.add_argument("--server", default="http://127.0.0.1:7860", help="address of the page (%(default)s)")
    parser.add_argument("--seed", type=int, help="the same seed gives the same picture; random if left out")
    parser.add_argument("-o", "--output", default="picture.png", help="where to save it (%(default)s)")
    parser.add_argument("--login", metavar="NAME:PASSWORD", help="where the server asks for one")
    asked = parser.parse_args()
    headers = {"Authorization": f"Basic {b64encode(asked.login.encode()).decode()}"} if asked.login else {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            client = Client(asked.server, verbose=False, download_files=folder, headers=headers)
            pictures, made = client.predict(prompt=asked.prompt, seed=asked.seed, api_name="/generate")
            shutil.copyfile(pictures[0], asked.output)
    except AppError as error:  # the server's own sentence: a setting out of its limits, a full queue
        return refuse(str(error))
    except AuthenticationError:
        return refuse(f"{asked.server} asks for a login: say --login NAME:PASSWORD.")
    except (httpx.HTTPError, ValueError):  # nobody there, or no page of Gradio's
        return refuse(f"No Cascade Studio answers at {asked.server}. Start one with `make run`, or say --server.")
    except OSError as error:
        return refuse(f"{asked.output} cannot be written: {error.strerror}.")
    print(f"{asked.output}: {made['width']} x {made['height']} px, seed {made['seed']}, {made['seconds']['total']:.1f} s")
    return 0


def refuse(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
