"""What a study of pruners comes to: quality and FLOPs of each, beside the unpruned large model.

Its job is that of `jobs/sample.py`: each row holds the large model's answer unpruned and, in the
probe, in every way to prune. So all comparisons are paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from actors.config import PruningConfig
from pipeline.observations import answered_rows, costs_of, options_of, scores_of
from pipeline.output import Output
from pipeline.schema import PROBE
from sgl.bounds import Floats
from sgl.errors import ConfigurationError
from sgl.statistics import Bootstrap, Estimate, mean_score

UNLABELLED = "without accepted answers"
"""Why a record is left out, where others have some."""


@dataclass(frozen=True)
class StudyLine:
    """One way to prune.

    Attributes:
        pruning: the way.
        asked: average retention that it is to have.
        retention: what it has, mean over the records; None where it failed on all.
        score: mean.
        share: of the unpruned model's score; None where that is 0.
        flops: share of the unpruned model's FLOPs, what choosing the tokens costs included; None
            where it failed on all records.
        flops_with_small: likewise with the small model's; None also where the way needs none.
        failed: records without an answer, which score 0.
    """

    pruning: PruningConfig
    asked: float
    retention: float | None
    score: Estimate
    share: Estimate | None
    flops: float | None
    flops_with_small: float | None
    failed: int


@dataclass(frozen=True)
class Study:
    """Of one large model.

    Attributes:
        records: that were compared.
        images: that they are of; where no column tells, each is of its own.
        metric: that scored the answers.
        labelled: against accepted answers; otherwise against the unpruned model's own.
        cluster: column that tells the image; None takes every record for one of its own.
        unpruned: score of the unpruned large model.
        small: score of the small model alone.
        lines: by way.
        left_out: records, by reason.
    """

    records: int
    images: int
    metric: str
    labelled: bool
    cluster: str | None
    unpruned: Estimate
    small: Estimate
    lines: tuple[StudyLine, ...]
    left_out: dict[str, int]


def study_of(
    output: Output, ways: Mapping[PruningConfig, float], metric: str, cluster: str | None
) -> Study:
    """Read the finished output of a study's job.

    Args:
        output: of that job.
        ways: of its probe, in order, and the average retention that each is to have.
        metric: name of the measure.
        cluster: column that tells which records share an image.

    Raises:
        ConfigurationError: no record was answered, or there is no such column.
    """
    rows, left_out = answered_rows(output, [cluster] if cluster else [])
    if cluster and any(cluster not in row for row in rows):
        raise ConfigurationError(f"--cluster {cluster}: the rows have no such column")
    labelled = any(row.get("answers") for row in rows)
    if labelled and (without := sum(not row.get("answers") for row in rows)):
        left_out = {**left_out, UNLABELLED: without}
        rows = [row for row in rows if row.get("answers")]
    accepted = [row["answers"] if labelled else [row["answer"]] for row in rows]
    comparison = _Comparison(rows, accepted, metric, cluster)
    return Study(
        records=len(rows),
        images=comparison.images,
        metric=metric,
        labelled=labelled,
        cluster=cluster,
        unpruned=comparison.score(comparison.unpruned),
        small=comparison.score(comparison.scored(_column(rows, "small_answer"))),
        lines=tuple(
            comparison.line(number, way, asked) for number, (way, asked) in enumerate(ways.items())
        ),
        left_out=left_out,
    )


class _Comparison:
    """Of the pruned model with the unpruned one, on the same records."""

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        accepted: Sequence[Sequence[str]],
        metric: str,
        cluster: str | None,
    ) -> None:
        self._rows = rows
        self._accepted = accepted
        self._metric = metric
        self._options = options_of(rows)
        images = [str(row[cluster]) for row in rows] if cluster else range(len(rows))
        self._images = np.asarray(images)
        self._bootstrap = Bootstrap(self._images)
        self._small_flops = costs_of(rows, "small_flops", "small_gpu_s", None)
        self._full_flops = costs_of(rows, "large_flops", "large_gpu_s", None)
        self.images = len(np.unique(self._images))
        self.unpruned = self.scored(_column(rows, "answer"))

    def scored(self, answers: Sequence[str | None]) -> Floats:
        return scores_of(self._metric, answers, self._accepted, self._options)

    def score(self, scores: Floats) -> Estimate:
        return mean_score(scores, self._images)

    def line(self, number: int, way: PruningConfig, asked: float) -> StudyLine:
        """Of the way at that place in the probe."""
        cells = [row[PROBE.name][number] for row in self._rows]
        scores = self.scored(_column(cells, "answer"))
        retained = [one for one in _column(cells, "average_retention") if one is not None]
        flops = float(costs_of(cells, "flops", "gpu_s", None).sum() / self._full_flops.sum())
        small = float(self._small_flops.sum() / self._full_flops.sum())
        right = self.unpruned.any()
        return StudyLine(
            pruning=way,
            asked=asked,
            retention=float(np.mean(retained)) if retained else None,
            score=self.score(scores),
            share=self._bootstrap.ratio(scores, self.unpruned) if right else None,
            flops=flops if retained else None,
            flops_with_small=flops + small if retained and way.pruner == "guided" else None,
            failed=sum(text is None for text in _column(cells, "answer")),
        )


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [row[name] for row in rows]
