"""Input files of any accepted format, as Arrow tables with the user's own columns.

Text manifests are read whole: they hold references, not pictures. Parquet is read by row group.
"""

import json
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from infra.s3 import DEFAULT, StorageConfig
from infra.storage import locate, read_bytes
from pipeline.config import ColumnsConfig
from sgl.errors import ConfigurationError

SUFFIXES = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".json": "llava",
}
_IMAGE_PLACEHOLDER = "<image>"
_PARQUET_BATCH_ROWS = 64


def format_of(files: Sequence[str], wanted: str) -> tuple[str, list[str]]:
    """The format of an input and those of its files that have it.

    Raises:
        ConfigurationError: none of the files can be read, or they are of several formats.
    """
    if wanted != "auto":
        chosen = [f for f in files if SUFFIXES.get(_suffix(f)) == wanted]
        return wanted, chosen or list(files)
    formats = {SUFFIXES[_suffix(f)] for f in files if _suffix(f) in SUFFIXES}
    if len(formats) > 1:
        raise ConfigurationError(
            f"input.path: holds files of several formats ({', '.join(sorted(formats))}); "
            "name the file, or write input.format"
        )
    if not formats:
        raise ConfigurationError(
            f"input.path: no file that can be read; accepted are {', '.join(SUFFIXES)}"
        )
    return formats.pop(), [f for f in files if _suffix(f) in SUFFIXES]


def read_tables(
    uri: str,
    file_format: str,
    columns: ColumnsConfig,
    *,
    only: Sequence[str] | None = None,
    row_groups: Sequence[int] | None = None,
    storage: StorageConfig = DEFAULT,
) -> Iterator[pa.Table]:
    """The rows of one file, in order, in tables of bounded size where the format allows it.

    Args:
        uri: of the file.
        file_format: one of the values of SUFFIXES.
        columns: the user's names, needed where a format has none or infers types.
        only: columns that suffice; those the file lacks are passed over.
        row_groups: of a Parquet file; None means all.
        storage: how S3 is reached.

    Raises:
        ConfigurationError: the file is not what its format says; names the file.
    """
    try:
        if file_format == "parquet":
            yield from _read_parquet(uri, only, row_groups, storage)
            return
        table = _READERS[file_format](read_bytes(uri, storage), columns)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        name = posixpath.basename(uri)
        raise ConfigurationError(
            f"input.path: {name} cannot be read as {file_format}: {error}"
        ) from error
    if only is not None:
        table = table.select([name for name in table.column_names if name in only])
    yield table


def parquet_layout(uri: str, storage: StorageConfig = DEFAULT) -> tuple[pa.Schema, list[int]]:
    """Schema and rows per row group, from the footer alone.

    Raises:
        ConfigurationError: this is no Parquet file.
    """
    filesystem, path = locate(uri, storage)
    try:
        with pq.ParquetFile(path, filesystem=filesystem) as file:
            groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            return file.schema_arrow.remove_metadata(), groups
    except pa.ArrowInvalid as error:
        name = posixpath.basename(uri)
        raise ConfigurationError(f"input.path: {name} is no Parquet file: {error}") from error


def _read_parquet(
    uri: str,
    only: Sequence[str] | None,
    row_groups: Sequence[int] | None,
    storage: StorageConfig,
) -> Iterator[pa.Table]:
    filesystem, path = locate(uri, storage)
    with pq.ParquetFile(path, filesystem=filesystem) as file:
        names = file.schema_arrow.names
        chosen = names if only is None else [name for name in names if name in only]
        groups = list(range(file.num_row_groups)) if row_groups is None else list(row_groups)
        for batch in file.iter_batches(_PARQUET_BATCH_ROWS, row_groups=groups, columns=chosen):
            yield pa.Table.from_batches([batch]).replace_schema_metadata()


def _read_jsonl(data: bytes, columns: ColumnsConfig) -> pa.Table:
    # Not splitlines: it also splits at characters that JSON allows within a string.
    lines = data.decode("utf-8-sig").split("\n")
    return _from_records(
        [_object(line, number) for number, line in enumerate(lines, 1) if line.strip()], columns
    )


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"input.path: line {number} is not JSON: {error.msg}") from error
    if not isinstance(record, dict):
        raise ConfigurationError(f"input.path: line {number} is not a JSON object")
    return cast("dict[str, Any]", record)


def _read_csv(data: bytes, columns: ColumnsConfig) -> pa.Table:
    # Identifiers and questions stay text even where all of them look like numbers ("007").
    names = (columns.id, columns.image, columns.question, columns.answers)
    return pa_csv.read_csv(
        pa.BufferReader(data),
        read_options=pa_csv.ReadOptions(block_size=max(len(data), 1 << 20)),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            # Only an empty field is null: "NA", "null" and "N/A" are ids and answers.
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _read_llava(data: bytes, columns: ColumnsConfig) -> pa.Table:
    records = json.loads(data)
    if not isinstance(records, list):
        raise ConfigurationError("input.path: a LLaVA file is a JSON list of records")
    return _from_records([_flatten(record, columns) for record in records], columns)


def _flatten(record: dict[str, Any], columns: ColumnsConfig) -> dict[str, Any]:
    """The first human turn becomes the question, the first gpt turn the accepted answer."""
    turns = record.get("conversations") or []
    human = next((t.get("value") for t in turns if t.get("from") == "human"), None)
    reply = next((t.get("value") for t in turns if t.get("from") == "gpt"), None)
    flat = {key: value for key, value in record.items() if key != "conversations"}
    if human is not None:
        flat.setdefault(columns.question, human.replace(_IMAGE_PLACEHOLDER, "").strip())
    if reply is not None:
        flat.setdefault(columns.answers, [reply])
    return flat


def _from_records(records: Sequence[dict[str, Any]], columns: ColumnsConfig) -> pa.Table:
    names = list(dict.fromkeys(name for record in records for name in record))
    as_text = (columns.id, columns.question)
    arrays = {}
    for name in names:
        values: Iterable[Any] = (record.get(name) for record in records)
        if name in as_text:
            values = (value if value is None else str(value) for value in values)
        try:
            arrays[name] = pa.array(list(values))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ConfigurationError(
                f"input: column '{name}' holds values of several types: {error}"
            ) from error
    return pa.table(arrays)


def _suffix(path: str) -> str:
    return posixpath.splitext(path)[1].lower()


_READERS = {"jsonl": _read_jsonl, "csv": _read_csv, "llava": _read_llava}
