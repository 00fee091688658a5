"""An address is what one's own proxies wrote, never what the caller did."""

from __future__ import annotations

import asyncio

import pytest

from cascade_app.serving.addresses import Addresses, address_in, address_of


def scope(*forwarded: str, near: str | None = "10.0.0.9") -> dict:
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    return {"type": "http", "headers": headers, "client": (near, 5000) if near else None}


@pytest.mark.parametrize(
    ("forwarded", "proxies", "address"),
    [
        ((), 0, "10.0.0.9"),
        (("203.0.113.7",), 0, "10.0.0.9"),  # nobody vouches for the header
        (("203.0.113.7",), 1, "203.0.113.7"),
        (("1.1.1.1, 203.0.113.7",), 1, "203.0.113.7"),  # the caller began it
        (("1.1.1.1", "203.0.113.7"), 1, "203.0.113.7"),  # in lines of its own
        (("1.1.1.1, 203.0.113.7, 10.0.0.1",), 2, "203.0.113.7"),
        (("203.0.113.7",), 2, "10.0.0.9"),  # it did not come through both
        ((), 1, "10.0.0.9"),
        (("nonsense",), 1, "10.0.0.9"),
        (("203.0.113.7:4711",), 1, "10.0.0.9"),
        (("2001:db8:1:2:3:4:5:6",), 1, "2001:db8:1:2::"),
        (("[2001:db8:1:2::1]",), 1, "2001:db8:1:2::"),
        (("::ffff:203.0.113.7",), 1, "203.0.113.7"),
    ],
)
def test_whom_the_outermost_proxy_heard(forwarded: tuple[str, ...], proxies: int, address: str):
    assert address_of(scope(*forwarded), proxies) == address


def test_a_connection_without_an_address():
    assert address_of(scope(near=None), 0) == ""
    assert address_of(scope(near="testclient"), 0) == "testclient"


def test_it_is_noted_with_the_request():
    heard = []

    async def app(scope, receive, send) -> None:
        heard.append(address_in(scope))

    asyncio.run(Addresses(app, 1)(scope("203.0.113.7"), None, None))
    asyncio.run(Addresses(app, 1)({"type": "lifespan"}, None, None))
    assert heard == ["203.0.113.7", ""]
