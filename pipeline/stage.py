"""What all stages share: declared columns, conserved rows, edits of a table's columns."""

import os
import traceback
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NoReturn

import pyarrow as pa

from pipeline.schema import IN_FLIGHT, ON_REQUEST, OUTPUT, type_of
from sgl.types import Failure, Route


def column(table: pa.Table, name: str) -> pa.Array:
    """One column as one array."""
    combined = table[name].combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def replace_columns(table: pa.Table, columns: Mapping[str, pa.Array]) -> pa.Table:
    """The table with columns set in place, or appended where it has none of the name."""
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        if index < 0:
            table = table.append_column(pa.field(name, values.type), values)
        else:
            table = table.set_column(index, pa.field(name, values.type), values)
    return table


def edit_rows(
    table: pa.Table, edits: Mapping[int, Mapping[str, Any]], writes: Sequence[str]
) -> pa.Table:
    """The table with single cells replaced.

    Args:
        table: holds every column of `writes`.
        edits: row -> column -> value.
        writes: the columns that may be edited.
    """
    columns = {}
    for name in writes:
        changed = {row: cells[name] for row, cells in edits.items() if name in cells}
        if not changed:
            continue
        values = table[name].to_pylist()
        for row, value in changed.items():
            values[row] = value
        columns[name] = pa.array(values, type_of(name))
    return replace_columns(table, columns)


def failed(failure: Failure) -> dict[str, Any]:
    """The cells of a row that failed; what earlier stages found out stays."""
    return {
        "route": Route.FAILED.value,
        "error": {"stage": failure.stage, "type": failure.type, "message": failure.message},
    }


def is_open(route: str | None) -> bool:
    """Whether a row still waits for an answer."""
    return route is None


def keep_only(values: pa.Array, rows: Iterable[int]) -> pa.Array:
    """The array with all other rows null, and their memory released."""
    kept = set(rows)
    return values.take(pa.array([i if i in kept else None for i in range(len(values))], pa.int64()))


def check_columns(stage: str, table: pa.Table, reads: Sequence[str]) -> None:
    """Assert that a stage's declared columns have arrived."""
    missing = [name for name in reads if name not in table.column_names]
    assert not missing, f"the {stage} stage misses the columns {missing}"


def check_conserved(stage: str, before: pa.Table, after: pa.Table) -> None:
    """Assert that the same rows leave a stage as entered it, in the same order."""
    assert before["id"].equals(after["id"]), f"the {stage} stage lost or reordered rows"


def to_output(table: pa.Table) -> pa.Table:
    """The finished rows: output columns in their order, then the carried ones."""
    own = [*OUTPUT.names, *(f.name for f in ON_REQUEST if f.name in table.column_names)]
    carried = [n for n in table.column_names if n not in own and n not in IN_FLIGHT]
    return table.select(own + carried)


def instant(seconds: float) -> datetime:
    """A time.time() as the schema's INSTANT."""
    return datetime.fromtimestamp(seconds, UTC)


def end_process(error: BaseException) -> NoReturn:
    """End this replica at once, so that Ray restarts it and does its rows again.

    For errors that no record is to blame for: a raised exception would fail the whole job, and
    `ray.actor.exit_actor` is not retried.
    """
    traceback.print_exception(error)
    os._exit(1)
