"""What Prometheus may ask of this server: numbers about runs and about the engine, and nothing about who asked for what.

    Metrics(backend)             the numbers, in a registry of their own
    Counted(backend, metrics)    the backend around all others: it watches the events of each run go by
    metrics_route(metrics)       GET /metrics

What the engine knows of itself (memory, placement, caches) is read when somebody asks. Knows no visitor, prompt or path: a
label is one of a few words of ours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import anyio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cascade_app import __version__
from cascade_app.events import STAGE_TITLES, Event, Finished, ImageReady, RunStarted
from cascade_app.request import GenerationRequest
from cascade_app.serving.around import Around
from cascade_app.serving.backend import Backend
from cascade_app.system import SystemReport
from cascade_app.work import WHOLE, Work

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)  # upper bounds of the histograms' buckets
OUTCOMES = ("finished", "cancelled", "refused", "failed")


class Metrics:
    """The numbers of one server. `queue_size` is how many may wait."""

    def __init__(self, backend: Backend, *, queue_size: int = 0) -> None:
        self.registry = registry = CollectorRegistry()
        self.waiting = Gauge("cascade_queue_length", "Runs that wait for the engine.", registry=registry)
        self.running = Gauge("cascade_runs_in_progress", "Runs that the engine works on.", registry=registry)
        self.wait = Histogram(
            "cascade_queue_wait_seconds", "From asking until the engine began.", buckets=SECONDS, registry=registry
        )
        self.runs = Counter("cascade_runs", f"Runs by how they ended: {', '.join(OUTCOMES)}.", ["outcome"], registry=registry)
        self.errors = Counter("cascade_errors", "Runs that ended with an error, by its kind.", ["kind"], registry=registry)
        self.pictures = Counter("cascade_pictures", "Pictures and sketches, by what made them.", ["action"], registry=registry)
        self.stage = Histogram(
            "cascade_stage_seconds", "Seconds of each stage of a finished run.", ["stage"], buckets=SECONDS, registry=registry
        )
        self.run = Histogram("cascade_run_seconds", "Seconds of a finished run.", buckets=SECONDS, registry=registry)
        Gauge("cascade_queue_size", "How many may wait before others are refused.", registry=registry).set(queue_size)
        Info("cascade_build", "This program.", registry=registry).info({"version": __version__})
        for outcome in OUTCOMES:
            self.runs.labels(outcome)  # there from the start, at nought
        ProcessCollector(registry=registry)
        registry.register(_Engine(backend))

    def queue_length(self) -> float:
        """How many runs wait for the engine now."""
        (family,) = self.waiting.collect()
        return family.samples[0].value

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """All of it in the format that `accept` asks for, and that format's name."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type

    def finished(self, event: Finished) -> None:
        """Note how long a run's stages took."""
        for stage in STAGE_TITLES:
            if event.seconds.get(stage):  # a develop has no prior
                self.stage.labels(stage).observe(event.seconds[stage])
        self.run.observe(event.seconds.get("total", 0.0))


class Counted(Around):
    """A backend whose runs are counted."""

    def __init__(self, inner: Backend, metrics: Metrics, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(inner)
        self._metrics, self._clock = metrics, clock

    def generate(self, request: GenerationRequest, work: Work = WHOLE) -> Iterator[Event]:
        run = _Run(self._metrics, self._clock)
        try:
            with closing(self.inner.generate(request, work)) as events:
                for event in events:
                    run.see(event)
                    yield event
        except Exception as error:
            run.failed(error)
            raise
        finally:
            run.end()


class _Run:
    """One run's share in the numbers, until `end`."""

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics, self._clock = metrics, clock
        self._asked, self._began = clock(), False
        self._outcome = "cancelled"  # unless it is told otherwise: whoever closes a run early says nothing
        metrics.waiting.inc()

    def see(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._begin()
            case ImageReady():
                self._metrics.pictures.labels(event.plan.origins[event.index].action).inc()
            case Finished():
                self._outcome = "finished"
                self._metrics.finished(event)

    def _begin(self) -> None:
        if not self._began:
            self._began = True
            self._metrics.waiting.dec()
            self._metrics.running.inc()
            self._metrics.wait.observe(self._clock() - self._asked)

    def failed(self, error: Exception) -> None:
        self._outcome = "failed" if self._began else "refused"
        self._metrics.errors.labels(type(error).__name__).inc()

    def end(self) -> None:
        (self._metrics.running if self._began else self._metrics.waiting).dec()
        self._metrics.runs.labels(self._outcome).inc()


class _Engine(Collector):
    """What the engine says of itself at the moment of asking."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def describe(self) -> Iterable[Metric]:
        return []  # or registering it would ask the engine

    def collect(self) -> Iterator[Metric]:
        now = self._backend.status().state
        state = GaugeMetricFamily("cascade_engine_state", "1 for the state the engine is in.", labels=["state"])
        for one in ("loading", "ready", "failed"):
            state.add_metric([one], float(one == now))
        yield state
        report = self._backend.system()
        if report is not None:
            yield from _facts(report)


def _facts(report: SystemReport) -> Iterator[Metric]:
    placed = {"device": report.device, "dtype": report.dtype, "placement": report.placement or "undecided"}
    yield InfoMetricFamily("cascade_engine", "Where the last run's weights were.", value=placed)
    for name, about, value in (
        ("device_free_bytes", "Free memory of the device that computes.", report.device_free_bytes),
        ("device_used_bytes", "Its memory in weights.", report.device_used_bytes),
        ("host_free_bytes", "Free memory of the host.", report.host_free_bytes),
        ("prompts_cached", "Prompt embeddings kept.", report.prompts_cached),
    ):
        yield GaugeMetricFamily(f"cascade_{name}", about, value=value)
    hits = CounterMetricFamily("cascade_cache_hits", "What did not have to be computed again.", labels=["cache"])
    misses = CounterMetricFamily("cascade_cache_misses", "What had to be computed.", labels=["cache"])
    for cache, (found, computed) in report.cache_use.items():
        hits.add_metric([cache], found)
        misses.add_metric([cache], computed)
    yield from (hits, misses)


def metrics_route(metrics: Metrics) -> Route:
    """`GET /metrics`. It waits for no thread that runs may hold."""
    own = anyio.CapacityLimiter(1)

    async def answer(request: Request) -> Response:
        accept = request.headers.get("accept", "")
        text, media_type = await anyio.to_thread.run_sync(metrics.text, accept, limiter=own)
        return Response(text, headers={"Content-Type": media_type, "Cache-Control": "no-store"})

    return Route("/metrics", answer)
