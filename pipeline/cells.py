"""What a record of a text format says, checked cell by cell: one bad cell costs one record."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa

from pipeline.config import InputConfig
from pipeline.drift import conform
from pipeline.files import Chunk

Item = TypeVar("Item")
_MOST_TOKENS = 2**31 - 1
PIECE_BYTES = 64 << 20
REFERENCES = pa.list_(pa.struct([("path", pa.string())]))
"""Of pictures, where a record has several."""
TEXTS = pa.list_(pa.string())
ANSWER = "answer"
"""Within an object that is an accepted answer, its text."""
_UNFIT = (pa.ArrowException, OverflowError, ValueError, TypeError)
"""What pyarrow raises for values that a type does not hold, or that have no common one."""


class BadCellError(ValueError):
    """A cell is not what its column means."""


@dataclass(frozen=True)
class Row:
    """One place of a text file where a record should be.

    Attributes:
        number: of the line, or the record, within its file.
        record: by the user's column names; a text says why there is none.
        problem: why a record that is there cannot be answered; it keeps its id.
        conversation: what it asks beyond its question; see pipeline.conversation.
    """

    number: int
    record: Mapping[str, Any] | str
    problem: str | None = None
    conversation: str | None = None


def in_pieces(sized: Iterable[tuple[int, Item]]) -> Iterator[list[Item]]:
    """Items in lists of bounded size, so that no column of text outgrows what Arrow can hold.

    Args:
        sized: each with its number of bytes.
    """
    piece: list[Item] = []
    held = 0
    for size, item in sized:
        piece.append(item)
        held += size
        if held >= PIECE_BYTES:
            yield piece
            piece, held = [], 0
    if piece:
        yield piece


def chunk_of(rows: Sequence[Row], config: InputConfig, types: pa.Schema | None = None) -> Chunk:
    """Rows as a table; a row that is no record, or has a bad cell, keeps its place with a problem.

    Args:
        rows: neighbours.
        config: the user's column names.
        types: of the columns that are only carried, where they are known; others are left out.
            None finds types that hold the cells of these rows.
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
    checks = _checks(config, records, types)
    arrays = {}
    for name in names:
        values = [record.get(name) for record in records]
        if name in checks:
            check, type_ = checks[name]
            values = _checked(values, check, name, problems)
            arrays[name] = pa.array(values, type_)
        elif name in config.drop:
            arrays[name] = pa.nulls(len(values))
        elif types is None:
            arrays[name] = _inferred(values)
        elif name in types.names:
            arrays[name] = _carried(values, types.field(name), problems)
    table = pa.table(arrays) if arrays else empty_table(len(rows))
    beyond = {i: row.conversation for i, row in enumerate(rows) if row.conversation is not None}
    return Chunk(table, [row.number for row in rows], problems, beyond)


def empty_table(rows: int) -> pa.Table:
    """Rows without columns."""
    return pa.table({"": pa.nulls(rows)}).select([])


_Check = Callable[[Any], Any]


def _checks(
    config: InputConfig, records: Sequence[Mapping[str, Any]], types: pa.Schema | None
) -> dict[str, tuple[_Check, pa.DataType]]:
    columns = config.columns
    # Options are read whether they are carried or not; a list of them is its JSON.
    checks: dict[str, tuple[_Check, pa.DataType]] = {
        name: (_as_text, pa.string()) for name in config.options
    }
    checks |= {
        columns.id: (identifier, pa.string()),
        columns.question: (_text, pa.string()),
        columns.image: (_references, REFERENCES),
        columns.max_new_tokens: (token_limit, pa.int64()),
    }
    if all(isinstance(record.get(columns.image), str | None) for record in records):
        # Most manifests hold a plain path in every line; this halves the time to read them.
        checks[columns.image] = (_text, pa.string())
    # Accepted answers only score; where they are no texts, the column is merely carried.
    if types is None:
        known = all(_are_texts(record.get(columns.answers)) for record in records)
    else:
        known = columns.answers in types.names and types.field(columns.answers).type == TEXTS
    if known:
        checks[columns.answers] = (_texts, TEXTS)
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


def _inferred(values: Sequence[Any]) -> pa.Array:
    """In the type that holds all; where none does, as text."""
    try:
        return pa.array(values)
    except _UNFIT:
        return pa.array([_as_text(value) for value in values], pa.string())


def _carried(values: Sequence[Any], field: pa.Field, problems: dict[int, str]) -> pa.Array:
    """Values in the column's type; what it does not hold is null, and its record's problem."""
    if pa.types.is_string(field.type):
        return pa.array([_as_text(value) for value in values], field.type)
    try:
        return _fitted(values, field.type)
    except _UNFIT:
        pass
    cells = []
    for place, value in enumerate(values):
        try:
            cells.append(_fitted([value], field.type))
        except _UNFIT:
            cells.append(pa.nulls(1, field.type))
            problems.setdefault(place, f"'{field.name}' does not fit {field.type}, as others do")
    return pa.concat_arrays(cells)


def _fitted(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    try:
        return pa.array(values, type_)
    except _UNFIT:
        # An object without entries is stored as null, which pyarrow does not make of it.
        return conform(pa.array(values), type_)


def _as_text(value: Any) -> str | None:
    """A text as it is, anything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


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


def _texts(value: Any) -> list[str | None]:
    """One text or a list of texts; numbers are as good."""
    return [_answer(one) for one in (value if isinstance(value, list) else [value])]


def _answer(value: Any) -> str | None:
    """A text or a number, as text; likewise within an object, as VQAv2 has it."""
    if isinstance(value, dict) and ANSWER in value:
        value = value[ANSWER]
    if isinstance(value, dict | list | bool):
        raise BadCellError(f"is or holds {_kind(value)}, not a text")
    return _as_text(value)


def _are_texts(value: Any) -> bool:
    if isinstance(value, list):
        return all(one is None or isinstance(one, str) for one in value)
    return value is None or isinstance(value, str)


def _kind(value: Any) -> str:
    """In the words of JSON."""
    kinds = {bool: "true or false", dict: "an object", list: "a list", int: "a number"}
    return kinds.get(type(value), "a number" if isinstance(value, float) else "something else")
