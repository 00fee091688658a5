"""Signing in at the hub, on a Space: OpenID Connect with what the hub gives a Space whose Spacefile says `hf_oauth: true`.

    HubDoor.on_this_space()      from the variables the hub sets
    GET /login/hub               to the hub's page that asks the user
    GET /login/callback          back from it: who is it? A cookie says so from then on

The hub is asked for nothing but the user's name. Its own page cannot be shown inside another page, so from a Space that is
shown in the hub's frame signing in opens a tab of its own. Knows nothing of what one is let in to.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import httpx
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import Scope

from cascade_app.errors import SettingsError
from cascade_app.serving.gate import COOKIE, cookie_in, enter, leave, refusal
from cascade_app.serving.login import Seal
from cascade_app.serving.visitors import cookie_line

KEPT_S = 7 * 86_400
STATE_COOKIE, STATE_KEPT_S = "cascade_login_state", 600
VARIABLES = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OPENID_PROVIDER_URL", "SPACE_HOST")
NOT_BEGUN = "Signing in was not begun in this browser, or took too long. Try again."
NOT_SAID = "The hub did not say who you are. Try again in a moment."
_log = logging.getLogger(__name__)


class HubDoor:
    """See the module. `address` is that of this server, as the hub knows it; `client` makes the calls to the hub."""

    def __init__(
        self, *, client_id: str, client_secret: str, provider: str, address: str,
        client: Callable[[], httpx.AsyncClient] = lambda: httpx.AsyncClient(timeout=10), clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.starting = True
        self._id, self._secret, self._provider, self._address = client_id, client_secret, provider.rstrip("/"), address
        self._client = client
        self._seal = Seal(client_secret, "user of the hub", clock=clock)
        self._states = Seal(client_secret, "way to the hub", clock=clock)

    @classmethod
    def on_this_space(cls, environ: Mapping[str, str] = os.environ) -> HubDoor:
        """Raises SettingsError where this is no Space with sign-in."""
        missing = [name for name in VARIABLES if not environ.get(name)]
        if missing:
            raise SettingsError(
                f"CASCADE_LOGIN is hub, but {missing[0]} is not set, as it is on a Space whose Spacefile says hf_oauth: true. "
                "Write name:password elsewhere."
            )
        host = environ["SPACE_HOST"].split(",")[0].strip()  # one's own domains follow
        return cls(
            client_id=environ["OAUTH_CLIENT_ID"], client_secret=environ["OAUTH_CLIENT_SECRET"],
            provider=environ["OPENID_PROVIDER_URL"], address=f"https://{host}",
        )  # fmt: skip

    def user(self, scope: Scope) -> str | None:
        return self._seal.open(cookie_in(scope, COOKIE)) or None

    def form(self) -> str:
        return (
            f'<p>This server asks who you are. It learns your name on the hub and nothing else.</p><a class="button" '
            f'href="{self._address}/login/hub" target="_blank">Sign in with Hugging Face</a>'
        )

    async def answer(self, request: Request) -> Response | None:
        path = request.scope["path"].removeprefix(request.scope.get("root_path") or "").rstrip("/")
        if path == "/logout":
            return leave(request.scope)
        if path not in ("/login/hub", "/login/callback"):
            return None
        try:
            return await (self._go if path == "/login/hub" else self._come_back)(request)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
            _log.warning("Signing in at the hub failed: %s", type(error).__name__)
            return refusal(request.scope, NOT_SAID, self, status=502)

    async def _go(self, request: Request) -> Response:
        state = secrets.token_urlsafe(24)
        asked = {
            "client_id": self._id, "redirect_uri": self._callback, "response_type": "code", "scope": "openid profile",
            "state": state,
        }  # fmt: skip
        async with self._client() as client:
            page = (await self._endpoints(client))["authorization_endpoint"]
        answer = RedirectResponse(f"{page}?{urlencode(asked)}", 303, headers={"Cache-Control": "no-store"})
        sealed = self._states.close(state, kept_s=STATE_KEPT_S)
        answer.headers.append("set-cookie", cookie_line(sealed, request.scope, name=STATE_COOKIE, kept_s=STATE_KEPT_S))
        return answer

    async def _come_back(self, request: Request) -> Response:
        state = self._states.open(cookie_in(request.scope, STATE_COOKIE))
        code = request.query_params.get("code", "")
        if not state or not code or not secrets.compare_digest(state.encode(), request.query_params.get("state", "").encode()):
            return refusal(request.scope, NOT_BEGUN, self)
        async with self._client() as client:
            name = await self._name(client, code)
        answer = enter(request.scope, self._seal.close(name, kept_s=KEPT_S), kept_s=KEPT_S)
        answer.headers.append("set-cookie", cookie_line("", request.scope, name=STATE_COOKIE, kept_s=0))
        return answer

    async def _name(self, client: httpx.AsyncClient, code: str) -> str:
        """Whose permission the code is. Raises as httpx does, or KeyError and the like where the hub answers something else."""
        endpoints = await self._endpoints(client)
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._callback, "client_id": self._id}
        answer = await client.post(endpoints["token_endpoint"], data=form, auth=(self._id, self._secret))
        token = answer.raise_for_status().json()["access_token"]
        answer = await client.get(endpoints["userinfo_endpoint"], headers={"Authorization": f"Bearer {token}"})
        name = answer.raise_for_status().json()["preferred_username"]
        if not isinstance(name, str) or not name:
            raise ValueError("no name")
        return name

    async def _endpoints(self, client: httpx.AsyncClient) -> dict[str, Any]:
        answer = await client.get(f"{self._provider}/.well-known/openid-configuration")
        return answer.raise_for_status().json()

    @property
    def _callback(self) -> str:
        return f"{self._address}/login/callback"
