"""What is kept of every row that was scored: a few numbers, so that millions fit into memory."""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.ids import hashes_of
from sgl import metrics
from sgl.errors import ConfigurationError
from sgl.metrics.captions import cider_d
from sgl.metrics.yes_no import YesNoCounts, count_yes_no
from sgl.types import Route

ROLES = ("answer", "small_answer")
"""The output's answer, and what the small model said by itself."""
ROUTES = tuple(route.value for route in Route)
NO_GROUP = "(none)"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Wanted:
    """What is to be scored, and how.

    Attributes:
        metric: the name of a measure; BY_KIND chooses one by the group's name.
        metrics: of other measures, by group; needs `by`.
        by: a column that groups the rows.
        cluster: a column that tells which rows are about one image.
        reference: a column of accepted answers, or another output, whose answers are compared with.
    """

    metric: str = metrics.DEFAULT
    metrics: Mapping[str, str] = field(default_factory=dict)
    by: str | None = None
    cluster: str | None = None
    reference: str = "answers"

    def metric_of(self, group: str) -> str:
        """The measure that the rows of a group are scored by."""
        name = self.metrics.get(group, self.metric)
        return metrics.AGREEMENT.get(group, metrics.DEFAULT) if name == metrics.BY_KIND else name


@dataclass(frozen=True)
class Row:
    """One row of an output, as far as it is scored.

    Attributes:
        route: that it took.
        said: by role; null where there is no answer.
        accepted: answers; a row without any is not scored.
        options: texts of the answer options.
        group: the value of the column that groups.
        cluster: likewise of the one that tells images; None where none does.
    """

    route: str
    said: tuple[str | None, str | None]
    accepted: list[str]
    options: list[str]
    group: str
    cluster: str | None


@dataclass(frozen=True)
class Scored:
    """Scores of all rows that have something to be scored against.

    Attributes:
        wanted: what was asked for.
        scores: by role, (n,): 0 for a row without an answer.
        routes: (n,) places in ROUTES.
        groups: (n,) places in `names`.
        names: of the groups, in the order met.
        clusters: (n,) hashes; None where none were asked for.
        yes_no: by group, of the answers that were scored as yes or no.
        unscored: rows without accepted answers, or that the other output does not have.
        small_ran: whether any row has an answer of the small model's own.
        damaged: data files that could not be read.
    """

    wanted: Wanted
    scores: dict[str, Floats]
    routes: npt.NDArray[np.int8]
    groups: npt.NDArray[np.int64]
    names: tuple[str, ...]
    clusters: npt.NDArray[np.uint64] | None
    yes_no: dict[str, YesNoCounts]
    unscored: int
    small_ran: bool
    damaged: int


class Collected:
    """Scores rows as they go by.

    Args:
        wanted: how.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._scores = {role: array("d") for role in ROLES}
        self._routes, self._groups, self._clusters = array("b"), array("q"), array("Q")
        self._names: dict[str, int] = {}
        self._yes_no: dict[str, YesNoCounts] = {}
        # CIDEr-D alone needs all texts at once.
        self._captions: list[tuple[int, Row]] = []
        self._unscored = 0
        self._small_ran = False

    def add(self, row: Row) -> None:
        """Score one row."""
        if not row.accepted:
            self._unscored += 1
            return
        name = self._wanted.metric_of(row.group)
        if name == metrics.CIDER_D:
            self._captions.append((len(self._routes), row))
        for role, answer in zip(ROLES, row.said, strict=True):
            self._scores[role].append(score_of(name, answer, row))
        if name == "yes_no":
            counts = count_yes_no([(row.said[0] or "", row.accepted[0])])
            self._yes_no[row.group] = self._yes_no.get(row.group, YesNoCounts()) + counts
        self._routes.append(ROUTES.index(row.route))
        self._groups.append(self._names.setdefault(row.group, len(self._names)))
        self._small_ran |= row.said[1] is not None
        if row.cluster is not None:
            self._clusters.append(int(hashes_of([row.cluster])[0]))

    def finished(self, damaged: int) -> Scored:
        """All scores.

        Args:
            damaged: data files that could not be read.

        Raises:
            ConfigurationError: no row could be scored.
        """
        if not self._routes:
            raise ConfigurationError(
                f"nothing to score: none of the {self._unscored:,} rows has accepted answers, or "
                "their ids are not those of the other output"
            )
        scores = {role: np.array(found) for role, found in self._scores.items()}
        for place, role in enumerate(ROLES):
            self._score_captions(scores[role], place)
        return Scored(
            wanted=self._wanted,
            scores=scores,
            routes=np.array(self._routes),
            groups=np.array(self._groups),
            names=tuple(self._names),
            clusters=np.array(self._clusters) if self._clusters else None,
            yes_no=self._yes_no,
            unscored=self._unscored,
            small_ran=self._small_ran,
            damaged=damaged,
        )

    def _score_captions(self, scores: Floats, place: int) -> None:
        said = [(number, row) for number, row in self._captions if row.said[place] is not None]
        if said:
            answers = [row.said[place] or "" for _, row in said]
            found = cider_d(answers, [row.accepted for _, row in said])
            scores[[number for number, _ in said]] = found


def score_of(name: str, answer: str | None, row: Row) -> float:
    """Of one answer to a row's question by a measure; CIDEr-D, which needs all rows, is left 0."""
    if answer is None or name == metrics.CIDER_D:
        return 0.0
    return metrics.METRICS[name](answer, row.accepted, row.options)
