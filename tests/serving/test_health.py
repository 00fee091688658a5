"""What /health answers, and with which status."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from cascade_app.serving.backend import BackendStatus
from cascade_app.serving.health import DISK_EVERY_S, Disk, Health, Trouble, health_route, queue_check
from cascade_app.serving.safe import Safe
from cascade_app.settings import Settings
from tests.fakes import FakeBackend

FAILED = BackendStatus("failed", "/home/ada/weights has no prior.")


@pytest.mark.parametrize(
    ("state", "troubles", "status", "told"),
    [
        (BackendStatus("ready", "Ready."), [], 200, "ready"),
        (BackendStatus("loading", "Loading Pocket."), [], 200, "loading"),
        (BackendStatus("ready", "Ready."), [Trouble("The queue is full.", passing=True)], 200, "degraded"),
        (BackendStatus("loading", "Loading."), [Trouble("No room.")], 503, "degraded"),
        (BackendStatus("ready", "Ready."), [Trouble("No room."), Trouble("Full.", passing=True)], 503, "degraded"),
        (FAILED, [], 503, "degraded"),
    ],
)
def test_state_and_status(state, troubles, status, told):
    health = Health(FakeBackend(state=state), [lambda: troubles])
    answer = TestClient(Starlette(routes=[health_route(health)])).get("/health")
    assert answer.status_code == status and answer.json()["state"] == told
    sentences = [one.sentence for one in troubles]
    assert answer.json()["reasons"][-len(sentences) or 1 :] == sentences
    assert answer.headers["cache-control"] == "no-store" and "/home" not in answer.text


def test_what_anyone_may_know_of_a_failure_is_told(tmp_path):
    safe = Safe(FakeBackend(), Settings(blocklist=str(tmp_path / "missing.txt")))
    status, body = Health(safe).report()
    assert status == 503 and "The blocklist cannot be read" in body["reasons"][0] and str(tmp_path) not in str(body)


def test_a_check_that_fails_is_a_reason_without_its_message():
    def broken():
        raise RuntimeError("secret detail")

    status, body = Health(FakeBackend(), [broken]).report()
    assert status == 503 and len(body["reasons"]) == 1 and "secret" not in str(body)


def test_a_folder_that_is_gone_is_noticed_and_a_new_one_too(tmp_path):
    now = [0.0]
    folder = tmp_path / "pictures"
    disk = Disk(folder, floor_bytes=0, clock=lambda: now[0])
    assert [one.passing for one in disk()] == [False] and str(folder) not in disk()[0].sentence
    folder.mkdir()
    assert disk(), "looked at again only after a while"
    now[0] += DISK_EVERY_S
    assert disk() == () and list(folder.iterdir()) == []


def test_a_disk_nearly_full(tmp_path):
    (trouble,) = Disk(tmp_path, floor_bytes=10**15)()
    assert trouble.sentence.startswith("The disk is nearly full: ") and not trouble.passing


def test_a_full_queue_goes_by_itself():
    waiting = [2]
    check = queue_check(lambda: waiting[0], 3)
    assert not list(check())
    waiting[0] = 3
    (trouble,) = check()
    assert trouble.passing and "3 are waiting" in trouble.sentence
