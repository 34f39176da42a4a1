"""CSV and TSV, line by line: a line that is no record costs one record.

A quote that is never closed swallows no others. One that a later line happens to close, so that the
lines between are one legal record of the right width, is what CSV says it is: one record.
"""

import csv
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv as pa_csv

from pipeline.cells import PIECE_BYTES, BadCellError, empty_table, in_pieces, token_limit
from pipeline.config import ColumnsConfig
from pipeline.files import Chunk, InputFile
from sgl.errors import ConfigurationError

# Python's own limit for a field, 128 KiB, is less than a long question.
csv.field_size_limit(2**31 - 1)


def read_csv(stream: BinaryIO, columns: ColumnsConfig, file: InputFile) -> Iterator[Chunk]:
    """All records of a CSV file with a header line, in tables of bounded size.

    Its lines are checked here; the good ones are parsed by Arrow. Every cell is text, as it stands
    there: nothing in the file tells a number from a code ("00501") or a date from a word.

    Raises:
        ConfigurationError: the header cannot be read; names the file.
    """
    first = stream.readline().removesuffix(b"\n")
    header = fields_of(first)
    if not isinstance(header, list):
        raise ConfigurationError(f"input.path: the first line of {file.name} is no CSV header")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ConfigurationError(f"input.path: {file.name} has column '{twice[0]}' twice")
    for rows in in_pieces((len(row.text), row) for row in records_of(stream, len(header))):
        good = [first, *(row.text for row in rows if row.problem is None)]
        problems = {place: row.problem for place, row in enumerate(rows) if row.problem is not None}
        table = _parsed(b"\n".join(good), header)
        if table.num_rows != len(rows) - len(problems):
            raise ConfigurationError(f"input.path: the rows of {file.name} cannot be told apart")
        numbers = [row.number for row in rows]
        yield _with_limits(Chunk(_spread(table, problems), numbers, problems), columns)


@dataclass(frozen=True)
class TextRecord:
    """One record's lines.

    Attributes:
        number: of its first line.
        start: its first byte, counted from the end of the header line.
        text: without the last newline.
        problem: why it is no record.
    """

    number: int
    start: int
    text: bytes
    problem: str | None


class _Lines:
    """Lines of a stream, of which those that were looked at stay until they are taken."""

    def __init__(self, stream: Iterator[bytes]) -> None:
        self._stream = stream
        self._held: list[bytes] = []
        self._start = 0

    def at(self, offset: int) -> bytes | None:
        """The line so far behind the next one; None behind the last."""
        while len(self._held) - self._start <= offset:
            line = next(self._stream, None)
            if line is None:
                return None
            self._held.append(line.removesuffix(b"\n"))
        return self._held[self._start + offset]

    def take(self, count: int) -> bytes:
        """The next lines, as one text."""
        end = self._start + count
        taken = b"\n".join(self._held[self._start : end])
        self._start = end
        if 2 * end > len(self._held):
            del self._held[:end]
            self._start = 0
        return taken

    def put_back(self, lines: Sequence[bytes]) -> None:
        """Lines that were taken and are not wanted."""
        self._held[self._start : self._start] = lines


def records_of(stream: Iterator[bytes], width: int, delimiter: str = ",") -> Iterator[TextRecord]:
    """Every record behind the header.

    A quoted field may hold newlines, so that a record may have several lines. Where these are no
    record together, the quote was a stray one: the first is judged alone, and the next ones anew.

    Args:
        stream: the lines behind the header, each with its newline.
        width: fields of the header.
        delimiter: between fields.
    """
    lines = _Lines(stream)
    number, start = 2, 0
    while lines.at(0) is not None:
        count = _to_end_of_quotes(lines)
        text = lines.take(count)
        problem = _problem(text, width, delimiter)
        if problem is not None and count > 1:
            text, *rest = text.split(b"\n")
            lines.put_back(rest)
            count, problem = 1, _problem(text, width, delimiter)
        if text.rstrip(b"\r"):
            yield TextRecord(number, start, text, problem)
        number += count
        start += len(text) + 1


def _to_end_of_quotes(lines: _Lines) -> int:
    """Lines up to the one that closes what the next one opens; 1 if none of the same piece does."""
    held = 0
    for count in itertools.count():
        line = lines.at(count)
        if line is None or held > PIECE_BYTES:
            return 1
        held += len(line)
        if (line.count(b'"') % 2 == 0) == (count == 0):
            return count + 1
    raise AssertionError("a file ends")


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


def _parsed(data: bytes, header: Sequence[str]) -> pa.Table:
    if b"\n" not in data:
        return empty_table(0)
    return pa_csv.read_csv(
        pa.BufferReader(data + b"\n"),
        read_options=pa_csv.ReadOptions(block_size=max(len(data) + 1, 1 << 20)),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in header},
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
