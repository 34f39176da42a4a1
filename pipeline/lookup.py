"""One row of an output by its id, without reading the others.

The checkpoint holds the ids alone, a file per write task: it says which task wrote the row, and
only that task's data files are read.
"""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.output import Output
from pipeline.rowfiles import COMMITTED, WriteTask, in_parallel, read, write_tasks
from sgl.errors import ConfigurationError

_NAMED = 3
_CANDIDATES = 1000
"""Ids that are compared letter by letter with one that is not there."""


def find_row(output: Output, wanted: str) -> dict[str, Any]:
    """The row of an id, all its columns.

    Args:
        output: whose committed rows are looked through.
        wanted: the id.

    Raises:
        ConfigurationError: there is no such row, and names near ids; or its data file is damaged.
    """
    tasks = [task for task in write_tasks(output) if task.committed]
    if not tasks:
        raise ConfigurationError(f"{output.path}: no rows are committed yet")
    near = _Near(wanted)
    for task, ids in _ids(output, tasks):
        if not pc.any(pc.equal(ids, wanted)).as_py():
            near.add(ids)
        elif row := _row(output, task, wanted):
            return row
        else:
            raise ConfigurationError(
                f"{output.path}: the data file of {wanted!r} is gone or damaged; the command that "
                "wrote it mends it"
            )
    raise ConfigurationError(f"{output.path}: no committed row has the id {wanted!r}{near.told()}")


def _ids(output: Output, tasks: Sequence[WriteTask]) -> Iterator[tuple[WriteTask, pa.ChunkedArray]]:
    def of(task: WriteTask) -> pa.Table | None:
        return read(output, output.checkpoint, f"{task.base}{COMMITTED}", ["id"])

    for task, table in zip(tasks, in_parallel(of, tasks), strict=True):
        if table is not None:
            yield task, table["id"]


def _row(output: Output, task: WriteTask, wanted: str) -> dict[str, Any] | None:
    for name in task.data:
        table = read(output, output.rows, name)
        found = table.filter(pc.equal(table["id"], wanted)) if table is not None else None
        if found:
            row: dict[str, Any] = found.slice(0, 1).to_pylist()[0]
            return row
    return None


class _Near:
    """Ids like one that is not there: all but its first or last letter, its part, or another case.

    Args:
        wanted: the id.
    """

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self._found: list[str] = []
        self._first: list[str] = []

    def add(self, ids: pa.ChunkedArray) -> None:
        """Look through some."""
        if not self._first:
            self._first = ids.slice(0, _NAMED).to_pylist()
        if len(self._found) >= _CANDIDATES:
            return
        alike = pc.match_substring(ids, self._wanted, ignore_case=True)
        if len(self._wanted) > 1:
            starts = pc.starts_with(ids, self._wanted[:-1])
            alike = pc.or_(pc.or_(alike, starts), pc.ends_with(ids, self._wanted[1:]))
        self._found += ids.filter(alike).to_pylist()

    def told(self) -> str:
        """For the end of a sentence."""
        near = difflib.get_close_matches(self._wanted, self._found[:_CANDIDATES], _NAMED, 0.0)
        if near:
            return f"; near are {', '.join(map(repr, near))}"
        return f"; ids are such as {', '.join(map(repr, self._first))}" if self._first else ""
