"""Parquet files by row group, and the Arrow files of a Hugging Face dataset saved to disk.

Neither the layout of a file nor the check of its ids reads a picture.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from infra.failures import is_of_storage
from pipeline.drift import is_binary, is_list, plain
from pipeline.files import Chunk, InputFile, Part
from sgl.errors import ConfigurationError, SglError

_BATCH_ROWS = 64
_ARROW_FILE_MAGIC = b"ARROW1"
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError)
"""What pyarrow raises for bytes that are not what they should be; ValueError where a name in a
footer is no UTF-8."""

_Batches: TypeAlias = Iterator[pa.RecordBatch]


def parquet_parts(file: InputFile) -> tuple[pa.Schema, list[Part]]:
    """Schema and row groups, from the footer alone.

    Raises:
        ConfigurationError: this is no Parquet file.
    """
    parts: list[Part] = []
    first = 0
    with _refused(file, "Parquet"), file.open() as stream, pq.ParquetFile(stream) as opened:
        content = _digest(file.name.encode(), _footer(stream))
        for index in range(opened.num_row_groups):
            group = opened.metadata.row_group(index)
            parts.append(Part(file, group.num_rows, group.num_rows, index, first, content))
            first += group.num_rows
        return _once(opened.schema_arrow, file), parts


def arrow_parts(file: InputFile) -> tuple[pa.Schema, list[Part]]:
    """Schema and rows of an Arrow file; on a local disk its pictures are not read.

    Raises:
        ConfigurationError: this is no Arrow file, or it is damaged.
    """
    with _refused(file, "Arrow"), _arrow(file) as (schema, batches):
        counts = [batch.num_rows for batch in batches]
        part = Part(
            file,
            sum(counts),
            sum(counts),
            content=_digest(file.name.encode(), str(counts).encode()),
        )
        return _once(schema, file), [part]


def read_parquet(part: Part, only: Sequence[str] | None) -> Iterator[Chunk]:
    """The rows of one row group. Those behind a damaged page have a problem each.

    Args:
        part: to read.
        only: columns that suffice; None means all.

    Raises:
        OSError: the storage fails.
    """
    assert part.row_group is not None, "a part of a Parquet file is a row group"
    done = 0
    with part.file.open() as stream, pq.ParquetFile(stream) as opened:
        schema = opened.schema_arrow
        names = [name for name in schema.names if only is None or name in only]
        try:
            for batch in opened.iter_batches(_BATCH_ROWS, [part.row_group], columns=names):
                yield _chunk(pa.table(batch), part.first + done)
                done += batch.num_rows
        except _DAMAGE as error:
            if is_of_storage(error):
                raise
        # Some damage makes no error: the reader then ends early.
        if done < part.rows:
            rest = _salvaged(opened, part, names, done)
            problems = dict.fromkeys(range(rest.num_rows), "the file is damaged here")
            yield Chunk(rest, _numbers(part.first + done, rest), problems)


def read_arrow(part: Part, only: Sequence[str] | None) -> Iterator[Chunk]:
    """The rows of one Arrow file; see read_parquet."""
    done = part.first
    with _arrow(part.file) as (_, batches):
        for batch in batches:
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                rows = pa.table(batch.slice(start, _BATCH_ROWS))
                names = [name for name in rows.column_names if only is None or name in only]
                yield _chunk(rows.select(names), done + start)
            done += batch.num_rows


def _salvaged(opened: pq.ParquetFile, part: Part, names: Sequence[str], start: int) -> pa.Table:
    """The rows behind a damaged page, as far as each column goes; without any pictures."""
    rows = part.rows - start
    columns = {}
    for name in _without_pictures(opened.schema_arrow, names):
        found: list[pa.RecordBatch] = []
        try:
            # What extend has read before an error stays in the list.
            found.extend(opened.iter_batches(_BATCH_ROWS, [part.row_group], columns=[name]))
        except _DAMAGE as error:
            if is_of_storage(error):
                raise
        if found:
            read = pa.Table.from_batches(found).slice(start, rows)
            missing = pa.nulls(rows - read.num_rows, read.schema.field(0).type)
            columns[read.column_names[0]] = pa.chunked_array([*read.column(0).chunks, missing])
    return pa.table(columns) if columns else pa.table({"": pa.nulls(rows)}).select([])


def _without_pictures(schema: pa.Schema, names: Sequence[str]) -> Iterator[str]:
    """The columns without bytes in them, and the other fields of structs with some."""
    for name in names:
        type_ = schema.field(name).type
        if not _holds_bytes(type_):
            yield name
        elif pa.types.is_struct(type_):
            yield from (f"{name}.{f.name}" for f in type_ if not _holds_bytes(f.type))


def _holds_bytes(type_: pa.DataType) -> bool:
    if is_list(type_):
        return _holds_bytes(type_.value_type)
    if pa.types.is_struct(type_):
        return any(_holds_bytes(field.type) for field in type_)
    return is_binary(type_) and not pa.types.is_null(type_)


@contextmanager
def _arrow(file: InputFile) -> Iterator[tuple[pa.Schema, _Batches]]:
    """Schema and batches of either kind of Arrow file; a local one is mapped, not read."""
    with pa.memory_map(file.path()) if file.is_local else file.open() as stream:
        is_file = stream.read(len(_ARROW_FILE_MAGIC)) == _ARROW_FILE_MAGIC
        stream.seek(0)
        if is_file:
            opened = pa.ipc.open_file(stream)
            yield opened.schema, map(opened.get_batch, range(opened.num_record_batches))
        else:
            reader = pa.ipc.open_stream(stream)
            yield reader.schema, iter(reader)


@contextmanager
def _refused(file: InputFile, kind: str) -> Iterator[None]:
    try:
        yield
    except SglError:
        raise
    except _DAMAGE as error:
        if is_of_storage(error):
            raise
        raise ConfigurationError(
            f"input.path: {file.name} is no {kind} file, or a damaged one"
        ) from error


def _chunk(table: pa.Table, first: int) -> Chunk:
    return Chunk(table.replace_schema_metadata(), _numbers(first, table))


def _numbers(first: int, table: pa.Table) -> range:
    return range(first, first + table.num_rows)


def _once(schema: pa.Schema, file: InputFile) -> pa.Schema:
    if twice := sorted({name for name in schema.names if schema.names.count(name) > 1}):
        raise ConfigurationError(f"input.path: {file.name} has column '{twice[0]}' twice")
    for type_ in schema.types:
        plain(type_)  # reads the names within it, too
    return schema.remove_metadata()


def _footer(stream: pa.NativeFile) -> bytes:
    """A file's metadata as they are, which another content would hardly repeat.

    Not by way of pyarrow's objects for columns: a damaged footer ends the process in there.
    """
    end = stream.size() - 8
    stream.seek(end)
    start = end - int.from_bytes(stream.read(4), "little")
    stream.seek(start)
    return stream.read(end - start)


def _digest(*parts: bytes) -> str:
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).hexdigest()
