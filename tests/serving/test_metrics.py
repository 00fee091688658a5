"""What is counted of a run, however it ends, and what Prometheus reads of it."""

from __future__ import annotations

from itertools import count

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.testclient import TestClient

from cascade_app.errors import Busy, RenderFailed
from cascade_app.events import RunStarted
from cascade_app.request import GenerationRequest
from cascade_app.serving.around import Around
from cascade_app.serving.backend import BackendStatus
from cascade_app.serving.metrics import Counted, Metrics, metrics_route
from cascade_app.work import Work
from tests.fakes import FakeBackend

HILLS = GenerationRequest("some secret hills", prior_steps=2, decoder_steps=2, images=2, seed=1)


@pytest.fixture
def engine() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def metrics(engine) -> Metrics:
    return Metrics(engine, queue_size=7)


@pytest.fixture
def counted(engine, metrics) -> Counted:
    ticks = count()
    return Counted(engine, metrics, clock=lambda: next(ticks))


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_run_that_is_finished(counted, metrics):
    list(counted.generate(HILLS))
    assert value(metrics, "cascade_runs_total", outcome="finished") == 1
    assert value(metrics, "cascade_pictures_total", action="generate") == 2
    assert value(metrics, "cascade_queue_wait_seconds_sum") == 1  # a tick of the clock from asking to the first step
    assert value(metrics, "cascade_stage_seconds_count", stage="prior") == 1
    assert value(metrics, "cascade_stage_seconds_count", stage="vqgan") is None, "the stand-in spends no time there"
    assert value(metrics, "cascade_run_seconds_count") == 1
    assert value(metrics, "cascade_queue_length") == value(metrics, "cascade_runs_in_progress") == 0


def test_a_sketch_is_told_from_a_picture(counted, metrics):
    list(counted.generate(HILLS, Work(sketch=True)))
    assert value(metrics, "cascade_pictures_total", action="sketch") == 2
    assert value(metrics, "cascade_pictures_total", action="generate") is None


def test_a_run_is_in_the_queue_until_it_starts(counted, engine, metrics):
    with engine.lock:
        events = counted.generate(HILLS)
        next(events)
        assert value(metrics, "cascade_queue_length") == metrics.queue_length() == 1
        assert value(metrics, "cascade_runs_in_progress") == 0
    assert any(isinstance(event, RunStarted) for event in events)
    assert value(metrics, "cascade_queue_length") == 0 and value(metrics, "cascade_runs_in_progress") == 1
    events.close()
    assert value(metrics, "cascade_runs_in_progress") == 0
    assert value(metrics, "cascade_runs_total", outcome="cancelled") == 1 and engine.closed_early == 1


def test_who_stops_listening_after_the_end_has_cancelled_nothing(counted, metrics):
    events = counted.generate(HILLS)
    for event in events:
        if type(event).__name__ == "Finished":
            break
    events.close()
    assert value(metrics, "cascade_runs_total", outcome="finished") == 1
    assert value(metrics, "cascade_runs_total", outcome="cancelled") == 0


def test_errors_are_counted_by_their_kind(counted, engine, metrics):
    for failure in (RenderFailed("Out of memory."), RenderFailed("Not a number."), KeyError("a bug")):
        engine.failure = failure
        with pytest.raises(type(failure)):
            list(counted.generate(HILLS))
    assert value(metrics, "cascade_errors_total", kind="RenderFailed") == 2
    assert value(metrics, "cascade_errors_total", kind="KeyError") == 1
    assert value(metrics, "cascade_runs_total", outcome="failed") == 3


def test_who_is_turned_away_was_refused(engine, metrics):
    class Full(Around):
        def generate(self, request, work=None):
            raise Busy("The queue is full.")
            yield

    with pytest.raises(Busy):
        list(Counted(Full(engine), metrics).generate(HILLS))
    assert value(metrics, "cascade_runs_total", outcome="refused") == 1
    assert value(metrics, "cascade_queue_length") == 0


def test_the_route_is_what_prometheus_reads(counted, metrics):
    list(counted.generate(HILLS))
    answer = TestClient(Starlette(routes=[metrics_route(metrics)])).get("/metrics")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    (engine,) = families["cascade_engine_info"].samples
    assert engine.labels == {"device": "Drawing Board 3000", "dtype": "bfloat16", "placement": "resident"}
    hits = {sample.labels["cache"]: sample.value for sample in families["cascade_cache_hits"].samples}
    assert hits == {"prompts": 5, "prepared": 2}
    assert families["cascade_queue_size"].samples[0].value == 7
    assert {"process_resident_memory_bytes", "cascade_host_free_bytes", "cascade_cache_misses"} <= set(families)
    assert "secret" not in answer.text and "hills" not in answer.text


def test_openmetrics_where_it_is_asked_for(metrics):
    client = TestClient(Starlette(routes=[metrics_route(metrics)]))
    answer = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text") and answer.text.endswith("# EOF\n")


def test_an_engine_that_still_loads_has_a_state_and_no_facts(engine, metrics):
    engine.state = BackendStatus("loading", "Loading Pocket.")
    assert value(metrics, "cascade_engine_state", state="loading") == 1
    assert value(metrics, "cascade_engine_state", state="ready") == 0
    assert "cascade_host_free_bytes" not in metrics.text()[0].decode()
