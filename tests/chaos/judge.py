"""What a disturbed output is held against: the undisturbed one, row by row."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.output import Output
from pipeline.rowfiles import PENDING, leftovers, read, visible
from pipeline.status import status

SAME = ("answer", "route", "small_answer")
SCORES = ("exit_score", "confidence", "consistency")
TOLERANCE = 1e-4
"""Of scores. A record that runs in other company is padded otherwise, and rounds otherwise."""
LEAST_MARGIN = 1e-3
"""Of the undisturbed scores from the threshold, so that rounding cannot change a route."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What is wrong with an output.

    Attributes:
        lost: records without a row.
        doubled: rows too many, those of unknown records included.
        changed: records whose answer, route or scores are not the undisturbed run's.
        problems: everything, in words.
    """

    lost: int
    doubled: int
    changed: int
    problems: tuple[str, ...]


def rows_in(output: Output) -> list[Row]:
    """Every row that a reader of the directory sees, committed or not."""
    found: list[Row] = []
    for name in visible(output, output.rows):
        table = read(output, output.rows, name, ["id", *SAME, *SCORES])
        found += table.to_pylist() if table is not None else [{"id": f"damaged file {name}"}]
    return found


def judge(output: Output, undisturbed: Mapping[str, Row], now: float) -> Verdict:
    """Hold an output that claims to be finished against the undisturbed rows.

    Args:
        output: reached past all faults.
        undisturbed: rows by id.
        now: time.time().
    """
    rows = rows_in(output)
    seen = Counter(row["id"] for row in rows)
    lost = sorted(undisturbed.keys() - seen.keys())
    doubled = sorted(name for name, n in seen.items() if n > (name in undisturbed))
    changed = [
        name for row in rows if (name := row["id"]) in undisturbed and _differs(row, undisturbed)
    ]
    problems = [
        *_told(lost, "records have no row"),
        *_told(doubled, "ids stand too often"),
        *_told(changed, "records have another answer, route or score"),
        *_unfinished(output, len(undisturbed), now),
    ]
    extra = sum(seen[name] - (name in undisturbed) for name in doubled)
    return Verdict(len(lost), extra, len(changed), tuple(problems))


def margin(rows: Iterable[Row], threshold: float) -> float:
    """The least distance of a score from the threshold."""
    return min(abs(float(row["exit_score"]) - threshold) for row in rows)


def _differs(row: Row, undisturbed: Mapping[str, Row]) -> bool:
    wanted = undisturbed.get(row["id"])
    if wanted is None:
        return False  # counted as one too many
    return any(row[name] != wanted[name] for name in SAME) or any(
        row[name] is None or not math.isclose(row[name], wanted[name], rel_tol=0, abs_tol=TOLERANCE)
        for name in SCORES
    )


def _unfinished(output: Output, records: int, now: float) -> list[str]:
    found = status(output.path, now, output.storage)
    told = {
        "state": (found.state, "complete"),
        "records": (found.records, records),
        "missing": (found.missing, 0),
        "failed": (found.failed, {}),
        "uncommitted files": (found.uncommitted, 0),
        "broken files": (found.broken, 0),
        "pending checkpoints": (_pending(output), []),
        "half-written files": (leftovers(output), []),
        "holder of the lease": (found.writer, None),
    }
    problems = [
        f"{what} of the output: {there}, not {wanted}"
        for what, (there, wanted) in told.items()
        if there != wanted
    ]
    return problems if output.success() else [*problems, "there is no success marker"]


def _pending(output: Output) -> list[str]:
    return [name for name in output.names(output.checkpoint) if name.endswith(PENDING)]


def _told(names: list[str], what: str) -> list[str]:
    return [f"{len(names)} {what}: {', '.join(names[:5])}"] if names else []
