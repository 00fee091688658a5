"""With a login, every address of the live app asks for it but `/health`; with it, all of them answer as without one."""

from __future__ import annotations

import re
import socket
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AuthenticationError
from starlette.routing import Mount, Route

from cascade_app.gallery.gallery import Gallery
from cascade_app.gallery.item import Query
from cascade_app.serving import gate
from cascade_app.serving.front import front
from cascade_app.serving.health import Health, health_route
from cascade_app.serving.login import GUESSES
from cascade_app.serving.pictures import app_options
from cascade_app.serving.visitors import COOKIE
from cascade_app.settings import Settings
from cascade_app.ui.blocks import build_ui, launch_options
from tests.fakes import FakeBackend

LOGIN = ("ann", "pass:wörd")
BASIC = {"Authorization": "Basic " + b64encode(":".join(LOGIN).encode()).decode()}
AS_BROWSER = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}


@dataclass
class Server:
    address: str
    app: object
    gallery: Gallery

    def client(self, **options) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=30, **options)

    def logged_in(self) -> httpx.Client:
        client = self.client(follow_redirects=True)
        page = client.post("/login", data={"username": LOGIN[0], "password": LOGIN[1]}, headers=AS_BROWSER)
        assert page.status_code == 200 and COOKIE in client.cookies
        return client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("gate")
    gallery = Gallery(folder / "pictures")
    gallery.open()
    backend = FakeBackend()
    before = front(Settings(login=":".join(LOGIN), data_dir=folder))
    options = app_options(gallery, front=before.middleware)
    options["routes"].append(health_route(Health(backend)))
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    blocks = build_ui(backend, gallery, checkpoint="pocket")
    app, *_ = blocks.launch(
        server_port=port, prevent_thread_lock=True, quiet=True, app_kwargs=options, **launch_options()
    )
    before.launched()
    yield Server(f"http://127.0.0.1:{port}", app, gallery)
    blocks.close(verbose=False)
    gallery.close()


def addresses(server: Server) -> list[tuple[str, str]]:
    """Every method and path that the app answers, with something in the place of each parameter."""
    found = set()

    def walk(routes, prefix: str) -> None:
        for route in routes:
            path = prefix + getattr(route, "path", "")
            inner = getattr(route, "routes", None) or getattr(getattr(route, "original_router", None), "routes", None)
            if isinstance(route, Mount):
                found.add(("GET", f"{path}/"))
            if isinstance(route, Route):
                found.update((method, re.sub(r"\{[^}]*\}", "x", path)) for method in route.methods or {"GET"})
            elif inner:
                walk(inner, prefix if not isinstance(route, Mount) else path)

    walk(server.app.routes, "")
    return sorted(found)


def test_every_route_asks_for_the_login(server: Server):
    walked = addresses(server)
    assert len(walked) > 60, walked
    named = {path for _, path in walked}
    assert {"/config", "/gradio_api/cancel", "/gradio_api/heartbeat/x", "/gradio_api/upload", "/pictures/x.x"} <= named
    more = ["/", "/no-such-page", "/gradio_api/", "//config", "/config/", "/healthy", "/health/x", "/login/x", "/%2e/config"]
    with server.client() as client:
        for method, path in [*walked, *(("GET", path) for path in more), ("PATCH", "/"), ("OPTIONS", "/pictures")]:
            if path.rstrip("/") in (*gate.OPEN, "/login", "/logout"):
                continue
            answer = client.request(method, path)
            assert answer.status_code == 401, (method, path, answer.status_code, answer.text[:200])
            assert "set-cookie" not in answer.headers
            assert method == "HEAD" or answer.json() == {"detail": gate.ASK}


def test_health_does_not(server: Server):
    with server.client() as client:
        assert client.get("/health").json()["state"] == "ready"


@pytest.mark.parametrize("cookie", ["", "x", "x.y", "ann", f"{'A' * 40}.{'0' * 64}"])
def test_a_made_up_cookie_opens_nothing(server: Server, cookie: str):
    with server.client(headers={"Cookie": f"{gate.COOKIE}={cookie}"}) as client:
        assert client.get("/config").status_code == 401


def test_a_browser_gets_a_page_to_log_in_and_then_the_app(server: Server):
    with server.client() as client:
        page = client.get("/", headers=AS_BROWSER)
        assert page.status_code == 401 and "<form" in page.text and "www-authenticate" not in page.headers
        wrong = client.post("/login", data={"username": "ann", "password": "<b>"}, headers=AS_BROWSER)
        assert wrong.status_code == 401 and gate.WRONG in wrong.text and gate.COOKIE not in client.cookies
        right = client.post("/login", data={"username": LOGIN[0], "password": LOGIN[1]}, headers=AS_BROWSER)
        assert (right.status_code, right.headers["location"]) == (303, "/")
        assert re.search(r"; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax$", right.headers["set-cookie"])
        assert "gradio" in client.get("/", headers=AS_BROWSER).text
        assert client.get("/config").status_code == 200
        client.get("/logout")
        assert client.get("/config").status_code == 401


def test_another_program_sends_it_with_the_call_or_once(server: Server):
    with server.client(headers=BASIC) as client:
        assert client.get("/config").status_code == 200
    with server.client(headers={"Authorization": "Basic YW5uOng="}) as client:
        answer = client.get("/config")
        assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Basic ")
    client = Client(server.address, auth=LOGIN, verbose=False)
    pictures, made = client.predict(prompt="a red sun", width=128, height=128, api_name="/generate")
    assert Path(pictures[0]).is_file() and made["width"] == 128
    with pytest.raises(AuthenticationError):
        Client(server.address, auth=("ann", "wrong"), verbose=False)


def test_a_gallery_is_still_the_browsers_own(server: Server):
    ann, ben = server.logged_in(), server.logged_in()
    assert ann.cookies[COOKIE] != ben.cookies[COOKIE]
    answer = ann.post("/gradio_api/call/v2/generate", json={"prompt": "a boat", "width": 128, "height": 128}).json()
    assert "event: complete" in ann.get(f"/gradio_api/call/generate/{answer['event_id']}").text
    homes = [home for home in server.gallery.folder.iterdir() if home.is_dir() and list(home.glob("*.png"))]
    [item] = server.gallery.of(homes[-1].name).page(Query(search="a boat")).items
    assert ann.get(f"/{item.url}").status_code == 200
    assert ben.get(f"/{item.url}").status_code == 404
    with server.client(cookies={COOKIE: ann.cookies[COOKIE]}) as nobody:
        assert nobody.get(f"/{item.url}").status_code == 401


def test_too_many_guesses(tmp_path: Path):
    door = gate.SharedDoor(gate.SharedLogin.of("ann:secret"))
    scope = {"type": "http", "headers": [(b"authorization", b"Basic YW5uOng=")], "cascade.address": "192.0.2.1"}
    assert [door.user(scope) for _ in range(GUESSES)] == [None] * GUESSES
    with pytest.raises(gate.OverLimit):
        door.user(scope)
    assert door.user({**scope, "cascade.address": "192.0.2.2"}) is None
