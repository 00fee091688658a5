"""Signing in at a hub of our own: an OpenID provider in this process, spoken to as on a Space. Never run against the real one."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from cascade_app.errors import SettingsError
from cascade_app.serving.front import front
from cascade_app.serving.gate import Gate
from cascade_app.serving.hub_login import HubDoor
from cascade_app.serving.visitors import Visitors, visitor_asking
from cascade_app.settings import Settings

HERE, HUB = "https://ann-studio.hf.space", "https://hub.example"


class Hub:
    """Gives `code` to whoever signs in, and for the code and the right secret says who that is."""

    code, name = "a code", "ann"
    broken = False

    def __init__(self) -> None:
        routes = [
            Route("/.well-known/openid-configuration", self.configuration), Route("/oauth/userinfo", self.userinfo),
            Route("/oauth/token", self.token, methods=["POST"]),
        ]  # fmt: skip
        self.app = Starlette(routes=routes)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app))

    def configuration(self, request: Request) -> JSONResponse:
        if self.broken:
            return JSONResponse({"error": "maintenance"}, 503)
        names = {"authorization": "authorize", "token": "token", "userinfo": "userinfo"}
        return JSONResponse({f"{kind}_endpoint": f"{HUB}/oauth/{name}" for kind, name in names.items()})

    async def token(self, request: Request) -> JSONResponse:
        form = parse_qs((await request.body()).decode())
        known = request.headers["authorization"] == "Basic " + b64encode(b"id:secret").decode()
        right = form == {
            "grant_type": ["authorization_code"], "code": [self.code], "redirect_uri": [f"{HERE}/login/callback"],
            "client_id": ["id"],
        }  # fmt: skip
        return JSONResponse({"access_token": "a token"} if known and right else {"error": "invalid_grant"}, 200 if right else 400)

    def userinfo(self, request: Request) -> JSONResponse:
        assert request.headers["authorization"] == "Bearer a token"
        return JSONResponse({"preferred_username": self.name, "sub": "1"})


class Browser:
    """Asks the gate as the Space's proxy would, and keeps cookies."""

    def __init__(self, app: Starlette) -> None:
        self.app, self.cookies = app, httpx.Cookies()

    def get(self, url: str, accept: str = "text/html") -> httpx.Response:
        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=HERE, cookies=self.cookies) as client:
                answer = await client.get(url, headers={"Accept": accept})
                self.cookies = client.cookies
                return answer

        return asyncio.run(ask())


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def app(hub: Hub) -> Starlette:
    """Says whose gallery it would show."""
    door = HubDoor(client_id="id", client_secret="secret", provider=f"{HUB}/", address=HERE, client=hub.client)
    door.starting = False

    def who(request: Request) -> PlainTextResponse:
        return PlainTextResponse(visitor_asking(request))

    return Starlette(routes=[Route("/", who)], middleware=[Middleware(Gate, door=door), Middleware(Visitors)])


def sign_in(browser: Browser, hub: Hub) -> httpx.Response:
    asked = urlsplit(browser.get("/login/hub").headers["location"])
    query = parse_qs(asked.query)
    assert f"{asked.scheme}://{asked.netloc}{asked.path}" == f"{HUB}/oauth/authorize"
    assert query["redirect_uri"] == [f"{HERE}/login/callback"] and query["scope"] == ["openid profile"]
    return browser.get(f"/login/callback?code={hub.code}&state={query['state'][0]}")


def test_who_signed_in_is_let_in_and_the_gallery_is_the_names(app: Starlette, hub: Hub):
    first, again, other = Browser(app), Browser(app), Browser(app)
    page = first.get("/")
    assert page.status_code == 401 and f'href="{HERE}/login/hub"' in page.text
    assert sign_in(first, hub).headers["location"] == "/"
    assert "cascade_login_state" not in first.cookies
    sign_in(again, hub)
    hub.name = "ben"
    sign_in(other, hub)
    visitors = [one.get("/").text for one in (first, again, other)]
    assert visitors[0] == visitors[1] != visitors[2] and len(visitors[0]) == 32
    first.get("/logout")
    assert first.get("/").status_code == 401


def test_only_with_the_state_that_this_browser_was_given(app: Starlette, hub: Hub):
    browser = Browser(app)
    state = parse_qs(urlsplit(browser.get("/login/hub").headers["location"]).query)["state"][0]
    for query in ("", f"?code={hub.code}", f"?code={hub.code}&state=x", f"?state={state}", "?code=%ff&state=%ff"):
        assert browser.get(f"/login/callback{query}").status_code == 401, query
    assert Browser(app).get(f"/login/callback?code={hub.code}&state={state}").status_code == 401
    assert browser.get(f"/login/callback?code={hub.code}&state={state}").status_code == 303


def test_what_the_hub_refuses_is_a_sentence(app: Starlette, hub: Hub):
    browser = Browser(app)
    state = parse_qs(urlsplit(browser.get("/login/hub").headers["location"]).query)["state"][0]
    answer = browser.get(f"/login/callback?code=wrong&state={state}", accept="*/*")
    assert (answer.status_code, answer.json()) == (502, {"detail": "The hub did not say who you are. Try again in a moment."})
    hub.broken = True
    assert Browser(app).get("/login/hub").status_code == 502
    hub.broken, hub.name = False, None
    assert browser.get(f"/login/callback?code={hub.code}&state={state}").status_code == 502


def test_another_program_gets_a_sentence_and_no_password_helps(app: Starlette):
    answer = Browser(app).get("/", accept="*/*")
    assert answer.status_code == 401 and "www-authenticate" not in answer.headers


def test_elsewhere_it_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch):
    names = {"OAUTH_CLIENT_ID": "id", "OAUTH_CLIENT_SECRET": "secret", "OPENID_PROVIDER_URL": HUB}
    names["SPACE_HOST"] = "a.hf.space,b.org"
    for name, value in names.items():
        monkeypatch.setenv(name, value)
    door = front(Settings(login="hub")).door
    assert isinstance(door, HubDoor) and 'href="https://a.hf.space/login/hub"' in door.form()
    monkeypatch.delenv("OAUTH_CLIENT_ID")
    with pytest.raises(SettingsError, match="OAUTH_CLIENT_ID is not set, as it is on a Space"):
        front(Settings(login="hub"))
