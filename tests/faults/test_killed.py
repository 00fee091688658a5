"""The served app is killed with `kill -9` while it saves, and started again over the same folder: nothing saved is lost.

`tests/gallery/test_killed.py` kills a saver a hundred times and more, at moments spread over every line of the way; here it is
the whole server, a few times, at moments of the clock, and what it says afterwards is asked over HTTP.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path

import httpx

from cascade_app.gallery.gallery import Gallery, Reconciled
from cascade_app.gallery.png import encode_png
from cascade_app.gallery.reading import read
from tests.fakes import draw
from tests.faults.server import LIMIT_S, Server
from tests.gallery.test_gallery import record_of

DEATHS = 3


def drop_until_it_dies(server: Server, cookies: httpx.Cookies) -> set[str]:
    """Give it pictures to keep, one after the other; the ids of those that it said it had kept."""
    kept = set()
    with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", cookies=cookies, timeout=LIMIT_S) as client:
        try:
            while True:
                record = record_of("a boat", width=64, height=64)
                answer = client.post("/pictures", content=encode_png(draw(64, 64, len(kept)), record))
                assert answer.status_code == 200 and answer.json()["id"] == record.id, answer.text
                kept.add(record.id)
                if len(kept) == 1:  # it is up and saving: from here on, any moment
                    threading.Timer(random.random() / 5, server.kill).start()
        except httpx.TransportError:
            return kept


def test_the_server_is_killed_while_it_saves(tmp_path: Path):
    server, kept = Server(tmp_path), set()
    try:
        client = server.start().visitor()
        for _ in range(DEATHS):
            kept |= drop_until_it_dies(server, client.cookies)
            server.start()
        assert len(kept) >= DEATHS
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", cookies=client.cookies, timeout=LIMIT_S) as again:
            for id in kept:
                assert read(again.get(f"/pictures/{id}.png").raise_for_status().content).record.id == id
    finally:
        server.kill()

    gallery = Gallery(tmp_path / "data" / "pictures")
    assert gallery.open() == Reconciled(), "the last start brought index and files in line"
    files = {path.name[-36:-4]: path for path in gallery.folder.rglob("*.png")}
    assert kept <= set(files)
    for id, path in files.items():
        assert read(path.read_bytes()).record.id == id, "no file is half"
    assert gallery.rebuild() == Reconciled(added=len(files))
    gallery.close()
