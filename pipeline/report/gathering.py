"""One pass over an output's rows and run records, from which come all facts of a report."""

import posixpath
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from infra.s3 import DEFAULT, StorageConfig
from pipeline.bill import Bill, bill_from, spent_by_run
from pipeline.measured import Measured, measure
from pipeline.output import JobRecord, Output
from pipeline.probe import Promise
from pipeline.report.bins import Bins, Prices
from pipeline.report.examples import Errors, Greatest, Samples, kinds_of, seconds_of, spent_of
from pipeline.report.facts import Facts, Quality, Retention
from pipeline.report.latency import KINDS, Durations, durations_of
from pipeline.report.moments import Moments
from pipeline.report.money import Money, Spending, money_of
from pipeline.report.quality import Judged, Yardstick, judge, yardstick_of
from pipeline.report.rows import Chunk, chunks
from pipeline.report.settings import Settings
from pipeline.report.thresholds import curve, histogram
from pipeline.report.timeline import Timeline
from pipeline.run_record import RunRecord, run_records
from pipeline.scoring import columns_of, opened
from pipeline.summary import Summary, summarise
from sgl.metrics import DEFAULT as DEFAULT_METRIC
from sgl.metrics import metric_named
from sgl.types import Route

_RETENTION_CLASSES = 20
_SETTLED = (Route.SMALL.value, Route.LARGE.value)


def facts_of(
    path: str,
    metric: str = DEFAULT_METRIC,
    gallery: int = 0,
    storage: StorageConfig = DEFAULT,
) -> Facts:
    """Read an output.

    Args:
        path: of the directory, or its URI.
        metric: name of the measure of answers.
        gallery: rows of each kind to sample.
        storage: how S3 is reached.

    Raises:
        ConfigurationError: there is no output, nothing in it yet, or no such measure.
    """
    metric_named(metric)
    output, files = opened(path, storage)
    record = output.record()
    assert record is not None, "an output that opens has its record"
    records = run_records(output)
    settings = Settings.of(record, records)
    columns = columns_of(output, files)
    yardstick = yardstick_of(list(columns), list(columns.values()), settings.probed)
    gathering = _Gathering(settings, yardstick, metric, gallery, record.records)
    tables = (gathering.add(table) for table in chunks(output, files))
    summary = summarise(tables, record.run_id)
    bill = bill_from(records, gathering.spent)
    promise = Promise.model_validate(settings.promise) if settings.promise else None
    measured = measure(output, promise) if settings.probed else None
    return gathering.facts(output, record, records, summary, bill, measured)


