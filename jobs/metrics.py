"""Live metrics of a run for Prometheus, served by the driver.

Computed when they are asked for, from the board and the ledger; nothing is counted twice. Names
follow those of vLLM where there is such a thing (`num_requests_running`, `prompt_tokens_total`),
under the prefix `sgl_`; a dashboard for them is in infra/deploy/grafana.json.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from pipeline.balance.record import BalanceRecord
from pipeline.metrics_config import MetricsConfig
from pipeline.progress import StageCount
from pipeline.run_record import RunRecord
from pipeline.timesheet import ReplicaTime, Times
from pipeline.work import Histogram, Work
from sgl.errors import ConfigurationError

_STATES = {
    "work": ("device_s",),
    "waiting": ("waiting_s",),
    "startup": ("startup_s",),
    "lost": ("lost_s",),
}
"""Of a replica's time, and what is in each: parts that only grow, as counters must."""
_HISTOGRAMS = {
    "exit_score": ("exit_score", "Exit scores of the small model's answers."),
    "average_retention": ("average_retention", "Visual token-layers computed, of pruned records."),
    "batch_fill": ("batch_fill", "Rows of forward batches, as a share of full ones."),
    "forward_s": ("forward_device_seconds", "Device-seconds of forward batches."),
}


@dataclass(frozen=True)
class Sources:
    """Whom to ask; None is the answer of those who cannot be reached.

    Attributes:
        run: as it began.
        records: that this run has to do.
        labels: of the run, for the one metric that names it.
        counts, work: by stage.
        times: of the replicas.
        balance: of the pools; None also where they are of a fixed size.
    """

    run: RunRecord
    records: int
    labels: Mapping[str, str]
    counts: Callable[[], Mapping[str, StageCount] | None]
    work: Callable[[], Mapping[str, Work] | None]
    times: Callable[[], Times | None]
    balance: Callable[[], BalanceRecord | None] = lambda: None


