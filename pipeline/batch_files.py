"""Results and errors of a batch of requests: two files of lines, in the order of the requests.

Rows lie in many files in any order. Their lines go by id into a table on the local disk, and are
read from it in the input's order, so that memory does not grow with the batch.
"""

import json
import posixpath
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from infra.storage import remove, replacing
from pipeline.batch_lines import COLUMNS, failure, result
from pipeline.output import JobRecord, Output
from pipeline.references import without_secrets
from pipeline.rowfiles import read, visible
from pipeline.source import Source, read_ids
from sgl.errors import AuditError
from sgl.types import Route

RESULTS = "results.jsonl"
ERRORS = "errors.jsonl"
_CACHE_KIB = 32 << 10


@dataclass(frozen=True)
class Batch:
    """The files of a batch.

    Attributes:
        folder: that they are in.
        results: answered requests.
        errors: failed ones.
    """

    folder: str
    results: int
    errors: int


def write_batch(output: Output, source: Source) -> Batch:
    """Write both files anew; at any moment each is whole, and the results come last.

    Args:
        output: complete.
        source: the requests.

    Raises:
        AuditError: it is not complete.
        OSError: a file cannot be read or written.
    """
    record = output.record()
    assert record is not None, "it is complete"
    # Without a name: a table on the disk that is gone with the connection.
    with closing(sqlite3.connect("")) as table:
        table.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        table.execute("PRAGMA journal_mode=OFF")
        table.execute("CREATE TABLE lines (id TEXT PRIMARY KEY, failed INTEGER, line BLOB)")
        _fill(table, output, record)
        results, errors = _write(table, output, source)
    return Batch(output.batch, results, errors)


def discard_batch(output: Output) -> None:
    """Take the files away, before rows change.

    Raises:
        OSError: they cannot be.
    """
    for name in (RESULTS, ERRORS):
        remove(posixpath.join(output.batch, name), output.storage)


def _fill(table: sqlite3.Connection, output: Output, job: JobRecord) -> None:
    for name in visible(output, output.rows):
        rows = read(output, output.rows, name, COLUMNS)
        if rows is None:
            raise AuditError(f"{output.path}: {name} is damaged; the same command mends it")
        for batch in rows.to_batches():
            table.executemany("INSERT INTO lines VALUES (?, ?, ?)", _lines(batch.to_pylist(), job))


def _lines(rows: Iterable[Mapping[str, Any]], job: JobRecord) -> Iterator[tuple[str, bool, bytes]]:
    for row in rows:
        failed = row["route"] == Route.FAILED.value
        line = failure(row, job) if failed else result(row, job)
        yield row["id"], failed, json.dumps(line, ensure_ascii=False).encode() + b"\n"


def _write(table: sqlite3.Connection, output: Output, source: Source) -> tuple[int, int]:
    """Both files; how many lines each has."""
    results, errors = (posixpath.join(output.batch, name) for name in (RESULTS, ERRORS))
    counts = [0, 0]
    # The inner one has its name first.
    with replacing(results, output.storage) as right, replacing(errors, output.storage) as wrong:
        for failed, line in _in_order(table, source):
            (wrong if failed else right).write(line)
            counts[failed] += 1
    return counts[False], counts[True]


def _in_order(table: sqlite3.Connection, source: Source) -> Iterator[tuple[bool, bytes]]:
    """Whether a request failed, and its line, in the order of the input."""
    for ids in read_ids(source):
        for name in ids.to_pylist():
            found = table.execute("SELECT failed, line FROM lines WHERE id = ?", (name,)).fetchone()
            if found is None:
                where = without_secrets(source.config.path)
                raise AuditError(f"{where} has changed under the run: {name!r} has no row")
            yield bool(found[0]), found[1]
