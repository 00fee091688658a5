"""A browser gets its id once, in a cookie that nothing but the browser reads, and is known by it alone."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from cascade_app.errors import NoVisitor
from cascade_app.serving.visitors import COOKIE, USER, caller_of, cookie_line, visitor_of
from tests.serving.conftest import keep

ID = "A" * 43


def asking(cookie: str | None, username: str | None = None) -> SimpleNamespace:
    headers = {} if cookie is None else {"cookie": cookie}
    return SimpleNamespace(headers=headers, username=username)


def scope(**headers: str) -> dict:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "scheme": "http", "headers": named}


def test_the_first_page_brings_the_cookie_and_later_ones_keep_it(browser):
    client = browser(opened=False)
    line = client.get("/").headers["set-cookie"]
    assert re.fullmatch(rf"{COOKIE}=[\w-]{{43}}; Path=/; Max-Age=34560000; HttpOnly; SameSite=Lax", line)
    again = client.get("/")
    assert again.headers["set-cookie"] == line and again.headers["cache-control"] == "no-store"
    assert browser().cookies[COOKIE] != client.cookies[COOKIE]


def test_nothing_else_brings_one(browser):
    client = browser(opened=False)
    for url in ("/config", "/gradio_api/info", "/theme.css", "/pictures/x.png", "/no-such-page"):
        assert "set-cookie" not in client.get(url).headers, url


def test_the_id_is_in_no_answer_and_names_no_folder(browser, gallery):
    client = browser()
    id = client.cookies[COOKIE]
    keep(client, "a boat")
    for url in ("/", "/config", "/gradio_api/info"):
        assert id not in client.get(url).text
    assert id not in "".join(map(str, gallery.folder.rglob("*")))


def test_in_another_sites_frame_the_cookie_is_partitioned():
    attributes = cookie_line(ID, scope(x_forwarded_proto="https", sec_fetch_dest="iframe"))
    assert attributes.endswith("; HttpOnly; Secure; SameSite=None; Partitioned")
    assert cookie_line(ID, scope(x_forwarded_proto="https", sec_fetch_dest="document")).endswith("; Secure; SameSite=Lax")
    assert cookie_line(ID, scope(sec_fetch_dest="iframe")).endswith("; HttpOnly; SameSite=Lax"), "None needs https"
    assert "Secure" in cookie_line(ID, {**scope(), "scheme": "https"})


@pytest.mark.parametrize(
    "cookie",
    [None, "", "x", f"{COOKIE}=", f"{COOKIE}=short", f"{COOKIE}={'A' * 44}", f"{COOKIE}={'A' * 42}/", f"other={ID}",
     f"{COOKIE}={'é' * 43}", f"{COOKIE}={ID} x"],
)  # fmt: skip
def test_without_a_sound_id_there_is_no_visitor(cookie):
    with pytest.raises(NoVisitor, match="Allow cookies"):
        visitor_of(asking(cookie))


def test_the_same_id_is_the_same_visitor():
    one = visitor_of(asking(f"a=b; {COOKIE}={ID}; c=d"))
    assert re.fullmatch("[0-9a-f]{32}", one)
    assert visitor_of(asking(f"{COOKIE}={ID}")) == one != visitor_of(asking(f"{COOKIE}={'B' * 43}"))


def test_a_login_comes_before_the_cookie_and_cannot_be_mistaken_for_one():
    anna = visitor_of(asking(f"{COOKIE}={ID}", "anna"))
    assert anna == visitor_of(asking(None, "anna")) != visitor_of(asking(None, "Anna"))
    assert visitor_of(asking(None, ID)) != visitor_of(asking(f"{COOKIE}={ID}"))
    assert visitor_of(asking(None, f"cookie:{ID}")) != visitor_of(asking(f"{COOKIE}={ID}"))


def test_a_caller_is_a_visitor_at_an_address():
    noted = {"cascade.address": "192.0.2.1"}

    def http(cookie: str | None, **more: str) -> SimpleNamespace:
        asked = asking(cookie)
        asked.request = SimpleNamespace(scope={**noted, **more})
        return asked

    browser = caller_of(http(f"{COOKIE}={ID}"))
    assert (browser.visitor, browser.address) == (visitor_of(asking(f"{COOKIE}={ID}")), "192.0.2.1")
    assert caller_of(http(None)).visitor == "" and caller_of(http(None)).address == "192.0.2.1"
    signed_in = caller_of(http(f"{COOKIE}={ID}", **{USER: "ann"}))
    assert signed_in.visitor == caller_of(http(None, **{USER: "ann"})).visitor == visitor_of(asking(None, "ann"))
    assert signed_in.visitor != browser.visitor and caller_of(asking(None)).address == ""