class _Gathering:
    """Everything that is added up on the way through the rows."""

    def __init__(
        self, settings: Settings, yardstick: Yardstick, metric: str, gallery: int, records: int
    ) -> None:
        self._settings, self._yardstick, self._metric = settings, yardstick, metric
        self._score = metric_named(metric)
        prices = Prices(settings.small.usd_per_hour, settings.large.usd_per_hour)
        threshold = [] if settings.threshold is None else [settings.threshold]
        self._bins = Bins(threshold, prices)
        self._moments = {name: Moments() for name in ("overall", "small", "large")}
        self._routes = {route: Moments() for route in _SETTLED}
        self._durations = {kind: Durations() for kind in KINDS}
        self._timeline, self._errors = Timeline(records), Errors()
        self._slowest, self._dearest = Greatest(), Greatest()
        self._samples, self._spending = Samples(gallery), Spending()
        self._retention = np.zeros(_RETENTION_CLASSES, dtype=np.int64)
        self.spent = spent_by_run(())

    def add(self, table: pa.Table) -> pa.Table:
        """Take a table in; returns what its summary is made of."""
        chunk = Chunk(table)
        judged = judge(chunk, self._yardstick, self._score)
        self._bins.add(chunk, judged)
        self._count(chunk, judged)
        self._timeline.add(chunk)
        self._errors.add(chunk)
        for kind, seconds in durations_of(chunk).items():
            self._durations[kind].add(seconds)
        self._slowest.add(chunk, seconds_of(chunk), "seconds")
        name, spent = spent_of(chunk)
        self._dearest.add(chunk, spent, name)
        self._samples.add(chunk, kinds_of(chunk, judged, self._yardstick))
        self._spending.add(chunk)
        kept = chunk.floats("average_retention")[chunk.escalated]
        self._retention += np.histogram(kept, _RETENTION_CLASSES, (0, 1))[0]
        for run, one in spent_by_run([table]).items():
            self.spent[run] = self.spent[run].plus(one) if run in self.spent else one
        # Answers have been judged, by the measure that was asked for.
        return table.drop(["answers"]) if "answers" in table.column_names else table

    def _count(self, chunk: Chunk, judged: Judged) -> None:
        self._moments["overall"].add(judged.answer)
        for route in _SETTLED:
            self._routes[route].add(judged.answer[chunk.is_route(Route(route))])
        self._moments["small"].add(judged.small)
        self._moments["large"].add(judged.full)

    def facts(
        self,
        output: Output,
        record: JobRecord,
        records: Sequence[RunRecord],
        summary: Summary,
        bill: Bill,
        measured: Measured | None,
    ) -> Facts:
        """Put it all together."""
        began = [one.started_at for one in records]
        started_at = _day_and_time(min(began)) if began else None
        quality = self._quality()
        return Facts(
            name=posixpath.basename(output.path.rstrip("/")),
            output=output.path,
            made_at=_day_and_time(datetime.now(UTC).timestamp()),
            state="complete" if output.success() else "unfinished",
            expected=record.records,
            started_at=started_at,
            settings=self._settings,
            summary=summary,
            quality=quality,
            money=self._money(quality, summary, bill, measured, started_at),
            measured=measured,
            points=curve(self._bins) if self._settings.threshold is not None else [],
            histogram=histogram(self._bins) if self._bins.sums["rows"].any() else None,
            retention=self._retained(summary),
            timeline=self._timeline.series(self._settings.pools(records)),
            latency={
                kind: found
                for kind, one in self._durations.items()
                if (found := one.latency()) is not None
            },
            errors=self._errors.kinds(),
            slowest=self._slowest.rows(),
            dearest=self._dearest.rows(),
            samples=self._samples.rows(),
        )

    def _quality(self) -> Quality:
        means = {name: one.estimate() for name, one in self._moments.items()}
        return Quality(
            yardstick=self._yardstick.value,
            metric=self._metric,
            judged=int(self._moments["overall"].count),
            overall=means["overall"],
            by_route={
                route: found
                for route, one in self._routes.items()
                if (found := one.estimate()) is not None
            },
            small=means["small"],
            large=means["large"],
        )

    def _money(
        self,
        quality: Quality,
        summary: Summary,
        bill: Bill,
        measured: Measured | None,
        started_at: str | None,
    ) -> Money:
        judged_by_answers = self._yardstick is Yardstick.ACCURACY and quality.overall
        sums = self._bins.sums["small_usd"].sum() + self._bins.apart["small_usd"]
        return money_of(
            self._spending,
            summary,
            bill,
            right=quality.overall.value * summary.records if judged_by_answers else None,  # type: ignore[union-attr]
            small_usd=float(sums),
            priced_on=(started_at or "")[:10] or None,
            saved=measured.saved if measured else None,
        )

    def _retained(self, summary: Summary) -> Retention | None:
        sums = self._spending.sums
        rows = sums["large_rows"]
        if not rows:
            return None
        return Retention(
            prune_layer=summary.prune_layer,
            keep_ratio=summary.keep_ratio,
            average=summary.average_retention,
            visual_tokens=sums["visual"] / rows,
            kept_tokens=sums["kept"] / rows,
            edges=[round(float(one), 4) for one in np.linspace(0, 1, _RETENTION_CLASSES + 1)],
            rows=[int(one) for one in self._retention],
        )


def _day_and_time(instant: float) -> str:
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d %H:%M} UTC"
