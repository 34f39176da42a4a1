"""The Parquet files of an output, by the write task that made them: listed and read, not judged."""

import io
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.s3 import patiently
from infra.storage import PART, read_bytes
from pipeline.output import ROW_FILE, Output
from sgl.errors import ConfigurationError
from sgl.types import Route

PENDING = ".pending.parquet"
COMMITTED = ".parquet"
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError)
"""What pyarrow raises on damaged files, depending on where the damage is."""
_THREADS = 16
_AHEAD = 64

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class WriteTask:
    """What one write task left behind.

    Attributes:
        base: the beginning of all its names.
        data: names of its data files.
        committed: whether its checkpoint is committed.
        pending: whether there is a pending one.
    """

    base: str
    data: tuple[str, ...]
    committed: bool
    pending: bool


def write_tasks(output: Output) -> list[WriteTask]:
    """All write tasks of an output, by base; two listings and nothing else.

    Raises:
        ConfigurationError: a file among the rows is not of this pipeline's making.
    """
    data: dict[str, list[str]] = {}
    for name in visible(output, output.rows):
        match = ROW_FILE.fullmatch(name)
        if match is None:
            raise ConfigurationError(
                f"output.path: {name} among the rows of {output.path} is not of this pipeline; "
                "move it away, or write another directory"
            )
        data.setdefault(match["base"], []).append(name)
    names = visible(output, output.checkpoint)
    pending = {name.removesuffix(PENDING) for name in names if name.endswith(PENDING)}
    committed = {name.removesuffix(COMMITTED) for name in names if not name.endswith(PENDING)}
    return [
        WriteTask(base, tuple(data.get(base, ())), base in committed, base in pending)
        for base in sorted(data.keys() | pending | committed)
    ]


def visible(output: Output, folder: str) -> list[str]:
    """Names in a folder of an output, less the hidden ones."""
    return [name for name in output.names(folder) if not name.startswith((".", "_"))]


def leftovers(output: Output) -> list[tuple[str, str]]:
    """Folder and name of what a killed process had not finished: no one reads it."""
    return [
        (folder, name)
        for folder in (output.rows, output.checkpoint, output.ledger)
        for name in output.names(folder)
        if name.startswith(".") and name.endswith(PART)
    ]


def read(
    output: Output, folder: str, name: str, columns: Sequence[str] | None = None
) -> pa.Table | None:
    """Some columns of one file; None where they cannot be read, or the file is gone.

    Raises:
        OSError: the storage does not answer. A file that cannot be fetched is never called damaged.
    """
    uri = posixpath.join(folder, name)
    filesystem, path = output.located(uri)
    wanted = list(columns) if columns else None

    def attempt() -> Iterator[pa.Table]:
        with filesystem.open_input_file(path) as file:
            yield _parsed(file, wanted)

    try:
        return next(patiently(attempt, output.storage))
    except FileNotFoundError:
        return None
    except _DAMAGE:
        # All mean a damaged file, and OSError also a network that failed. The whole file in memory
        # tells the one from the other.
        data = read_bytes(uri, output.storage)
    try:
        return _parsed(io.BytesIO(data), wanted)
    except _DAMAGE:
        return None


def _parsed(file: Any, wanted: list[str] | None) -> pa.Table:
    return pq.ParquetFile(file, page_checksum_verification=True).read(wanted)


def in_parallel(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Results in order, from threads that run a bounded number of items ahead."""
    left = iter(items)
    with ThreadPoolExecutor(_THREADS) as pool:
        while some := list(islice(left, _AHEAD)):
            yield from pool.map(work, some)


def ids(
    output: Output, names: Iterable[str], *, settled: bool = False
) -> Iterator[pa.ChunkedArray]:
    """The ids in some data files, file by file; those of a damaged file are none.

    Args:
        output: whose rows.
        names: of the files.
        settled: leave out failed rows.
    """
    tables = in_parallel(lambda name: read(output, output.rows, name, ["id", "route"]), names)
    for table in tables:
        if table is not None and settled:
            table = table.filter(pc.not_equal(table["route"], Route.FAILED.value))
        if table is not None:
            yield table["id"]


def committed_ids(output: Output) -> Iterator[pa.ChunkedArray]:
    """The ids that the checkpoint calls done, file by file."""
    names = [n for n in visible(output, output.checkpoint) if not n.endswith(PENDING)]
    tables = in_parallel(lambda name: read(output, output.checkpoint, name, ["id"]), names)
    return (table["id"] for table in tables if table is not None)
