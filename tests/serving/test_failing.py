"""Whatever a request runs into, its answer is a sentence and the log has the rest."""

from __future__ import annotations

import errno

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from cascade_app.serving.failing import Failing


def client(error: Exception, *, begun: bool = False) -> TestClient:
    def pieces():
        yield b"the beginning"
        raise error

    async def fail(request):
        if begun:
            return StreamingResponse(pieces())
        raise error

    return TestClient(Starlette(routes=[Route("/", fail)], middleware=[Middleware(Failing)]))


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/srv/secret.png"), 507, "disk is full"),
        (OSError(errno.EACCES, "Permission denied", "/srv/secret.png"), 500, "Something went wrong"),
        (ValueError("secret"), 500, "Something went wrong"),
    ],
)
def test_an_error_is_a_sentence_with_the_reference_of_its_line(caplog, error, status, said):
    answer = client(error).get("/")
    (line,) = [record for record in caplog.records if record.message == "fault"]
    assert answer.status_code == status and said in answer.json()["error"]
    assert f"(reference {line.fields['reference']})" in answer.json()["error"] and "secret" not in answer.text


def test_an_answer_that_has_begun_is_cut_off(caplog):
    answer = client(ValueError("secret"), begun=True).get("/")
    assert answer.status_code == 200 and answer.content == b"the beginning"
    assert any(record.message == "fault" for record in caplog.records)


def test_who_is_gone_is_no_fault(caplog):
    with pytest.raises(Exception):  # noqa: B017 (the test client wants an answer, a server does not)
        client(ClientDisconnect()).get("/")
    assert not [record for record in caplog.records if record.message == "fault"]
