"""CSV and TSV, line by line: a bad line costs one record, and no quote swallows others."""

import csv
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from pipeline.cells import BadCellError, empty_table, token_limit
from pipeline.config import ColumnsConfig
from pipeline.files import Chunk, InputFile
from sgl.errors import ConfigurationError

# Python's own limit for a field, 128 KiB, is less than a long question.
csv.field_size_limit(2**31 - 1)


def read_csv(data: bytes, columns: ColumnsConfig, file: InputFile) -> Chunk:
    """All records of a CSV file with a header line.

    Its lines are checked here; the good ones are parsed by Arrow, which also finds the types of
    columns that are only carried.

    Raises:
        ConfigurationError: the header cannot be read; names the file.
    """
    lines = data.split(b"\n")
    header = fields_of(lines[0])
    if not isinstance(header, list):
        raise ConfigurationError(f"input.path: the first line of {file.name} is no CSV header")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ConfigurationError(f"input.path: {file.name} has column '{twice[0]}' twice")
    numbers: list[int] = []
    problems: dict[int, str] = {}
    good = [lines[0]]
    for number, text, problem in records_of(lines, len(header)):
        if problem is None:
            good.append(text)
        else:
            problems[len(numbers)] = problem
        numbers.append(number)
    table = _parsed(b"\n".join(good), columns, header)
    if table.num_rows != len(numbers) - len(problems):
        raise ConfigurationError(f"input.path: the rows of {file.name} cannot be told apart")
    return _with_limits(Chunk(_spread(table, problems), numbers, problems), columns)


def records_of(
    lines: Sequence[bytes], width: int, delimiter: str = ",", start: int = 1
) -> Iterator[tuple[int, bytes, str | None]]:
    """Line number, text and problem of every record behind the header.

    A quoted field may hold newlines, so that a record may have several lines. Where these are no
    record together, the quote was a stray one: the first is judged alone, and the next ones anew.

    Args:
        lines: of the file.
        width: fields of the header.
        delimiter: between fields.
        start: the line to begin with, where a record begins.
    """
    while start < len(lines):
        end = _end_of_quotes(lines, start)
        text = b"\n".join(lines[start:end])
        problem = _problem(text, width, delimiter)
        if problem is not None and end > start + 1:
            text, end = lines[start], start + 1
            problem = _problem(text, width, delimiter)
        if text.rstrip(b"\r"):
            yield start + 1, text, problem
        start = end


def _end_of_quotes(lines: Sequence[bytes], start: int) -> int:
    """The line behind the one that closes what the line at `start` opens, if any does."""
    if lines[start].count(b'"') % 2 == 0:
        return start + 1
    closing = (n for n in range(start + 1, len(lines)) if lines[n].count(b'"') % 2)
    return next(closing, start) + 1


def _problem(text: bytes, width: int, delimiter: str) -> str | None:
    fields = fields_of(text, delimiter)
    if isinstance(fields, str):
        return fields
    return None if len(fields) == width else f"has {len(fields)} fields, and the header {width}"


def fields_of(text: bytes, delimiter: str = ",") -> list[str] | str:
    """The fields of one record, or what is wrong with it."""
    try:
        record = text.decode().rstrip("\r")
        if '"' not in record and "\r" not in record:
            # The same, much faster, for the megabyte of base64 that a field may be.
            return record.split(delimiter) if record else []
        # One text for a record of several lines: its newlines stand within quotes.
        return next(csv.reader([record], delimiter=delimiter, strict=True), [""])
    except UnicodeDecodeError:
        return "no valid UTF-8"
    except csv.Error:
        return "not CSV: a quote is not closed, or stands where none may"


def _parsed(data: bytes, columns: ColumnsConfig, header: Sequence[str]) -> pa.Table:
    # Identifiers and questions stay text even where all of them look like numbers ("007").
    answers = columns.answers_among(header)
    text = (columns.id, columns.image, columns.question, answers, columns.max_new_tokens)
    if b"\n" not in data:
        return empty_table(0)
    return pa_csv.read_csv(
        pa.BufferReader(data + b"\n"),
        read_options=pa_csv.ReadOptions(block_size=max(len(data) + 1, 1 << 20)),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in text if name in header},
            # Only an empty field is null: "NA", "null" and "N/A" are ids and answers.
            null_values=[""],
            strings_can_be_null=True,
        ),
    )


def _spread(table: pa.Table, problems: dict[int, str]) -> pa.Table:
    """The table with a row of nulls at every problem."""
    rows = table.num_rows + len(problems)
    if not table.num_columns:
        return empty_table(rows)
    good = iter(range(table.num_rows))
    places = [None if row in problems else next(good) for row in range(rows)]
    return table.take(pa.array(places, pa.int64()))


def _with_limits(chunk: Chunk, columns: ColumnsConfig) -> Chunk:
    """Token limits as integers; one that is none is its record's problem."""
    index = chunk.table.schema.get_field_index(columns.max_new_tokens)
    if index < 0:
        return chunk
    problems, limits = dict(chunk.problems), []
    for row, text in enumerate(chunk.table.column(index).to_pylist()):
        limit, problem = _limit(text)
        limits.append(limit)
        if problem is not None:
            problems.setdefault(row, f"'{columns.max_new_tokens}' {problem}")
    values = pa.array(limits, pa.int64())
    table = chunk.table.set_column(index, columns.max_new_tokens, values)
    return Chunk(table, chunk.numbers, problems)


def _limit(text: Any) -> tuple[int | None, str | None]:
    try:
        return None if text is None else token_limit(text), None
    except BadCellError as error:
        return None, str(error)
