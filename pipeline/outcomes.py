"""The probe in an output's rows: what the run answered, and what the large model alone would have.

Rows that were answered fail-safe are told apart: they agree by construction, and say nothing of the
cascade that was promised something.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from pipeline.fail_safe import Decision
from pipeline.multiple_choice import OPTIONS, carried_options
from pipeline.output import Output
from pipeline.probe import is_unpruned
from pipeline.rowfiles import in_parallel, read, visible
from pipeline.schema import PROBE

_COLUMNS = ("id", "answer", "flops", "decision", OPTIONS, PROBE.name)


@dataclass(frozen=True)
class Probed:
    """One record with both answers.

    Attributes:
        id: of the record.
        answer: that the run gave.
        reference: the unpruned large model's own.
        options: texts of the answer options, where the question has some.
        flops: that the run spent on it.
        full: that the unpruned large model did.
        fail_safe: whether the run's answer is that of the fail-safe and not of the cascade.
    """

    id: str
    answer: str
    reference: str
    options: list[str]
    flops: float
    full: float
    fail_safe: bool


def probed_rows(output: Output) -> Iterator[Probed]:
    """Those of an output, finished or not, in the order in which they were written."""
    names = sorted(visible(output, output.rows))
    for table in in_parallel(lambda name: read(output, output.rows, name, _COLUMNS), names):
        if table is not None and PROBE.name in table.column_names:
            for row in table.filter(pc.is_valid(table[PROBE.name])).to_pylist():
                yield from _compared(row)


def unpruned_of(cells: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The entry of a `probe` cell that the run's answer is compared with; None where it failed."""
    entry = next(filter(is_unpruned, cells), None)
    return None if entry is None or entry.get("answer") is None else entry


def _compared(row: Mapping[str, Any]) -> Iterator[Probed]:
    entry = unpruned_of(row[PROBE.name])
    if entry is not None and row["answer"] is not None:
        safe = row.get("decision") == Decision.FAIL_SAFE
        numbers = {"flops": row["flops"], "full": entry["flops"], "fail_safe": safe}
        options = carried_options(row.get(OPTIONS))
        yield Probed(row["id"], row["answer"], entry["answer"], options, **numbers)
