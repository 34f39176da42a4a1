"""From the user's columns to the reader's: one shape for every input format."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import ColumnsConfig
from pipeline.schema import IMAGE_REFERENCE, READ, RESERVED
from sgl.errors import ConfigurationError

_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_null)
_BINARY = (pa.types.is_binary, pa.types.is_large_binary)


@dataclass(frozen=True)
class Shape:
    """How the tables of one input become READ tables.

    Attributes:
        columns: the user's names.
        schema: of the result, carried columns included.
        given_ids: whether the input has ids; else they are hashes of image and question.
    """

    columns: ColumnsConfig
    schema: pa.Schema
    given_ids: bool

    def apply(self, table: pa.Table, base: str) -> pa.Table:
        """One input table in the reader's shape.

        Args:
            table: with the user's columns; those that the schema lacks are dropped.
            base: the folder of relative image references.
        """
        data = dict(zip(table.column_names, table.columns, strict=True))
        c, rows = self.columns, table.num_rows
        question = _text(data.get(c.question), rows)
        image = _references(data.get(c.image), base, rows)
        ids = _text(data.get(c.id), rows) if self.given_ids else hashed_ids(image, question)
        own = {
            "id": ids,
            "question": question,
            "image": image,
            "max_new_tokens": _or_null(data.get(c.max_new_tokens), pa.int64(), rows),
        }
        arrays = []
        for field in self.schema:
            if field.name in own:
                arrays.append(own[field.name])
            elif field.name == "answers":
                arrays.append(_answers(data.get(c.answers), field.type, rows))
            else:
                arrays.append(_or_null(data.get(field.name), field.type, rows))
        return pa.table(arrays, schema=self.schema)


def shape_of(schema: pa.Schema, columns: ColumnsConfig, drop: Sequence[str]) -> Shape:
    """Check an input's columns and plan its way into the reader's schema.

    Raises:
        ConfigurationError: question or image is missing, a column is of an unusable type, or a
            carried column has the name of an output column.
    """
    _check_types(schema, columns)
    meant = {columns.id, columns.image, columns.question, columns.max_new_tokens, columns.answers}
    carried = [f for f in schema if f.name not in meant and f.name not in drop]
    clashes = sorted(f.name for f in carried if f.name in RESERVED | {"answers"})
    if clashes:
        raise ConfigurationError(
            f"input: {', '.join(clashes)}: an output column has this name; "
            "leave it out with input.drop, or tell what it is with input.columns"
        )
    fields = list(READ)
    if columns.answers in schema.names and columns.answers not in drop:
        fields.append(pa.field("answers", _answers_type(schema.field(columns.answers).type)))
    final = pa.schema(fields + [f.remove_metadata() for f in carried])
    return Shape(columns, final, given_ids=columns.id in schema.names)


def hashed_ids(image: pa.Array, question: pa.Array) -> pa.Array:
    """32 hex digits per record over its image (bytes, else reference) and its question."""
    return pa.array(
        [
            _digest(reference, text)
            for reference, text in zip(image.to_pylist(), question.to_pylist(), strict=True)
        ],
        pa.string(),
    )


def _digest(reference: dict[str, Any] | None, question: str | None) -> str:
    digest = hashlib.blake2b(digest_size=16)
    image = reference or {}
    for part in (image.get("bytes"), image.get("uri"), question):
        data = part.encode() if isinstance(part, str) else part
        # Lengths, so that no text can take the place of its neighbour.
        digest.update(b"-" if data is None else b"%d:" % len(data))
        digest.update(data or b"")
    return digest.hexdigest()


def _check_types(schema: pa.Schema, columns: ColumnsConfig) -> None:
    for role in ("question", "image"):
        name = getattr(columns, role)
        if name not in schema.names:
            raise ConfigurationError(
                f"input.columns.{role}: the input has no column '{name}'; "
                f"it has {', '.join(schema.names) or 'none'}"
            )
    kinds = {
        "question": (schema.field(columns.question).type, _is_text, "text"),
        "image": (schema.field(columns.image).type, _is_image, "bytes, text or a struct of both"),
    }
    if columns.id in schema.names:
        kinds["id"] = (schema.field(columns.id).type, _is_id, "text or integers")
    if columns.max_new_tokens in schema.names:
        kinds["max_new_tokens"] = (schema.field(columns.max_new_tokens).type, _is_count, "integers")
    for role, (type_, accepted, wanted) in kinds.items():
        if not accepted(type_):
            raise ConfigurationError(
                f"input.columns.{role}: column '{getattr(columns, role)}' holds {type_}; "
                f"it must hold {wanted}"
            )


def _is_text(type_: pa.DataType) -> bool:
    return any(check(type_) for check in _TEXT)


def _is_id(type_: pa.DataType) -> bool:
    return _is_text(type_) or bool(pa.types.is_integer(type_))


def _is_count(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_null(type_))


def _is_image(type_: pa.DataType) -> bool:
    if pa.types.is_struct(type_):
        names = {field.name for field in type_}
        return bool(names) and names <= {"bytes", "path"}
    return _is_text(type_) or any(check(type_) for check in _BINARY)


def _text(column: pa.ChunkedArray | None, rows: int) -> pa.Array:
    return _valid(_or_null(column, pa.string(), rows))


def _valid(text: pa.Array) -> pa.Array:
    """Text that is no UTF-8 becomes null, and with it the record a failed row."""
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return pa.array([_decoded(raw) for raw in text.cast(pa.binary()).to_pylist()], pa.string())
    return text


def _decoded(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None


def _or_null(column: pa.ChunkedArray | None, type_: pa.DataType, rows: int) -> pa.Array:
    if column is None:
        return pa.nulls(rows, type_)
    return _flat(column if column.type == type_ else pc.cast(column, type_))


def _references(column: pa.ChunkedArray | None, base: str, rows: int) -> pa.Array:
    if column is None:
        return pa.nulls(rows, IMAGE_REFERENCE)
    flat = _flat(column)
    data, uri = None, None
    if pa.types.is_struct(flat.type):
        fields = {f.name: flat.field(i) for i, f in enumerate(flat.type)}
        data, uri = fields.get("bytes"), fields.get("path")
    elif any(check(flat.type) for check in _BINARY):
        data = flat
    else:
        uri = flat
    return pa.StructArray.from_arrays(
        [
            pa.nulls(rows, pa.large_binary()) if data is None else pc.cast(data, pa.large_binary()),
            pa.nulls(rows, pa.string()) if uri is None else _valid(pc.cast(uri, pa.string())),
            pa.array([base] * rows, pa.string()),
        ],
        fields=list(IMAGE_REFERENCE),
        mask=pc.is_null(flat),
    )


def _answers_type(type_: pa.DataType) -> pa.DataType:
    return pa.list_(pa.string()) if _is_text(type_) or _is_text_list(type_) else type_


def _is_text_list(type_: pa.DataType) -> bool:
    is_list = pa.types.is_list(type_) or pa.types.is_large_list(type_)
    return is_list and _is_text(type_.value_type)


def _answers(column: pa.ChunkedArray | None, type_: pa.DataType, rows: int) -> pa.Array:
    """One text becomes a list of one; other types stay as they are and are not scored."""
    if column is not None and _is_text(column.type) and pa.types.is_list(type_):
        values = [None if value is None else [value] for value in column.to_pylist()]
        return pa.array(values, type_)
    return _or_null(column, type_, rows)


def _flat(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        combined = column.combine_chunks()
        return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
    return column
