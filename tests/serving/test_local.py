"""What the engine in this process decides by itself, without loading any weights."""

from __future__ import annotations

import time

import pytest

from cascade_app.errors import CascadeError
from cascade_app.published import LICENSE
from cascade_app.serving.backend import BackendStatus
from cascade_app.serving.local import LocalBackend
from cascade_app.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_a_licence_is_accepted_by_a_click_on_ones_own_machine(tmp_path, host):
    backend = LocalBackend(Settings(host=host, data_dir=tmp_path))
    assert backend.license_accepted("") and not backend.license_accepted(LICENSE)
    backend.accept_license(LICENSE)
    assert backend.license_accepted(LICENSE)
    assert LocalBackend(Settings(data_dir=tmp_path)).license_accepted(LICENSE)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "studio.example"])
def test_a_visitor_from_elsewhere_cannot_accept_it(tmp_path, host):
    backend = LocalBackend(Settings(host=host, data_dir=tmp_path))
    with pytest.raises(CascadeError, match=f"set CASCADE_ACCEPT_LICENSE to {LICENSE}"):
        backend.accept_license(LICENSE)
    assert not backend.license_accepted(LICENSE) and list(tmp_path.iterdir()) == []


def test_the_setting_accepts_it_too(tmp_path):
    assert LocalBackend(Settings(host="0.0.0.0", data_dir=tmp_path, accept_license=LICENSE)).license_accepted(LICENSE)


def test_accepting_starts_an_engine_that_failed_for_want_of_it(tmp_path):
    backend = LocalBackend(Settings(data_dir=tmp_path))
    started: list[str] = []
    backend.start = lambda: started.append(backend.status().state)
    backend.accept_license(LICENSE)
    assert started == []
    backend._status = BackendStatus("failed", "Accept it on the page.")
    backend.accept_license(LICENSE)
    assert started == ["loading"]


def test_nothing_is_reported_before_anything_is_loaded(tmp_path):
    assert LocalBackend(Settings(data_dir=tmp_path)).system() is None


@pytest.mark.parametrize(
    ("host", "page", "shared"), [("127.0.0.1", True, True), ("0.0.0.0", True, False), ("127.0.0.1", False, False)]
)
def test_a_page_on_ones_own_machine_shares_the_cores_with_its_browser(tmp_path, monkeypatch, host, page, shared):
    asked: list[bool] = []

    def prepare(*, shared: bool) -> None:
        asked.append(shared)
        raise CascadeError("That is all.")

    monkeypatch.setattr("cascade_app.runtime.torch_start.prepare", prepare)
    backend = LocalBackend(Settings(host=host, data_dir=tmp_path))
    if page:
        backend.start()
        deadline = time.monotonic() + 10
        while backend.status().state != "failed" and time.monotonic() < deadline:
            time.sleep(0.01)
    else:
        with pytest.raises(CascadeError, match="That is all"):
            backend.load()
    assert asked == [shared]
