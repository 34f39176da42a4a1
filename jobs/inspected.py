"""All that is known of one record: its row, its pictures, the ranking, and what is kept by it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from infra.s3 import StorageConfig
from jobs.explained import explained
from jobs.record_pictures import InputRecord, input_records, job_of, layouts_of
from jobs.record_ranking import Kept, Ranking, guided_again, kept_sets, ranking_of
from jobs.token_map import Pixels
from pipeline.config import JobConfig, absolute_path
from pipeline.lookup import find_row
from pipeline.output import JobRecord, Output
from pipeline.run_record import run_records
from pipeline.scoring import texts_in
from sgl.errors import ConfigurationError, SglError
from sgl.metrics import metric_named

logger = logging.getLogger(__name__)


@dataclass
class Inspected:
    """One record.

    Attributes:
        row: every column of the output.
        mode: of the job.
        decision: why it took its route.
        metric: that the scores are by.
        scores: of each answer by column, 0 to 1; empty without accepted answers.
        prices: by role, of its run, with currency, date and source.
        pictures: empty where the input has none any more.
        ranking: None where there is none.
        kept: sets of tokens, the dearest first, and as it ran.
        remarks: what could not be told, and how to get it.
    """

    row: dict[str, Any]
    mode: str
    decision: str
    metric: str
    scores: dict[str, float]
    prices: dict[str, str]
    pictures: tuple[Pixels, ...] = ()
    ranking: Ranking | None = None
    kept: list[Kept] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def inspect_record(
    path: str, name: str, metric: str, storage: StorageConfig, *, recompute: bool = False
) -> Inspected:
    """Gather all that is known of one record.

    Args:
        path: of an output directory, or its URI.
        name: id of the record.
        metric: name of the measure of answers.
        storage: how S3 is reached.
        recompute: run the small model on the record where its row has no ranking.

    Raises:
        ConfigurationError: there is no such output, record or measure, or nothing can be
            recomputed.
    """
    metric_named(metric)
    unknown = Output(absolute_path(path), "", storage)
    record = unknown.record()
    if record is None:
        raise ConfigurationError(f"{path}: no output of sgl run (it has no _job.json)")
    output = Output(unknown.path, record.fingerprint, storage)
    row = find_row(output, name)
    prices = _prices(output, row.get("run_id"))
    mode = str(record.job.get("mode", "cascade"))
    found = Inspected(row, mode, explained(row, mode), metric, scores_of(row, metric), prices)
    job = job_of(record)
    if job is None:
        found.remarks.append("no pictures: the settings of this output are not of this version")
        return found
    _look(found, job, record, recompute)
    return found


def _prices(output: Output, run_id: str | None) -> dict[str, str]:
    own = (run for run in run_records(output) if run.run_id == run_id)
    return {role: pool.price for run in own for role, pool in run.pools.items()}


def scores_of(row: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Of the row's answers, against the accepted ones."""
    accepted = texts_in(row.get("answers"))
    measure, options = metric_named(metric), texts_in(row.get("options"))
    said = {name: row.get(name) for name in ("answer", "small_answer")}
    said |= {f"probe {n}": one["answer"] for n, one in enumerate(row.get("probe") or [])}
    return {
        name: measure(text, accepted, options)
        for name, text in said.items()
        if accepted and text is not None
    }


def _look(found: Inspected, job: JobConfig, record: JobRecord, recompute: bool) -> None:
    source = _source(found, job)
    if source is None:
        return
    found.pictures = source.pictures
    if not source.pictures:
        found.remarks.append("no pictures: the record has none")
        return
    layouts = layouts_of(job)
    try:
        again = partial(guided_again, found.row, source, job, record) if recompute else None
        found.ranking = ranking_of(found.row, source, layouts.get("small"), again, found.remarks)
        if found.ranking is not None:
            large = layouts.get("large")
            found.kept = kept_sets(found.row, found.ranking, source, large, found.remarks)
    except ConfigurationError:
        raise
    except (SglError, OSError) as error:
        logger.info("the visual tokens cannot be laid out", exc_info=error)
        found.remarks.append(f"no map of the visual tokens: {error}")


def _source(found: Inspected, job: JobConfig) -> InputRecord | None:
    name = found.row["id"]
    try:
        source = input_records(job, {name}).get(name)
    except (SglError, OSError) as error:
        found.remarks.append(f"no pictures: the input is gone, or cannot be read any more: {error}")
        return None
    if source is None:
        found.remarks.append("no pictures: the input has no record of this id any more")
        return None
    if source.problem:
        found.remarks.append(f"no pictures: {source.problem}")
        return None
    return source
