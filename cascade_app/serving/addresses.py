"""Where a request comes from: the address of the machine that asked, as far as it can be trusted.

    Addresses                the middleware that notes it with the request, before everything else
    address_in(scope)        the note; "" where there is none

Behind proxies the connection is always theirs, and X-Forwarded-For is a list to which each of them adds at the end whom it
heard. A caller may have begun it with anything, so only the entries of one's own proxies count: `CASCADE_PROXIES` says how
many there are, and the entry that the first of them wrote is the address. Of an IPv6 address the network part stands for the
whole: one machine has all the rest to itself. Knows nothing of visitors.
"""

from __future__ import annotations

import ipaddress
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

NOTE = "cascade.address"
IPV6_NETWORK_BITS = 64


class Addresses:
    """ASGI middleware; see the module."""

    def __init__(self, app: ASGIApp, proxies: int = 0) -> None:
        self.app, self.proxies = app, proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope[NOTE] = address_of(scope, self.proxies)
        await self.app(scope, receive, send)


def address_in(scope: MutableMapping[str, Any]) -> str:
    """What `Addresses` noted."""
    return scope.get(NOTE, "")


def address_of(scope: Scope, proxies: int) -> str:
    """Whom the outermost of `proxies` heard; the other end of the connection where the header holds fewer, or no address."""
    near = (scope.get("client") or ("",))[0]
    heard = [one.strip() for line in Headers(scope=scope).getlist("x-forwarded-for") for one in line.split(",")]
    far = heard[-proxies] if 0 < proxies <= len(heard) else near
    return _network(far) or _network(near) or near


def _network(text: str) -> str:
    """The address, or of IPv6 its network; "" where it is none."""
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), IPV6_NETWORK_BITS), strict=False).network_address)
