"""Outputs in which both models answered everything, in every way: what the frontier is made of.

`sgl calibrate` writes them: no record exits, the large model answers unpruned, and the probe holds
its answers in every way to prune.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from infra.s3 import DEFAULT, StorageConfig
from pipeline.observations import Observations, Prices, answered_rows, observed
from pipeline.output import Output
from pipeline.rowfiles import in_parallel, read
from pipeline.schema import PROBE
from pipeline.scoring import carried_names, columns_of, opened
from sgl.bounds import Floats
from sgl.calibration import UNPRUNED, Pruned
from sgl.errors import ConfigurationError
from sgl.strategies import Answered

FLOPS, SECONDS, USD = "flops", "device_s", "usd"
AGREEMENT = "agreement with the unpruned large model"
ANSWERS = "answers"
_REMEDY = (
    "--frontier needs records that both models answered in every way: the --output of sgl calibrate"
)


@dataclass(frozen=True)
class Sampled:
    """Records of one output.

    Attributes:
        answered: by the unit of costs: FLOPs, device-seconds and, where the job had prices, USD.
        reference: what quality is measured by: the column of accepted answers, or AGREEMENT.
        left_out: records without an answer to compare, by reason.
        retention: average retention of visual tokens, by way to prune; 1 is unpruned,
            None is a way that failed on all records.
        rows: as they were read, in the order of `answered`.
    """

    answered: dict[str, Answered]
    reference: str
    left_out: dict[str, int]
    retention: dict[Pruned, float | None]
    rows: Sequence[dict[str, Any]]


def read_sampled(
    path: str,
    metric: str,
    cluster: str | None = None,
    storage: StorageConfig = DEFAULT,
    more: Sequence[str] = (),
) -> Sampled:
    """Read an output of `sgl calibrate`.

    Args:
        path: of the directory, or its URI.
        metric: name of a measure of single answers.
        cluster: column that tells which records share an image; None takes each by itself.
        storage: how S3 is reached.
        more: columns that `rows` shall hold besides.

    Raises:
        ConfigurationError: there is no such output, or not every record was answered in every way.
    """
    output, files = opened(path, storage)
    columns = columns_of(output, files)
    if PROBE.name not in columns:
        raise ConfigurationError(f"{path}: its records were answered in one way only; {_REMEDY}")
    if cluster is not None and cluster not in columns:
        raise ConfigurationError(
            f"--cluster: no column '{cluster}'; it carries {carried_names(columns)}"
        )
    _check_routes(output, files)
    rows, left_out = answered_rows(output, [*more, *([cluster] if cluster else [])], files)
    rows, reference = _comparable(rows, left_out)
    clusters = np.array([str(row[cluster] if cluster else row["id"]) for row in rows])
    if len(set(clusters)) < 2:
        told = ", ".join(f"{count:,} {why}" for why, count in left_out.items())
        raise ConfigurationError(
            f"{path}: two records that share no image are needed at least"
            + (f"; left out are {told}" if told else "")
        )
    units: dict[str, Prices | None] = {FLOPS: None, SECONDS: Prices(1.0, 1.0)}
    if prices := _prices(output):
        units[USD] = prices
    ways = [
        Pruned(one["prune_layer"], one["keep_ratio"], one.get("pruner") or UNPRUNED.pruner)
        for one in rows[0][PROBE.name]
    ]
    seen = {unit: observed(rows, left_out, ways, of) for unit, of in units.items()}
    small, large = _qualities(seen[FLOPS], metric, reference)
    answered = {unit: Answered(one.sample(), small, large, clusters) for unit, one in seen.items()}
    if not answered[FLOPS].large_quality.any():
        raise ConfigurationError(f"{path}: by {metric} not one answer of the large model is right")
    return Sampled(answered, reference, left_out, _retention(ways, rows), rows)


def _check_routes(output: Output, files: Sequence[str]) -> None:
    """Refuse what routing or pruning has already decided."""
    exited = pruned = unprobed = 0
    names = ["route", "keep_ratio", PROBE.name]
    for table in in_parallel(lambda name: read(output, output.rows, name, names), files):
        if table is None:
            raise ConfigurationError(
                f"{output.path}: data files are damaged; the command that wrote it mends them"
            )
        exited += pc.sum(pc.equal(table["route"], "small")).as_py() or 0
        large = table.filter(pc.equal(table["route"], "large"))
        pruned += pc.sum(pc.less(large["keep_ratio"], UNPRUNED.keep_ratio)).as_py() or 0
        unprobed += large[PROBE.name].null_count
    reasons = {
        "exited at the small model": exited,
        "had the large model's answer pruned": pruned,
        "were not probed": unprobed,
    }
    told = ", ".join(f"{count:,} records {what}" for what, count in reasons.items() if count)
    if told:
        raise ConfigurationError(f"{output.path}: {told}; {_REMEDY}")


def _comparable(
    rows: list[dict[str, Any]], left_out: dict[str, int]
) -> tuple[list[dict[str, Any]], str]:
    """Those with accepted answers, and the others counted; all of them where none has any."""
    scorable = [row for row in rows if row.get(ANSWERS)]
    if not scorable:
        return rows, AGREEMENT
    if len(scorable) < len(rows):
        left_out["no accepted answers"] = len(rows) - len(scorable)
    return scorable, ANSWERS


def _qualities(seen: Observations, metric: str, reference: str) -> tuple[Floats, Floats]:
    """(n,) of the small model's answers, (P, n) of the large one's."""
    accepted = seen.accepted
    if reference == AGREEMENT:
        accepted = [[text or ""] for text in seen.large[UNPRUNED]]
    small = seen.scores_by(metric, seen.small, accepted)
    large = [seen.scores_by(metric, texts, accepted) for texts in seen.large.values()]
    return small, np.stack(large)


def _retention(
    ways: Sequence[Pruned], rows: Sequence[dict[str, Any]]
) -> dict[Pruned, float | None]:
    """Mean over the records that a way did not fail on."""
    told: dict[Pruned, float | None] = {UNPRUNED: 1.0}
    for number, way in enumerate(ways):
        cells = (row[PROBE.name][number]["average_retention"] for row in rows)
        known = [one for one in cells if one is not None]
        told[way] = float(np.mean(known)) if known else None
    return told


def _prices(output: Output) -> Prices | None:
    """Per device-second, of the job that wrote an output."""
    record = output.record()
    assert record is not None, "it was opened"
    pools = record.job.get("pools", {})
    small, large = (pools.get(role, {}).get("usd_per_hour") for role in ("small", "large"))
    return None if small is None or large is None else Prices(small / 3600, large / 3600)
