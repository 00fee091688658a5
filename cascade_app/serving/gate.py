"""The gate: where a login is set up, every address asks for it, Gradio's and our own, but `/health` and the login's own.

    Gate(app, door)         ASGI middleware, outside of everything that answers
    SharedDoor, HubDoor     what it asks for: one shared login, or signing in at the hub (hub_login.py)

A browser gets a page to log in and a cookie. Another program sends the shared login with each call (`Authorization: Basic`),
or posts it once to `/login` and keeps the cookie, as gradio_client's `auth=` does. Gradio has an `auth` of its own, which some
of its routes do not ask for; it is not used. Knows nothing of pictures or runs.
"""

from __future__ import annotations

from html import escape
from typing import Protocol
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cascade_app.errors import OverLimit
from cascade_app.serving.addresses import address_in
from cascade_app.serving.login import Guesses, Seal, SharedLogin
from cascade_app.serving.visitors import USER, cookie_line

COOKIE = "cascade_login"
KEPT_S = 30 * 86_400
FORM_BYTES = 10_000
OPEN = ("/health",)
STARTING = "/gradio_api/startup-events"  # which Gradio calls itself while it is launched
ASK = "This server asks for a login."
WRONG = "That name and password are not right. Try again."
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
_STYLE = """
:root{color-scheme:light dark;--ink:#222;--paper:#f6f5f3;--line:#8a857d;--accent:#a8471d}
@media(prefers-color-scheme:dark){:root{--ink:#e8e4de;--paper:#171614;--line:#7d776f;--accent:#e88b5a}}
body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--paper);color:var(--ink);
font:1rem/1.5 system-ui,sans-serif}main{width:min(22rem,88vw)}h1{font-weight:500;font-size:1.5rem}
label{display:block;margin:.75rem 0}input{display:block;box-sizing:border-box;width:100%;padding:.6rem;font:inherit;
color:inherit;background:transparent;border:1px solid var(--line);border-radius:.4rem}
button,a.button{display:inline-block;margin-top:.75rem;padding:.6rem 1.2rem;font:inherit;border:0;border-radius:.4rem;
background:var(--accent);color:var(--paper);text-decoration:none;cursor:pointer}[role=alert]{color:var(--accent)}
"""


class Door(Protocol):
    """What a gate asks for."""

    starting: bool  # until the page is launched

    def user(self, scope: Scope) -> str | None:
        """Who it is that asks: a name, "" where all who are let in are alike, None for nobody. Raises OverLimit."""

    def form(self) -> str:
        """How to log in, as HTML."""

    async def answer(self, request: Request) -> Response | None:
        """The answer to one of its own addresses; None for any other."""


class Gate:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # the app has none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http" or self._is_open(scope):
            await self.app(scope, receive, send)
            return
        scope.pop(USER, None)
        try:
            answer = await self.door.answer(Request(scope, receive))
        except ClientDisconnect:
            return
        if answer is None:
            try:
                user = self.door.user(scope)
            except OverLimit as error:
                answer = refusal(scope, error.message, self.door, status=429)
            else:
                if user is not None:
                    scope[USER] = user or None
                    await self.app(scope, receive, send)
                    return
                answer = refusal(scope, ASK, self.door)
        await answer(scope, receive, send)

    def _is_open(self, scope: Scope) -> bool:
        path = scope["path"].removeprefix(scope.get("root_path") or "")
        return path in OPEN or (self.door.starting and path == STARTING)


class SharedDoor:
    """One login for all."""

    def __init__(self, login: SharedLogin, *, seal: Seal | None = None, guesses: Guesses | None = None) -> None:
        self.starting = True
        self._login = login
        self._seal = seal or Seal(f"{login.name}:{login.password}", "shared login")
        self._guesses = guesses or Guesses()

    def user(self, scope: Scope) -> str | None:
        if self._seal.open(cookie_in(scope, COOKIE)) == self._login.name:
            return ""
        sent = Headers(scope=scope).get("authorization", "")
        if not sent:
            return None
        self._guesses.check(address_in(scope))
        if self._login.in_header(sent):
            return ""
        self._guesses.wrong(address_in(scope))
        return None

    def form(self) -> str:
        return (
            '<form method="post" action="login"><label>Name<input name="username" autocomplete="username" required autofocus>'
            '</label><label>Password<input name="password" type="password" autocomplete="current-password" required></label>'
            "<button>Log in</button></form>"
        )

    async def answer(self, request: Request) -> Response | None:
        path = _path(request)
        if path == "/logout":
            return leave(request.scope)
        if path != "/login":
            return None
        if request.method != "POST":
            return refusal(request.scope, ASK, self)
        try:
            self._guesses.check(address_in(request.scope))
        except OverLimit as error:
            return refusal(request.scope, error.message, self, status=429)
        if not self._login.is_it(*await _posted(request)):
            self._guesses.wrong(address_in(request.scope))
            return refusal(request.scope, WRONG, self)
        return enter(request.scope, self._seal.close(self._login.name, kept_s=KEPT_S), kept_s=KEPT_S)


async def _posted(request: Request) -> tuple[str, str]:
    """The name and password of a form."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > FORM_BYTES:
            return "", ""
    fields = parse_qs(data.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=None)
    return fields.get("username", [""])[0], fields.get("password", [""])[0]


def _path(request: Request) -> str:
    path = request.scope["path"].removeprefix(request.scope.get("root_path") or "")
    return path.rstrip("/") or "/"


def cookie_in(scope: Scope, name: str) -> str:
    """The value of a cookie, "" where there is none."""
    for line in Headers(scope=scope).getlist("cookie"):
        for part in line.split(";"):
            key, _, value = part.strip().partition("=")
            if key == name:
                return value
    return ""


def enter(scope: Scope, sealed: str, *, kept_s: int) -> Response:
    """Let in: to the page, or for a program a word of it."""
    answer: Response = JSONResponse({"success": True}, headers=_HEADERS)
    if wants_page(scope):
        answer = RedirectResponse(f"{scope.get('root_path') or ''}/", 303, headers=_HEADERS)
    answer.headers.append("set-cookie", cookie_line(sealed, scope, name=COOKIE, kept_s=kept_s))
    return answer


def leave(scope: Scope) -> Response:
    """Log out this browser."""
    answer = RedirectResponse(f"{scope.get('root_path') or ''}/", 303, headers=_HEADERS)
    answer.headers.append("set-cookie", cookie_line("", scope, name=COOKIE, kept_s=0))
    return answer


def wants_page(scope: Scope) -> bool:
    """Whether a person looks at the answer."""
    return "text/html" in Headers(scope=scope).get("accept", "")


def refusal(scope: Scope, sentence: str, door: Door, *, status: int = 401) -> Response:
    """Not let in: the page to log in, or for a program a sentence."""
    if wants_page(scope):
        told = "" if sentence == ASK else f'<p role="alert">{escape(sentence)}</p>'
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>Cascade Studio</title><style>{_STYLE}</style><main><h1>Cascade Studio</h1>{told}{door.form()}</main></html>"
        )
        return HTMLResponse(page, status, headers=_HEADERS)
    headers = dict(_HEADERS)
    if status == 401 and isinstance(door, SharedDoor) and "sec-fetch-mode" not in Headers(scope=scope):
        headers["WWW-Authenticate"] = 'Basic realm="Cascade Studio", charset="UTF-8"'  # a browser would open a window of its own
    return JSONResponse({"detail": sentence}, status, headers=headers)
