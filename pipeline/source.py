"""The input: its files found, its columns understood, its ids checked; no Ray."""

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from infra.s3 import DEFAULT, StorageConfig, patiently
from infra.storage import list_files
from pipeline.config import InputConfig
from pipeline.formats import format_of, parquet_layout, read_tables
from pipeline.records import Shape, shape_of
from sgl.errors import ConfigurationError

_NAMED_DUPLICATES = 5


@dataclass(frozen=True)
class Part:
    """What one read task can read on its own: a file, or one row group of a Parquet file.

    Attributes:
        uri: of the file.
        rows: how many rows it holds.
        row_groups: of a Parquet file; None for other formats.
        take: only its first rows, where the input is limited.
    """

    uri: str
    rows: int
    row_groups: tuple[int, ...] | None
    take: int


@dataclass(frozen=True)
class Source:
    """A checked input.

    Attributes:
        parts: in order.
        file_format: parquet, jsonl, csv or llava.
        shape: from the input's columns to the reader's.
        image_root: folder of relative references; None means each file's own folder.
        storage: how S3 is reached.
    """

    parts: tuple[Part, ...]
    file_format: str
    shape: Shape
    image_root: str | None
    storage: StorageConfig = DEFAULT

    @property
    def rows(self) -> int:
        """Records, the limit applied."""
        return sum(part.take for part in self.parts)

    @property
    def carried(self) -> tuple[str, ...]:
        """Input columns that go into the output untouched."""
        return tuple(self.shape.schema.names[4:])

    def tables(self, part: Part, only: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows of one part, in the reader's schema."""
        base = self.image_root or posixpath.dirname(part.uri)
        left = part.take
        read = partial(
            read_tables,
            part.uri,
            self.file_format,
            self.shape.columns,
            only=only,
            row_groups=part.row_groups,
            storage=self.storage,
        )
        for table in patiently(read, self.storage):
            if left <= 0:
                return
            taken = table.slice(0, left)
            left -= taken.num_rows
            yield self.shape.apply(taken, base)


def open_source(config: InputConfig, storage: StorageConfig = DEFAULT) -> Source:
    """Find the input's files and columns; only Parquet footers and text manifests are read.

    Args:
        config: the input.
        storage: how S3 is reached.

    Raises:
        ConfigurationError: nothing is there, or its columns cannot be used.
    """
    try:
        files = list_files(config.path, storage)
    except (FileNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(f"input.path: nothing to read at {config.path}") from error
    file_format, chosen = format_of(files, config.format)
    schemas, parts = [], []
    for file in chosen:
        uri = _with_scheme(config.path, file)
        schema, found = _inspect(uri, file_format, config, storage)
        schemas.append(schema)
        parts += found
    if not any(part.rows for part in parts):
        raise ConfigurationError(f"input.path: no records in {config.path}")
    shape = shape_of(_unified(schemas), config.columns, config.drop)
    limited = tuple(_limited(parts, config.limit))
    return Source(limited, file_format, shape, config.image_root, storage)


def check_ids(source: Source) -> pa.ChunkedArray:
    """Refuse null and duplicate ids: the checkpoint would silently skip all but the first.

    Only the id column is read where there is one, else what its hash is made of.

    Returns:
        The ids, text, in the input's order.

    Raises:
        ConfigurationError: names the first offenders.
    """
    columns = source.shape.columns
    given = source.shape.given_ids
    wanted = [columns.id] if given else [columns.image, columns.question]
    tables = (t for part in source.parts for t in source.tables(part, wanted))
    ids = pa.chunked_array([t["id"].combine_chunks() for t in tables], pa.string())
    if ids.null_count:
        raise ConfigurationError(
            f"input.columns.id: {ids.null_count} records have no id; give each its own"
        )
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        named = ", ".join(twice[:_NAMED_DUPLICATES].to_pylist())
        remedy = "give each record its own"
        if not given:
            remedy = (
                "these are hashes of image and question, so the same question about the same "
                "image stands there twice; remove it, or add an id column"
            )
        raise ConfigurationError(
            f"input.columns.id: {len(twice)} ids occur more than once: {named}; {remedy}"
        )
    return ids


def _inspect(
    uri: str, file_format: str, config: InputConfig, storage: StorageConfig
) -> tuple[pa.Schema, list[Part]]:
    if file_format == "parquet":
        schema, groups = parquet_layout(uri, storage)
        return schema, [Part(uri, rows, (i,), rows) for i, rows in enumerate(groups)]
    table = next(read_tables(uri, file_format, config.columns, storage=storage))
    return table.schema, [Part(uri, table.num_rows, None, table.num_rows)]


def _unified(schemas: Sequence[pa.Schema]) -> pa.Schema:
    try:
        return pa.unify_schemas(schemas, promote_options="default")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ConfigurationError(
            f"input.path: its files disagree about a column's type: {error}"
        ) from error


def _limited(parts: Sequence[Part], limit: int | None) -> Iterator[Part]:
    left = sum(part.rows for part in parts) if limit is None else limit
    for part in parts:
        if left > 0:
            yield replace(part, take=min(part.rows, left))
        left -= part.rows


def _with_scheme(given: str, path: str) -> str:
    scheme, found, _ = given.partition("://")
    return f"{scheme}://{path}" if found else path
