"""A page of the gallery with few and with many records: milliseconds of server time, and what a start costs with real files.

    python -m cascade_app.bench.gallery --few 50 --many 5000

Saves that many small pictures as files, in a folder that is removed afterwards. Prints one line of JSON last.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.item import Query
from cascade_app.record import Record, new_id
from cascade_app.request import GenerationRequest

VISITOR = "a" * 32
ROUNDS = 20
WORDS = "a white lighthouse on a rock, oil on canvas, evening light, waves"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--few", type=int, default=50)
    parser.add_argument("--many", type=int, default=5000)
    arguments = parser.parse_args()
    few, many = measure(arguments.few), measure(arguments.many)
    ratio = many["page_ms"]["first"]["cpu"] / few["page_ms"]["first"]["cpu"]
    print(json.dumps({"benchmark": "gallery", "few": few, "many": many, "first_page_ratio": round(ratio, 2)}))


def measure(count: int) -> dict[str, Any]:
    """Fill a gallery with `count` pictures and look at it."""
    with tempfile.TemporaryDirectory() as folder:
        gallery = Gallery(Path(folder))
        gallery.open()
        fill(gallery, count)
        album = gallery.of(VISITOR)
        middle = album.page(count=1).items[0].name.replace("20", "21", 1)
        queries = {
            "first": Query(), "after": Query(after=middle), "favourites": Query(favourites=True), "search": Query(search="rock"),
            "search_in_vain": Query(search="no such words"),
        }  # fmt: skip
        pages = {name: milliseconds(lambda query=query: album.page(query)) for name, query in queries.items()}
        peak_before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start_ms = milliseconds(gallery.open, rounds=3)
        rebuild_ms = milliseconds(gallery.rebuild, rounds=1)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_before
        gallery.close()
    return {"records": count, "page_ms": pages, "start_ms": start_ms, "rebuild_ms": rebuild_ms, "peak_grown_kb": grown}


def fill(gallery: Gallery, count: int) -> None:
    album = gallery.of(VISITOR)
    for number in range(count):
        request = GenerationRequest.from_values({"prompt": f"{WORDS}, {number}", "seed": number, "width": 256, "height": 256})
        item = album.add(Image.new("RGB", (16, 16)), Record(new_id(), "picture", time.time(), request))
        if number % 10 == 0:
            album.favourite(item.id, True)


def milliseconds(work: Callable[[], object], *, rounds: int = ROUNDS) -> dict[str, float]:
    """Medians of `rounds`: by the clock, and of this thread's own computing, which other programs do not stretch."""
    clock, own = [], []
    for _ in range(rounds):
        begin, begin_own = time.perf_counter(), time.thread_time()
        work()
        own.append(1000 * (time.thread_time() - begin_own))
        clock.append(1000 * (time.perf_counter() - begin))
    return {"clock": round(statistics.median(clock), 2), "cpu": round(statistics.median(own), 2)}


if __name__ == "__main__":
    main()
