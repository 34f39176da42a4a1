"""What one process of the endpoint has seen, in numbers that can be sent, added up and exported.

Names and shapes follow vLLM's where it has such a thing, under the prefix `sgl_serve_`.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

PREFIX = "sgl_serve_"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_SHARES = tuple(step / 20 for step in range(1, 21))


@dataclass(frozen=True)
class Family:
    """One metric.

    Attributes:
        text: what it is.
        labels: names.
        bounds: of a histogram's buckets, upwards, the last one being +Inf and not told.
    """

    text: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()


COUNTERS: Mapping[str, Family] = {
    "requests": Family("Requests that have ended.", ("model", "route", "status")),
    "exits": Family("Requests to the pair that the small model settled."),
    "escalations": Family("Requests to the pair that the large model answered."),
    "degraded": Family("Requests to the pair that should have escalated.", ("reason",)),
    "refused": Family("Requests that were answered by an error.", ("status", "code")),
    "prompt_tokens": Family("Visual tokens included.", ("pool",)),
    "generation_tokens": Family("Of answers.", ("pool",)),
    "device_seconds": Family("That answers took.", ("pool",)),
    "cost_usd": Family("Of these, at the endpoint's prices."),
}
GAUGES: Mapping[str, Family] = {
    "num_requests_running": Family("Requests under way."),
}
HISTOGRAMS: Mapping[str, Family] = {
    "e2e_request_latency_seconds": Family("Of answered requests.", ("route",), _SECONDS),
    "time_to_first_token_seconds": Family("Of streamed answers.", ("route",), _SECONDS),
    "request_queue_time_seconds": Family("Before the first forward pass.", ("pool",), _SECONDS),
    "exit_score": Family("Of the small model's answers.", (), _SHARES),
    "average_retention": Family("Visual token-layers computed, of pruned answers.", (), _SHARES),
}

Labels = tuple[str, ...]


@dataclass
class Distribution:
    """A histogram's numbers.

    Attributes:
        counts: by bucket, one more than there are bounds.
        total: sum of all values.
    """

    counts: list[int]
    total: float = 0.0


@dataclass
class Snapshot:
    """All numbers at one moment; picklable.

    Attributes:
        values: of counters and gauges, by name and labels.
        distributions: of histograms, likewise.
    """

    values: dict[tuple[str, Labels], float] = field(default_factory=dict)
    distributions: dict[tuple[str, Labels], Distribution] = field(default_factory=dict)


class Metrics:
    """Counts; of one event loop, so without a lock."""

    def __init__(self) -> None:
        self._now = Snapshot()

    def count(self, name: str, *labels: str, by: float = 1.0) -> None:
        """Add to a counter or a gauge."""
        assert len(labels) == len({**COUNTERS, **GAUGES}[name].labels), name
        self._now.values[name, labels] = self._now.values.get((name, labels), 0.0) + by

    def observe(self, name: str, value: float, *labels: str) -> None:
        """Add a value to a histogram; what is no number would spoil its sum, and is left out."""
        if not math.isfinite(value):
            return
        bounds = HISTOGRAMS[name].bounds
        assert len(labels) == len(HISTOGRAMS[name].labels), name
        found = self._now.distributions.setdefault(
            (name, labels), Distribution([0] * (len(bounds) + 1))
        )
        found.counts[bisect_left(bounds, value)] += 1
        found.total += value

    def snapshot(self) -> Snapshot:
        """The numbers so far, which no longer change."""
        return _sum([self._now])


def render(snapshots: Iterable[Snapshot]) -> bytes:
    """The sums over all processes, in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Exported(_sum(snapshots)))
    return generate_latest(registry)


def _sum(snapshots: Iterable[Snapshot]) -> Snapshot:
    together = Snapshot()
    for one in snapshots:
        for key, value in one.values.items():
            together.values[key] = together.values.get(key, 0.0) + value
        for key, found in one.distributions.items():
            empty = Distribution([0] * len(found.counts))
            into = together.distributions.setdefault(key, empty)
            into.counts = [a + b for a, b in zip(into.counts, found.counts, strict=True)]
            into.total += found.total
    return together


class _Exported(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        for kinds, make in ((COUNTERS, CounterMetricFamily), (GAUGES, GaugeMetricFamily)):
            for name, family in kinds.items():
                yield self._single(make(PREFIX + name, family.text, labels=family.labels), name)
        for name, family in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(PREFIX + name, family.text, labels=family.labels)
            yield self._histogram(histogram, name, family.bounds)

    def _single(
        self, metric: CounterMetricFamily | GaugeMetricFamily, name: str
    ) -> CounterMetricFamily | GaugeMetricFamily:
        found = {labels: value for (n, labels), value in self._snapshot.values.items() if n == name}
        # A metric without labels is there from the start, at nought.
        for labels, value in (found or ({} if metric._labelnames else {(): 0.0})).items():
            metric.add_metric(labels, value)
        return metric

    def _histogram(
        self, metric: HistogramMetricFamily, name: str, bounds: Sequence[float]
    ) -> HistogramMetricFamily:
        for (n, labels), found in self._snapshot.distributions.items():
            if n == name:
                metric.add_metric(labels, _cumulative(bounds, found.counts), found.total)
        return metric


def _cumulative(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    uppers = [*(f"{bound:g}" for bound in bounds), "+Inf"]
    return [(upper, sum(counts[: place + 1])) for place, upper in enumerate(uppers)]
