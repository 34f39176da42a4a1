"""How right a row's answers are, by what the output holds to judge them with.

accuracy    accepted answers of the input
agreement   the unpruned large model's answers, on the records that the run probed
same        neither is there: how often the answer is the one that this run gave
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.drift import is_list, is_text
from pipeline.probe import UNPRUNED
from pipeline.report.rows import Chunk, Floats
from pipeline.schema import PROBE
from sgl.metrics import Score


class Yardstick(StrEnum):
    """What answers are held against; see the module's docstring."""

    ACCURACY = "accuracy"
    AGREEMENT = "agreement"
    SAME = "same"


@dataclass(frozen=True)
class Judged:
    """Scores (n,) of some rows, 0 to 1; NaN where there is nothing to judge or to judge by.

    Attributes:
        answer: of the row's own answer, 0 where it has none.
        small: of the small model's answer.
        large: of the large model's as the run asked it; NaN where it did not.
        full: of the unpruned large model's, on probed rows.
    """

    answer: Floats
    small: Floats
    large: Floats
    full: Floats


def yardstick_of(names: Sequence[str], types: Sequence[pa.DataType], probed: bool) -> Yardstick:
    """The best that an output has.

    Args:
        names: of its columns.
        types: of them.
        probed: whether its run asked the large model besides.
    """
    answers = dict(zip(names, types, strict=True)).get("answers")
    if answers is not None and is_list(answers) and is_text(answers.value_type):
        return Yardstick.ACCURACY
    return Yardstick.AGREEMENT if probed else Yardstick.SAME


def judge(chunk: Chunk, yardstick: Yardstick, score: Score) -> Judged:
    """Score some rows.

    Args:
        chunk: the rows.
        yardstick: what to hold them against.
        score: the measure.
    """
    answers, said = chunk.texts("answer"), chunk.texts("small_answer")
    full = unpruned(chunk)
    accepted = _accepted(chunk, yardstick, full)
    options = _options(chunk)
    own = _scores(score, answers, accepted, options, missing=0.0)
    # An exited record's answer is the small model's: no need to score it twice.
    settled = ~chunk.escalated & chunk.known("small_answer") & chunk.known("answer")
    others = [None if done else text for done, text in zip(settled, said, strict=True)]
    small = np.where(settled, own, _scores(score, others, accepted, options))
    whole = np.full(len(chunk), np.nan)
    if yardstick is Yardstick.ACCURACY:
        whole = _scores(
            score, [None if one is None else one["answer"] for one in full], accepted, options
        )
    return Judged(own, small, np.where(chunk.escalated, own, np.nan), whole)


def unpruned(chunk: Chunk) -> list[dict[str, Any] | None]:
    """The unpruned large model's answer beside each row's own; None where it was not asked."""
    if PROBE.name not in chunk.table.column_names:
        return [None] * len(chunk)
    found: list[dict[str, Any] | None] = [None] * len(chunk)
    column = chunk.table[PROBE.name]
    where = np.flatnonzero(chunk.known(PROBE.name))
    for place, ways in zip(where, column.take(pa.array(where)).to_pylist(), strict=True):
        whole = (one for one in ways if one["keep_ratio"] == UNPRUNED.keep_ratio)
        found[int(place)] = next((one for one in whole if one["answer"] is not None), None)
    return found


def _accepted(
    chunk: Chunk, yardstick: Yardstick, full: Sequence[dict[str, Any] | None]
) -> list[list[str]]:
    if yardstick is Yardstick.AGREEMENT:
        return [[one["answer"]] if one else [] for one in full]
    if yardstick is Yardstick.SAME:
        return [[text] if text is not None else [] for text in chunk.texts("answer")]
    return _lists(chunk, "answers")


def _options(chunk: Chunk) -> list[list[str]]:
    schema = chunk.table.schema
    type_ = schema.field("options").type if "options" in schema.names else pa.null()
    if not is_list(type_) or not is_text(type_.value_type):
        return [[]] * len(chunk)
    return _lists(chunk, "options")


def _lists(chunk: Chunk, name: str) -> list[list[str]]:
    if name not in chunk.table.column_names:
        return [[]] * len(chunk)
    cells = chunk.table[name].to_pylist()
    return [[text for text in cell or [] if text is not None] for cell in cells]


def _scores(
    score: Score,
    answers: Sequence[str | None],
    accepted: Sequence[Sequence[str]],
    options: Sequence[Sequence[str]],
    missing: float = np.nan,
) -> Floats:
    """NaN where nothing is accepted, `missing` where nothing is said."""

    def one(said: str | None, right: Sequence[str], among: Sequence[str]) -> float:
        if not right:
            return np.nan
        if said is None:
            return missing
        # Every measure gives 1 to what all accepted answers say: most answers, and half the time.
        return 1.0 if right == [said] else score(said, right, among)

    return np.array(list(map(one, answers, accepted, options)), dtype=np.float64)
