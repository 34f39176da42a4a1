"""The vocabulary of a report: everything that it tells of one output, and no behaviour."""

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from pipeline.measured import Measured
from pipeline.report.examples import ErrorKind, Row
from pipeline.report.latency import Latency
from pipeline.report.money import Money
from pipeline.report.settings import Settings
from pipeline.report.thresholds import Histogram, Point
from pipeline.report.timeline import Series
from pipeline.summary import Summary
from sgl.statistics import Estimate


@dataclass(frozen=True)
class Quality:
    """How right the answers are.

    Attributes:
        yardstick: what they are held against, see pipeline.report.quality.
        metric: the measure.
        judged: records with something to be held against.
        overall: of the run's answers; a failed row counts 0.
        by_route: of those that each model settled.
        small: of the small model's answers alone.
        large: of the unpruned large model's, on probed records.
    """

    yardstick: str
    metric: str
    judged: int
    overall: Estimate | None
    by_route: dict[str, Estimate]
    small: Estimate | None
    large: Estimate | None


@dataclass(frozen=True)
class Retention:
    """What pruning left of the visual tokens, over escalated rows.

    Attributes:
        prune_layer: share of the layers below the cut.
        keep_ratio: share of the visual tokens kept above it.
        average: share of visual token-layers computed, mean over pruned rows.
        visual_tokens: mean, before.
        kept_tokens: mean, after.
        edges: of the classes of average retention.
        rows: in each.
    """

    prune_layer: float | None
    keep_ratio: float | None
    average: float | None
    visual_tokens: float
    kept_tokens: float
    edges: list[float]
    rows: list[int]


@dataclass(frozen=True)
class Facts:
    """Of one output.

    Attributes:
        name: of its directory.
        output: its path.
        made_at: when these figures were taken; day and time, UTC.
        state: "complete", or "unfinished".
        expected: records of the input.
        started_at: of the first run; None where no run has a record.
        settings: what was run, as far as a reader wants it.
        summary: totals.
        quality: how right the answers are.
        money: what they cost.
        measured: the probe against what was promised.
        points: by threshold; empty in a run without one.
        histogram: of the exit scores; None where there are none.
        retention: None where nothing was escalated.
        timeline: by run.
        latency: by kind of work, see pipeline.report.latency.
        errors: failed rows by kind.
        slowest: rows.
        dearest: rows.
        samples: rows by kind, see pipeline.report.examples.
    """

    name: str
    output: str
    made_at: str
    state: str
    expected: int
    started_at: str | None
    settings: Settings
    summary: Summary
    quality: Quality
    money: Money
    measured: Measured | None
    points: list[Point]
    histogram: Histogram | None
    retention: Retention | None
    timeline: list[Series]
    latency: dict[str, Latency]
    errors: list[ErrorKind]
    slowest: list[Row]
    dearest: list[Row]
    samples: dict[str, list[Row]]

    def plain(self) -> dict[str, Any]:
        """For JSON, which has no NaN: what cannot be told is null."""
        found: dict[str, Any] = _finite(asdict(self))
        return found


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: _finite(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not isfinite(data) else data