@contextmanager
def served(config: MetricsConfig | None, sources: Sources) -> Iterator[int | None]:
    """Serve metrics until the block ends; yields the port.

    Raises:
        ConfigurationError: the port is taken, or the address is none of this machine.
    """
    if config is None:
        yield None
        return
    registry = CollectorRegistry(auto_describe=True)
    registry.register(RunCollector(sources))
    try:
        server, thread = start_http_server(config.port, config.host, registry)
    except OSError as error:
        raise ConfigurationError(
            f"metrics: nothing can listen at {config.host}:{config.port} ({error.strerror}); "
            "write another metrics.port, or 0 for any free one"
        ) from error
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class RunCollector(Collector):
    """Turns what the sources say into metrics."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._exits = 0

    def collect(self) -> Iterator[Metric]:
        """One scrape; what cannot be reached now is left out of it."""
        sources = self._sources
        info = InfoMetricFamily("sgl_run", "The run whose metrics these are.")
        info.add_metric([], {"run_id": sources.run.run_id, **sources.labels})
        yield info
        yield _gauge("sgl_num_requests", "Records that this run has to do.", sources.records)
        run = sources.run.model_copy(update={"balance": sources.balance()})
        yield from _pools(run)
        counts, work, times = sources.counts(), sources.work(), sources.times()
        if counts is not None:
            exits = _exits(counts)
            self._exits = max(self._exits, exits)
            yield from _queues(sources, counts, times, self._exits)
        if work is not None:
            yield from _work(work)
        if times is not None:
            yield from _times(run, times)


def _pools(run: RunRecord) -> Iterator[Metric]:
    held = {role: float(run.held(role)) for role in run.pools}
    yield _by(GaugeMetricFamily, "sgl_replicas", "Replicas that hold devices.", "pool", held)
    told = "Moves of devices between the pools."
    yield _counter("sgl_pool_moves", told, len(run.balance.moves) if run.balance else 0)


def _queues(
    sources: Sources, counts: Mapping[str, StageCount], times: Times | None, exits: int
) -> Iterator[Metric]:
    """Records before, in and behind the models."""
    fetch, small, large = (counts[stage] for stage in ("fetch", "small", "large"))
    running = dict(times.running) if times else {}
    told = "Records in a forward batch."
    yield _by(GaugeMetricFamily, "sgl_num_requests_running", told, "stage", running)
    arrived = {"fetch": sources.records, "small": fetch.rows, "large": small.escalated}
    left = {"fetch": fetch.rows, "small": small.rows, "large": large.escalated}
    if "small" not in sources.run.pools:
        arrived["large"] = fetch.rows - fetch.failed
    waiting = {
        stage: max(0, arrived[stage] - left[stage] - running.get(stage, 0))
        for stage in ("fetch", *sources.run.pools)
    }
    told = "Records that have reached a stage and are not in a forward batch."
    yield _by(GaugeMetricFamily, "sgl_num_requests_waiting", told, "stage", waiting)
    if "small" in sources.run.pools:
        told = "Records that the small model settled."
        yield _counter("sgl_exits", told, exits)
        told = "Records that went on to the large model."
        yield _counter("sgl_escalations", told, small.escalated)


def _exits(counts: Mapping[str, StageCount]) -> int:
    """At least so many; less for a moment where failures are heard of before they pass through."""
    small = counts["small"]
    return max(0, small.rows - small.escalated - small.failed - counts["fetch"].failed)


def _work(work: Mapping[str, Work]) -> Iterator[Metric]:
    models = {role: work[role] for role in ("small", "large")}
    told = {
        "sgl_request_success": ("Records that a model has answered.", "answered"),
        "sgl_prompt_tokens": ("Prompt tokens, visual ones included.", "prompt_tokens"),
        "sgl_generation_tokens": ("Tokens of answers.", "completion_tokens"),
    }
    for name, (text, of) in told.items():
        values = {role: getattr(one, of) for role, one in models.items()}
        yield _by(CounterMetricFamily, name, text, "model", values)
    failed = CounterMetricFamily(
        "sgl_request_failed", "Failed records, by stage and type.", labels=["stage", "error"]
    )
    for stage, one in work.items():
        for error, number in one.failed.items():
            failed.add_metric([stage, error], number)
    yield failed
    for of, (name, text) in _HISTOGRAMS.items():
        family = HistogramMetricFamily(f"sgl_{name}", text, labels=["model"])
        for role, one in models.items():
            if of in one.histograms:
                _add_histogram(family, role, one.histograms[of])
        yield family


def _add_histogram(family: HistogramMetricFamily, model: str, histogram: Histogram) -> None:
    edges = [*map(str, histogram.edges), "+Inf"]
    running, buckets = 0.0, []
    for edge, count in zip(edges, histogram.counts, strict=True):
        running += count
        buckets.append((edge, running))
    family.add_metric([model], buckets, histogram.total)


def _times(run: RunRecord, times: Times) -> Iterator[Metric]:
    seconds = CounterMetricFamily(
        "sgl_device_seconds", "Device-seconds of the pools.", labels=["pool", "state"]
    )
    starts = CounterMetricFamily(
        "sgl_replica_starts", "Processes of replicas that began.", labels=["pool"]
    )
    cost = CounterMetricFamily(
        "sgl_cost_usd", "Price of the reserved device-seconds.", labels=["pool"]
    )
    for role, pool in run.pools.items():
        of_role: list[ReplicaTime] = [one for one in times.replicas if one.role == role]
        for state, parts in _STATES.items():
            spent = sum(getattr(one, part) for one in of_role for part in parts)
            seconds.add_metric([role, state], spent * pool.devices)
        starts.add_metric([role], sum(one.starts for one in of_role))
        if pool.usd_per_hour is not None:
            reserved_s = run.device_s(role, times.elapsed_s)
            cost.add_metric([role], reserved_s * pool.usd_per_hour / 3600)
    yield from (seconds, starts, cost)


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(name, told, value=value)


def _counter(name: str, told: str, value: float) -> Metric:
    return CounterMetricFamily(name, told, value=value)


def _by(
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily],
    name: str,
    told: str,
    label: str,
    values: Mapping[str, float],
) -> Metric:
    family = kind(name, told, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
