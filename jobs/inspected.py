"""All that is known of one record: its row, its pictures, the ranking, and what is kept by it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from actors.equal_retention import way_at
from infra.s3 import StorageConfig
from jobs.explained import explained, told_apart
from jobs.record_pictures import (
    Grids,
    InputRecord,
    Mask,
    TokenLayout,
    input_records,
    job_of,
    kept_of,
    layouts_of,
    tokens_in,
    was_guided,
)
from jobs.token_map import Floats, Pixels
from pipeline.config import JobConfig, absolute_path
from pipeline.lookup import find_row
from pipeline.output import JobRecord, Output
from pipeline.run_record import run_records
from pipeline.schema import IMPORTANCE
from pipeline.scoring import texts_in
from sgl.equal_retention import RETENTIONS
from sgl.errors import ConfigurationError, SglError
from sgl.metrics import metric_named
from sgl.types import Failure, Guidance, ImageQuestion

logger = logging.getLogger(__name__)

_TOLERANCE = 1e-3
"""Between exit scores of the same record; batches of another make-up round otherwise."""


@dataclass(frozen=True)
class Ranking:
    """How important each visual token is to the small model.

    Attributes:
        importance: (V,).
        grids: of those tokens.
        origin: where it is from, in words.
    """

    importance: Floats
    grids: Grids
    origin: str


@dataclass(frozen=True)
class Kept:
    """Tokens that the large model keeps.

    Attributes:
        told: how they came about.
        tokens: (W,) which of its tokens.
        grids: of all of them.
    """

    told: str
    tokens: Mask
    grids: Grids


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
        found.ranking = _ranking(found, job, record, source, layouts, recompute)
        if found.ranking is not None:
            found.kept = _kept(found, found.ranking, layouts.get("large"))
            _tell_overviews(found, found.ranking.grids)
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


def _ranking(
    found: Inspected,
    job: JobConfig,
    record: JobRecord,
    source: InputRecord,
    layouts: Mapping[str, TokenLayout],
    recompute: bool,
) -> Ranking | None:
    if "small" not in layouts:
        found.remarks.append("no importance map: mode large has no small model that ranks")
        return None
    cell = found.row.get(IMPORTANCE.name)
    if cell:
        grids = layouts["small"].grids(source.pictures)
        importance = np.array(cell, dtype=np.float32)
        if tokens_in(grids) == len(importance):
            return Ranking(importance, grids, "as the run wrote it")
        found.remarks.append("no importance map: the pictures are not those of the run any more")
        return None
    if not recompute:
        found.remarks.append(
            "no importance map: the row has none (output.write_importance writes them); "
            "--recompute runs the small model on this record again"
        )
        return None
    guidance = _guided(found.row, job, record, source)
    if isinstance(guidance, Failure):
        told = f"{guidance.type}: {guidance.message}"
        found.remarks.append(f"no importance map: the small model fails on this record, {told}")
        return None
    origin = f"recomputed now, not of the run; {_compared(found.row, guidance)}"
    return Ranking(guidance.importance, guidance.grids, origin)


def _guided(
    row: Mapping[str, Any], job: JobConfig, record: JobRecord, source: InputRecord
) -> Guidance | Failure:
    """Run the small model on one record, in the run's precision, on one device."""
    from actors.small_vlm import SmallVLM

    own: dict[str, Any] = {"device": "auto", "tensor_parallel": None, "batch_size": 1}
    if precision := record.precision.get("small"):
        own["dtype"] = precision
    question = ImageQuestion(
        row["id"], row["question"] or "", source.pictures, source.max_new_tokens
    )
    try:
        model = SmallVLM(job.model("small").model_copy(update=own), job.guidance, job.decoding)
    except SglError as error:
        raise ConfigurationError(f"--recompute: {error}") from error
    (result,) = model.run([question])
    return result


def _compared(row: Mapping[str, Any], guidance: Guidance) -> str:
    score = row.get("exit_score")
    if score is None:
        return f"exit score {guidance.exit_score:.4g}"
    if guidance.answer == row["small_answer"] and abs(guidance.exit_score - score) < _TOLERANCE:
        return "answer and exit score are those of the row"
    now, then = told_apart(guidance.exit_score, score)
    return f"it now says {guidance.answer!r} with exit score {now}, in the run {then}"


def _kept(found: Inspected, ranking: Ranking, large: TokenLayout | None) -> list[Kept]:
    if large is None:
        found.remarks.append("no kept tokens: mode small has no large model that is pruned")
        return []
    grids, layers = large.grids(found.pictures), large.layers
    kept = [_at(retention, ranking, grids, layers) for retention in RETENTIONS]
    row = found.row
    if was_guided(row) and row["kept_tokens"] < tokens_in(grids):
        layer = int(layers * row["prune_layer"])
        told = f"as it ran, {row['average_retention']:.0%}"
        kept.append(_chosen(told, ranking, grids, row["kept_tokens"], layer, layers))
    elif row.get("pruner") and not was_guided(row):
        found.remarks.append(
            f"not drawn as it ran: pruner {row['pruner']} chose its tokens, and no row tells which"
        )
    return kept


def _tell_overviews(found: Inspected, grids: Grids) -> None:
    overviews = tokens_in([grid for grid in grids if grid.thumbnail])
    if 0 < overviews < tokens_in(grids):
        found.remarks.append(
            f"tiles are drawn; {overviews} of the {tokens_in(grids)} tokens are of overviews, "
            "which are not"
        )


def _at(retention: float, ranking: Ranking, grids: Grids, layers: int) -> Kept:
    from sgl.ranking import keep_count

    way = way_at("guided", retention, layers)
    assert way is not None, "guided pruning has a layer at every retention"
    kept = keep_count(tokens_in(grids), way.keep_ratio)
    layer = int(layers * way.prune_layer)
    return _chosen(f"{retention:.0%} average retention", ranking, grids, kept, layer, layers)


def _chosen(told: str, ranking: Ranking, grids: Grids, kept: int, layer: int, layers: int) -> Kept:
    """The guided pruner's choice; `layer` is the first with fewer tokens."""
    where = f"{kept} of {tokens_in(grids)} tokens from layer {layer} of {layers}"
    tokens = kept_of(ranking.importance, ranking.grids, grids, kept)
    return Kept(f"{told}: {where}", tokens, grids)
