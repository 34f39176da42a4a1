"""What a record of a text format says, checked cell by cell: one bad cell costs one record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.config import ColumnsConfig, InputConfig
from pipeline.files import Chunk, InputFile
from sgl.errors import ConfigurationError

_MOST_TOKENS = 2**31 - 1
_REFERENCES = pa.list_(pa.struct([("path", pa.string())]))
_TEXTS = pa.list_(pa.string())


class BadCellError(ValueError):
    """A cell is not what its column means."""


@dataclass(frozen=True)
class Row:
    """One place of a text file where a record should be.

    Attributes:
        number: of the line, or the record, within its file.
        record: by the user's column names; a text says why there is none.
        problem: why a record that is there cannot be answered; it keeps its id.
    """

    number: int
    record: Mapping[str, Any] | str
    problem: str | None = None


def chunk_of(rows: Sequence[Row], config: InputConfig, file: InputFile) -> Chunk:
    """Rows as a table; a row that is no record, or has a bad cell, keeps its place with a problem.

    Raises:
        ConfigurationError: a column that is only carried holds values of several types.
    """
    records: list[Mapping[str, Any]] = []
    problems: dict[int, str] = {}
    for place, row in enumerate(rows):
        if isinstance(row.record, str):
            problems[place] = row.record
            records.append({})
        else:
            records.append(row.record)
        if row.problem is not None:
            problems[place] = row.problem
    names = dict.fromkeys(name for record in records for name in record)
    checks = _checks(config.columns, records)
    arrays = {}
    for name in names:
        values = [record.get(name) for record in records]
        if name in checks:
            check, type_ = checks[name]
            values = _checked(values, check, name, problems)
            arrays[name] = pa.array(values, type_)
        elif name in config.drop:
            arrays[name] = pa.nulls(len(values))
        else:
            arrays[name] = _inferred(values, name, file)
    table = pa.table(arrays) if arrays else empty_table(len(rows))
    return Chunk(table, [row.number for row in rows], problems)


def empty_table(rows: int) -> pa.Table:
    """Rows without columns."""
    return pa.table({"": pa.nulls(rows)}).select([])


_Check = Callable[[Any], Any]


def _checks(
    columns: ColumnsConfig, records: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[_Check, pa.DataType]]:
    checks: dict[str, tuple[_Check, pa.DataType]] = {
        columns.id: (identifier, pa.string()),
        columns.question: (_text, pa.string()),
        columns.image: (_references, _REFERENCES),
        columns.max_new_tokens: (token_limit, pa.int64()),
    }
    if all(isinstance(record.get(columns.image), str | None) for record in records):
        # Most manifests hold a plain path in every line; this halves the time to read them.
        checks[columns.image] = (_text, pa.string())
    # Accepted answers only score; where they are no texts, the column is merely carried.
    if all(_are_texts(record.get(columns.answers)) for record in records):
        checks[columns.answers] = (_texts, _TEXTS)
    return checks


def _checked(
    values: Sequence[Any], check: _Check, name: str, problems: dict[int, str]
) -> list[Any]:
    """The values, null where one is bad; what is wrong with it goes to the problems."""
    good = []
    for place, value in enumerate(values):
        try:
            good.append(None if value is None else check(value))
        except BadCellError as error:
            good.append(None)
            problems.setdefault(place, f"'{name}' {error}")
    return good


def _inferred(values: Sequence[Any], name: str, file: InputFile) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"input: column '{name}' of {file.name} holds values of several types, or too large "
            "ones; mend it, or leave it out with input.drop"
        ) from error


def identifier(value: Any) -> str:
    """A text or an integer, as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise BadCellError(f"is {_kind(value)}, not a text or an integer")


def token_limit(value: Any) -> int:
    """An integer, or a text of one."""
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError as error:
        raise BadCellError("is no integer") from error
    if not isinstance(number, int) or isinstance(number, bool):
        raise BadCellError(f"is {_kind(value)}, not an integer")
    if abs(number) > _MOST_TOKENS:
        raise BadCellError("is too large")
    return number


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadCellError(f"is {_kind(value)}, not a text")
    return value


def _references(value: Any) -> list[dict[str, str | None] | None]:
    """A path, Hugging Face's object with a path, or a list of either."""
    many = value if isinstance(value, list) else [value]
    return [None if one is None else {"path": _reference(one)} for one in many]


def _reference(value: Any) -> str | None:
    if isinstance(value, dict):
        if value.get("bytes") is not None:
            raise BadCellError("holds bytes, which a text file cannot; write a path or a data: URI")
        value = value.get("path")
    if value is not None and not isinstance(value, str):
        raise BadCellError(f"is {_kind(value)}, not a path")
    return value


def _texts(value: str | list[str | None]) -> list[str | None]:
    return [value] if isinstance(value, str) else value


def _are_texts(value: Any) -> bool:
    if isinstance(value, list):
        return all(one is None or isinstance(one, str) for one in value)
    return value is None or isinstance(value, str)


def _kind(value: Any) -> str:
    """In the words of JSON."""
    kinds = {bool: "true or false", dict: "an object", list: "a list", int: "a number"}
    return kinds.get(type(value), "a number" if isinstance(value, float) else "something else")
