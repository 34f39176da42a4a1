"""One pass over an output's rows: chunks of equal columns, whatever version wrote them."""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.output import Output
from pipeline.rowfiles import in_parallel, read
from pipeline.schema import OUTPUT, PROBE
from sgl.types import Route

_ROWS = 1 << 15
"""Of a chunk, at least: the files of an output are small, and each call of numpy costs as much."""
ROUTES = tuple(route.value for route in Route)
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Chunk:
    """Some rows as arrays of (n,); null is NaN.

    Args:
        table: with all columns of OUTPUT; `answers`, `options` and `probe` where there are some.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def floats(self, name: str) -> Floats:
        """A column of numbers."""
        column = self.table[name].cast(pa.float64())
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)

    def instants(self, name: str) -> Floats:
        """A column of instants, as time.time() has them."""
        column = self.table[name]
        micros = column.cast(pa.int64()).cast(pa.float64())
        return np.asarray(micros.to_numpy(zero_copy_only=False), dtype=np.float64) / 1e6

    def known(self, name: str) -> Flags:
        """Where a column has a value."""
        return np.asarray(pc.is_valid(self.table[name]).to_numpy(zero_copy_only=False))

    def texts(self, name: str) -> list[str | None]:
        """A column of texts."""
        found: list[str | None] = self.table[name].to_pylist()
        return found

    def is_route(self, route: Route) -> Flags:
        """Where the rows went."""
        flags = pc.fill_null(pc.equal(self.table["route"], route.value), False)
        return np.asarray(flags.to_numpy(zero_copy_only=False))

    @cached_property
    def escalated(self) -> Flags:
        """Rows that the large model has worked on."""
        return self.known("large_started_at")

    @cached_property
    def scores(self) -> Floats:
        """Exit scores."""
        return self.floats("exit_score")


def chunks(output: Output, names: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of some data files in the columns of OUTPUT, with `answers`, `options` and `probe`.

    Columns that an older version did not write are null. A damaged file has no rows. The column
    `file` is a row's place among the names.
    """
    wanted = [*OUTPUT.names, "answers", "options", PROBE.name]
    held: list[pa.Table] = []
    tables = in_parallel(lambda name: read(output, output.rows, name, wanted), names)
    for place, table in enumerate(tables):
        if table is None:
            continue
        held.append(_completed(table, place))
        if sum(one.num_rows for one in held) >= _ROWS:
            yield pa.concat_tables(held, promote_options="default").combine_chunks()
            held = []
    if held:
        yield pa.concat_tables(held, promote_options="default").combine_chunks()


def _completed(table: pa.Table, place: int) -> pa.Table:
    table = table.append_column("file", pa.array(np.full(table.num_rows, place, np.int32)))
    there = set(table.column_names)
    for field in OUTPUT:
        if field.name not in there:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table
