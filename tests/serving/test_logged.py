"""The log of runs: every end has its line, and none holds the words of a prompt."""

from __future__ import annotations

import json
import logging

import pytest

from cascade_app.errors import Busy, InvalidRequest, RenderFailed
from cascade_app.events import Finished
from cascade_app.logs import Lines, visitor_shown
from cascade_app.request import GenerationRequest
from cascade_app.serving.caller import Caller, asked_by
from cascade_app.serving.logged import Logged
from cascade_app.work import WHOLE, Work
from tests.fakes import FakeBackend

REQUEST = GenerationRequest(prompt="a heron on a porch", negative_prompt="storm clouds", seed=5, width=128, height=128, images=2)
ANN = Caller("a" * 32, request_id="abc123")


@pytest.fixture
def lines(caplog):
    """The lines written so far, as they would be."""
    caplog.set_level(logging.INFO, logger="cascade_app")
    return lambda: [json.loads(Lines(as_json=True).format(record)) for record in caplog.records]


def run(backend, *, request=REQUEST, work=WHOLE, **options):
    yield from asked_by(ANN, Logged(backend, **options)).generate(request, work)


def test_a_run_has_two_lines(lines):
    seconds = iter([10.0, 12.5])
    list(run(FakeBackend(), clock=lambda: next(seconds)))
    begun, ended = lines()
    assert begun["event"] == "run started" and ended["event"] == "run ended"
    assert begun["reference"] == ended["reference"] == "abc123"
    assert begun["visitor"] == visitor_shown(ANN.visitor) and ANN.visitor not in json.dumps([begun, ended])
    assert (begun["act"], begun["images"], begun["width"], begun["steps"]) == ("generate", 2, 128, "20+10")
    assert (ended["outcome"], ended["pictures"], ended["seconds"]) == ("finished", 2, 2.5)


def test_a_run_that_is_left_at_its_end_is_finished(lines):
    """As the page does: it closes what it followed once it has seen the last event."""
    events = run(FakeBackend())
    for event in events:
        if isinstance(event, Finished):
            break
    events.close()
    assert lines()[-1]["outcome"] == "finished"


def test_a_closed_run_is_cancelled_and_its_engine_free(lines):
    backend = FakeBackend()
    events = run(backend, work=Work(sketch=True))
    next(events)
    events.close()
    begun, ended = lines()
    assert begun["act"] == "sketch" and ended["outcome"] == "cancelled"
    assert backend.closed_early == 1 and not backend.lock.locked()


@pytest.mark.parametrize(
    ("failure", "outcome", "faults"),
    [
        (Busy("The queue is full."), "refused", 0), (InvalidRequest("a heron is too long", field="prompt"), "refused", 0),
        (RenderFailed("Memory ran out."), "failed", 1), (ValueError("a heron on a porch"), "failed", 1),
        (OSError(28, "full", "20261123-a-heron-on-a-porch.png"), "failed", 1),
    ],
)  # fmt: skip
def test_each_failure_has_its_outcome_and_a_fault_its_own_line(lines, failure, outcome, faults):
    with pytest.raises(type(failure)):
        list(run(FakeBackend(failure=failure)))
    written = lines()
    assert written[-1]["outcome"] == outcome and written[-1]["error"] == type(failure).__name__
    found = [line for line in written if line["event"] == "fault"]
    assert len(found) == faults and all(line["reference"] == "abc123" for line in found)
    assert all(word not in json.dumps(written) for word in ("heron", "porch", "storm"))


def test_prompts_are_in_the_log_where_the_operator_asks(lines):
    list(run(FakeBackend(), prompts=True))
    assert lines()[0]["prompt"] == REQUEST.prompt and lines()[0]["negative_prompt"] == REQUEST.negative_prompt
