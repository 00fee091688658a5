"""Who is asking: a visitor is an unguessable id in a cookie of the browser, or whoever logged in where a login is set up.

    visitor_of(http)       in the handlers of the page and the API (`http: gr.Request`), for `gallery.of`
    visitor_asking(http)   the same in a route of our own, for Starlette's request
    caller_of(http)        the visitor, if it is one, and the address, as `asked_by` takes it
    Visitors               the middleware that gives a browser its id with the first page, and keeps what was handed out by
                           the API (see handover.py) from everyone else

The gallery knows a visitor by a hash of the id, so that neither its folders nor a copy of them let anyone in. The id is in no
URL and in nothing the page holds. Knows nothing of pictures.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cascade_app.errors import NoVisitor
from cascade_app.serving.addresses import address_in
from cascade_app.serving.caller import Caller

COOKIE = "cascade_visitor"
USER = "cascade.user"  # in a request's scope, by the gate: who signed in, where people do so by name
KEPT_S = 400 * 86_400  # as long as browsers allow; every page load starts it anew
NOT_HERE = "There is no such picture here; it may have been removed."  # the same of one that is somebody else's
_ID = re.compile(r"[A-Za-z0-9_-]{43}")  # 256 bits
HANDED_PREFIX = "cascade-handed-"
_HANDED = re.compile(rf"{HANDED_PREFIX}([0-9a-f]{{32}})-[0-9a-f]{{32}}", re.IGNORECASE)  # a folder made by `handed_name`


def visitor_of(http: Any) -> str:
    """Who sent a `gr.Request`, as `Gallery.of` takes it.

    Raises:
        NoVisitor: a browser without the cookie, which keeps none.
    """
    user = _scope(http).get(USER)
    return _visitor(http.headers.get("cookie"), http.username if user is None else user)


def caller_of(http: Any) -> Caller:
    """Who sent a `gr.Request`, for a run; the visitor is "" where nobody can tell."""
    address = address_in(_scope(http))
    try:
        return Caller(visitor_of(http), address)
    except NoVisitor:
        return Caller(address=address)


def _scope(http: Any) -> Any:
    """What the server and the middleware noted with a `gr.Request`."""
    return getattr(getattr(http, "request", None), "scope", None) or {}


def visitor_asking(http: Request) -> str:
    """Who sent a request to a route of our own. Raises NoVisitor, also where a login is set up and nobody is logged in."""
    app = http.app
    if http.scope.get(USER) is not None:
        return _visitor(None, http.scope[USER])
    if getattr(app, "auth_dependency", None) is not None:
        user = app.auth_dependency(http)
        return _visitor(None, user if isinstance(user, str) else None)
    if getattr(app, "auth", None) is None:
        return _visitor(http.headers.get("cookie"), None)
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    token = next((http.cookies[name] for name in names if http.cookies.get(name)), None)
    return _visitor(None, app.tokens.get(token))


def _visitor(cookie: str | None, username: str | None) -> str:
    if username is not None:
        return _hash(f"login:{username}")
    id = _id_in(cookie)
    if id is None:
        raise NoVisitor(
            "Your browser keeps no cookie for this page, so that pictures cannot be kept for you. Allow cookies for it, then "
            "load it again."
        )
    return _hash(f"cookie:{id}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _id_in(cookie: str | None) -> str | None:
    """The id in a Cookie header, if it is one that we could have given."""
    for part in (cookie or "").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE and _ID.fullmatch(value):
            return value
    return None


def handed_name(visitor: str | None) -> str:
    """The name of a folder whose files only `visitor` may fetch from Gradio's cache; of None, whoever knows the name."""
    return f"{HANDED_PREFIX}{_hash(f'handed:{visitor}') if visitor else '0' * 32}-{secrets.token_hex(16)}"


def handed_to(folder: str, visitor: str | None) -> bool:
    """Whether the folder of that name is one of `handed_name` whose files `visitor`, or None, may have."""
    match = _HANDED.fullmatch(folder)
    if match is None:
        return False
    return match[1] == "0" * 32 or (visitor is not None and match[1].lower() == _hash(f"handed:{visitor}"))


class Visitors:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif self._is_kept_from(scope):
            await PlainTextResponse(NOT_HERE, 404)(scope, receive, send)
        elif scope["method"] == "GET":
            await self.app(scope, receive, _with_cookie(scope, send))
        else:
            await self.app(scope, receive, send)

    def _is_kept_from(self, scope: Scope) -> bool:
        match = _HANDED.search(scope["path"])
        if match is None or match[1] == "0" * 32:
            return False
        try:
            return match[1].lower() != _hash(f"handed:{visitor_asking(Request(scope))}")
        except NoVisitor:
            return True


def _with_cookie(scope: Scope, send: Send) -> Send:
    """`send`, but a page that goes out carries the visitor's cookie: a new id, or the old one for as long again."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            headers = MutableHeaders(scope=message)
            if headers.get("content-type", "").startswith("text/html"):
                asked = Headers(scope=scope)
                headers.append("set-cookie", cookie_line(_id_in(asked.get("cookie")) or secrets.token_urlsafe(32), scope))
                headers["cache-control"] = "no-store"  # a page from a shared cache would bring somebody else's cookie
        await send(message)

    return sending


def cookie_line(value: str, scope: Scope, *, name: str = COOKIE, kept_s: int = KEPT_S) -> str:
    """The Set-Cookie line. In another site's frame, as on a hosted Space, only a partitioned cookie is kept at all."""
    headers = Headers(scope=scope)
    secure = "https" in (scope.get("scheme"), headers.get("x-forwarded-proto", "").split(",")[0].strip())
    framed = secure and headers.get("sec-fetch-dest") in ("iframe", "frame")
    line = f"{name}={value}; Path=/; Max-Age={kept_s}; HttpOnly"
    return line + ("; Secure; SameSite=None; Partitioned" if framed else "; Secure; SameSite=Lax" if secure else "; SameSite=Lax")
