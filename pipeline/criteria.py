"""By what the records of an output could have exited, and whether that would have been right.

One number per criterion and record, from the columns of the small model's scores. Where the rows
also tell what the large model says to every record, the whole cascade can be drawn for any exit
rate: its unpruned answers, which a sample of `sgl calibrate` holds, else its answers as the run
pruned them, if no record exited.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.s3 import DEFAULT, StorageConfig
from pipeline.ids import hashes_of
from pipeline.probe import is_unpruned
from pipeline.schema import PROBE
from pipeline.scores import Floats, Row, Wanted, score_of
from pipeline.scoring import check_groups, reading
from sgl import metrics
from sgl.early_exit import mean, random
from sgl.errors import ConfigurationError
from sgl.types import Criterion, Route

RIGHT = 0.5
"""From this score on an answer counts as right, where a measure knows more than right and wrong."""
_COLUMNS = tuple(one.value for one in Criterion if one not in (Criterion.MEAN, Criterion.RANDOM))
_BESIDES = (*_COLUMNS, "criterion", "average_retention", PROBE.name)
_WHOLE = 1 - 1e-9
Bools = npt.NDArray[np.bool_]
_Cells = Mapping[str, Any]


@dataclass(frozen=True)
class Candidates:
    """Of n records that the small model answered and that can be scored.

    Attributes:
        scores: (n,) by criterion, of those that every record has.
        left_out: records without a score, by criterion.
        used: criteria that the run's exit scores were of.
        right: (n,) whether the small model's answer is right.
        large: (n,) whether the large one's is; None where some records have none.
        pruned: whether that is the answer of a pruned model.
        clusters: (n,) hashes of images, or of ids where no column tells images.
        unscored: rows without accepted answers, or that the other output does not have.
        unanswered: rows without an answer of the small model's.
        damaged: data files that could not be read.
    """

    scores: dict[Criterion, Floats]
    left_out: dict[Criterion, int]
    used: tuple[str, ...]
    right: Bools
    large: Bools | None
    pruned: bool
    clusters: npt.NDArray[np.uint64]
    unscored: int
    unanswered: int
    damaged: int


def read_candidates(path: str, wanted: Wanted, storage: StorageConfig = DEFAULT) -> Candidates:
    """Read and score an output; a file's rows are let go of once they are scored.

    Args:
        path: of the directory, or its URI.
        wanted: how answers are scored, and by which reference.
        storage: how S3 is reached.

    Raises:
        ConfigurationError: see pipeline.scoring; or no record has a small model's answer, or the
            measure is of the whole corpus.
    """
    if metrics.CIDER_D in {wanted.metric, *wanted.metrics.values()}:
        raise ConfigurationError(
            f"--metric {metrics.CIDER_D}: its scores are of a corpus, so that no single answer is "
            "right or wrong by it; use rouge_l"
        )
    collected = _Collected(wanted)
    with reading(path, wanted, storage, _BESIDES) as found:
        for table, rows in found:
            cells = table.select([n for n in ("id", *_BESIDES) if n in table.column_names])
            for row, cell in zip(rows, cells.to_pylist(), strict=True):
                collected.add(row, cell)
        candidates = collected.finished(found.damaged)
    check_groups(wanted, collected.groups)
    return candidates


@dataclass
class _Collected:
    """Candidates as they go by; what is not known is not a number."""

    wanted: Wanted
    scores: dict[str, "array[float]"] = field(
        default_factory=lambda: {name: array("d") for name in (*_COLUMNS, Criterion.RANDOM.value)}
    )
    right: "array[float]" = field(default_factory=lambda: array("d"))
    unpruned: "array[float]" = field(default_factory=lambda: array("d"))
    own: "array[float]" = field(default_factory=lambda: array("d"))
    clusters: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    unscored: int = 0
    unanswered: int = 0

    def add(self, row: Row, cells: _Cells) -> None:
        """One row."""
        if not row.accepted:
            self.unscored += 1
            return
        if row.said[1] is None:
            self.unanswered += 1
            return
        self.groups.add(row.group)
        name = self.wanted.metric_of(row.group)
        self.right.append(score_of(name, row.said[1], row) >= RIGHT)
        for criterion in _COLUMNS:
            self.scores[criterion].append(_number(cells.get(criterion)))
        self.scores[Criterion.RANDOM].append(random(cells["id"]))
        for into, (known, answer) in (
            (self.unpruned, _unpruned(row, cells)),
            (self.own, _own(row)),
        ):
            into.append(score_of(name, answer, row) >= RIGHT if known else float("nan"))
        self.clusters.append(cells["id"] if row.cluster is None else row.cluster)
        if cells.get("criterion"):
            self.used.add(cells["criterion"])

    def finished(self, damaged: int) -> Candidates:
        """All of them.

        Raises:
            ConfigurationError: there are none.
        """
        if not self.right:
            raise ConfigurationError(
                f"--criteria: no row has an answer of the small model's to compare "
                f"({self.unanswered:,} without one, {self.unscored:,} without a reference)"
            )
        scores = {Criterion(name): np.array(values) for name, values in self.scores.items()}
        both = (scores[Criterion.CONFIDENCE], scores[Criterion.CONSISTENCY])
        scores[Criterion.MEAN] = np.array([mean(*pair) for pair in zip(*both, strict=True)])
        missing = {one: int(np.isnan(scores[one]).sum()) for one in Criterion}
        unpruned, own = np.array(self.unpruned), np.array(self.own)
        pruned = bool(np.isnan(unpruned).any())
        large = own if pruned else unpruned
        return Candidates(
            scores={one: scores[one] for one in Criterion if not missing[one]},
            left_out={one: count for one, count in missing.items() if count},
            used=tuple(sorted(self.used)),
            right=np.array(self.right, dtype=bool),
            large=None if np.isnan(large).any() else large.astype(bool),
            pruned=pruned,
            clusters=hashes_of(self.clusters),
            unscored=self.unscored,
            unanswered=self.unanswered,
            damaged=damaged,
        )


def _number(cell: float | None) -> float:
    return float("nan") if cell is None else cell


def _unpruned(row: Row, cells: _Cells) -> tuple[bool, str | None]:
    """Whether the unpruned large model was asked, and what it said; a failure is no answer."""
    retention = cells.get("average_retention")
    if row.route == Route.LARGE and (retention is None or retention >= _WHOLE):
        return True, row.said[0]
    for one in cells.get(PROBE.name) or []:
        if is_unpruned(one):
            return True, one["answer"]
    return row.route == Route.FAILED, None


def _own(row: Row) -> tuple[bool, str | None]:
    """Likewise of the large model as the run pruned it."""
    return row.route != Route.SMALL, row.said[0]
