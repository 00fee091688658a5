"""The real app with a login, started as a user would: nothing of it without, all of it with."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from playwright.sync_api import Browser, expect

from tests.e2e.conftest import START_LIMIT_S, Server, start_server, wait_until_ready
from tests.e2e.test_page import finished, generate, write


def test_a_login_on_the_real_app(pocket: Path, tmp_path: Path, browser: Browser):
    (tmp_path / "login").write_text("ann:secret\n")
    server = start_server(tmp_path, CASCADE_LOGIN=f"@{tmp_path / 'login'}", CASCADE_HOSTED="1")
    try:
        wait_for_login(server)
        assert httpx.get(f"{server.url}health").json()["state"] in ("loading", "ready")
        for path in ("", "config", "metrics", "gradio_api/startup-events", "gradio_api/mcp/"):
            assert httpx.get(f"{server.url}{path}").status_code == 401, path
        page = browser.new_page()
        page.goto(server.url)
        page.get_by_label("Name").fill("ann")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_have_text("That name and password are not right. Try again.")
        page.get_by_label("Name").fill("ann")
        page.get_by_label("Password").fill("secret")
        page.get_by_role("button", name="Log in").click()
        wait_until_ready(page)
        write(page, "a red sun over blue mountains")
        generate(page)
        finished(page)
        page.close()
        pictures, made = Client(server.url, auth=("ann", "secret"), verbose=False).predict(
            prompt="a white boat", prior_steps=2, decoder_steps=1, api_name="/generate"
        )
        assert Path(pictures[0]).is_file() and made["seed"] is not None
    finally:
        assert server.stop() == 0
    log = server.log_path.read_text()
    assert "Traceback" not in log and "secret" not in log, log


def wait_for_login(server: Server) -> None:
    """`wait_for_page` for a page that asks who is there."""
    deadline = time.monotonic() + START_LIMIT_S
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            assert httpx.get(server.url).status_code == 401
            return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"The page did not answer within {START_LIMIT_S} s:\n{server.log_path.read_text()}")
