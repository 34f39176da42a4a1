"""From the user's columns to the reader's: one shape for every input format."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.cells import ANSWER, TEXTS
from pipeline.config import ColumnsConfig
from pipeline.drift import conform, is_list, is_text, list_array, plain
from pipeline.files import Chunk
from pipeline.image_column import is_image, references, valid_text
from pipeline.made_ids import Place, hashed_ids
from pipeline.multiple_choice import OPTIONS, asked, options_in, right_answer
from pipeline.schema import READ, RESERVED
from sgl.errors import ConfigurationError

_NO_ID = "the record has no id"


@dataclass(frozen=True)
class Shape:
    """How the tables of one input become READ tables.

    Attributes:
        columns: the user's names.
        schema: of the result, carried columns included.
        given_ids: whether the input has ids; else they are made, see pipeline.made_ids.
        options: columns of the answer options; see InputConfig.
    """

    columns: ColumnsConfig
    schema: pa.Schema
    given_ids: bool
    options: tuple[str, ...] = ()

    @property
    def carried(self) -> pa.Schema:
        """The columns that are only carried, and the answers, by the user's names."""
        names = {"answers": self.columns.answers}
        fields = list(self.schema)[len(READ) :]
        return pa.schema([f.with_name(names.get(f.name, f.name)) for f in fields])

    def apply(self, chunk: Chunk, place: Place) -> pa.Table:
        """Some records in the reader's shape.

        Args:
            chunk: with the user's columns; those that the schema lacks are dropped.
            place: where they come from.
        """
        table, rows = chunk.table, chunk.table.num_rows
        data = dict(zip(table.column_names, map(_flat, table.columns), strict=True))
        c = self.columns
        question = _text(data.get(c.question), rows)
        image = references(data.get(c.image), place.base, rows)
        ids, problems = self._ids(chunk, place, data.get(c.id), image, question)
        options = self._options(data)
        carried = {
            field.name: _carried(data.get(field.name, pa.nulls(rows)), field, problems)
            for field in list(self.schema)[len(READ) :]
            if field.name != "answers" and (field.name != OPTIONS or options is None)
        }
        own = {
            "id": ids,
            # Ids are of the bare question: the options are not read to make them.
            "question": question if options is None else _asked(question, options),
            "image": image,
            "max_new_tokens": _limits(data.get(c.max_new_tokens), rows),
            "read_error": pa.array([problems.get(row) for row in range(rows)], pa.string()),
            "conversation_json": pa.array(map(chunk.conversations.get, range(rows)), pa.string()),
        }
        arrays = []
        for field in self.schema:
            if field.name in own:
                arrays.append(own[field.name])
            elif field.name == "answers":
                arrays.append(_answers(data.get(c.answers), field.type, rows, options))
            elif field.name == OPTIONS and options is not None:
                arrays.append(pa.array([texts or None for texts in options], field.type))
            else:
                arrays.append(carried[field.name])
        return pa.table(arrays, schema=self.schema)

    def _options(self, data: Mapping[str, pa.Array]) -> list[list[str]] | None:
        """The options of every record; None where the input has none, or they were not read."""
        found = [data[name] for name in self.options if name in data]
        if not found:
            return None
        # Some records of a text file need not have the last ones' columns.
        none = pa.nulls(len(found[0]))
        cells = zip(*(data.get(name, none).to_pylist() for name in self.options), strict=True)
        return [options_in(of_record) for of_record in cells]

    def _ids(
        self,
        chunk: Chunk,
        place: Place,
        given: pa.Array | None,
        image: pa.Array,
        question: pa.Array,
    ) -> tuple[pa.Array, dict[int, str]]:
        """An id for every record, and why some of the records cannot be read."""
        problems = dict(chunk.problems)
        if not self.given_ids:
            return hashed_ids(place, chunk.numbers, image, question), problems
        ids = _text(given, chunk.table.num_rows).to_pylist()
        for row, name in enumerate(ids):
            if not name:
                ids[row] = place.file.label(chunk.numbers[row])
                problems.setdefault(row, _NO_ID)
        return pa.array(ids, pa.string()), problems


def shape_of(
    schemas: Sequence[tuple[str, pa.Schema]],
    carried: pa.Schema,
    columns: ColumnsConfig,
    options: tuple[str, ...] = (),
) -> Shape:
    """Check an input's columns and plan its way into the reader's schema.

    Args:
        schemas: of every file, with its name.
        carried: all columns of the input that mean nothing here, and the answers.
        columns: the user's names.
        options: columns of the answer options.

    Raises:
        ConfigurationError: question or image is missing, a column is of an unusable type, or a
            carried column has the name of an output column.
    """
    for file, schema in schemas:
        _check_types(file, schema, columns)
    others = [f for f in carried if f.name != columns.answers and options != (f.name,)]
    taken = RESERVED | {"answers"} | ({OPTIONS} if options else set())
    clashes = sorted(f.name for f in others if f.name in taken)
    if clashes:
        raise ConfigurationError(
            f"input: {', '.join(clashes)}: an output column has this name; "
            "leave it out with input.drop, or tell what it is with input.columns"
        )
    fields = list(READ)
    fields += [pa.field("answers", f.type) for f in carried if f.name == columns.answers]
    fields += [pa.field(OPTIONS, TEXTS)] if options else []
    final = pa.schema(fields + [f.remove_metadata() for f in others])
    given_ids = any(columns.id in s.names for _, s in schemas)
    return Shape(columns, final, given_ids, options)


def _check_types(file: str, schema: pa.Schema, columns: ColumnsConfig) -> None:
    kinds = {
        "id": (_is_id, "text or integers"),
        "image": (is_image, "bytes, text, a struct of both, or a list of these"),
        "question": (is_text, "text"),
        "max_new_tokens": (_is_count, "integers"),
    }
    for role, (accepted, wanted) in kinds.items():
        name = getattr(columns, role)
        if name in schema.names and not accepted(schema.field(name).type):
            raise ConfigurationError(
                f"input.columns.{role}: column '{name}' of {file} holds "
                f"{schema.field(name).type}; it must hold {wanted}"
            )


def _is_id(type_: pa.DataType) -> bool:
    return is_text(type_) or bool(pa.types.is_integer(plain(type_)))


def _is_count(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_null(type_))


def _text(values: pa.Array | None, rows: int) -> pa.Array:
    return (
        pa.nulls(rows, pa.string()) if values is None else valid_text(conform(values, pa.string()))
    )


def _carried(values: pa.Array, field: pa.Field, problems: dict[int, str]) -> pa.Array:
    """Values in the column's type; what it does not hold is null, and its record's problem."""
    try:
        return conform(values, field.type)
    except pa.ArrowInvalid:
        pass
    cells = []
    for place in range(len(values)):
        try:
            cells.append(conform(values.slice(place, 1), field.type))
        except pa.ArrowInvalid:
            cells.append(pa.nulls(1, field.type))
            problems.setdefault(place, f"'{field.name}' does not fit {field.type}, as others do")
    return pa.concat_arrays(cells)


def _limits(values: pa.Array | None, rows: int) -> pa.Array:
    if values is None:
        return pa.nulls(rows, pa.int64())
    # Not safe: what overflows turns negative, and the fetch stage refuses it in its row.
    return pc.cast(values, pa.int64(), safe=False)


def answers_type(type_: pa.DataType, *, options: bool = False) -> pa.DataType:
    """Of the output's column: lists of text where the answers are text, else as it is.

    Args:
        type_: of the input's column: texts, or lists of texts or of structs with a text `answer`
            (VQAv2).
        options: whether the questions have options, so that an integer is the number of one.
    """
    one = type_.value_type if is_list(type_) else type_
    if pa.types.is_struct(one):
        one = next((field.type for field in one if field.name == ANSWER), one)
    numbered = options and pa.types.is_integer(one)
    return TEXTS if is_text(one) or numbered else type_


def _answers(
    values: pa.Array | None,
    type_: pa.DataType,
    rows: int,
    options: Sequence[Sequence[str]] | None,
) -> pa.Array:
    """One text becomes a list of one; other types stay as they are and are not scored."""
    if values is None or pa.types.is_null(values.type):
        return pa.nulls(rows, type_)
    if not type_.equals(TEXTS):
        return conform(values, type_)
    if is_list(values.type):
        texts = list_array(_answer_texts(pc.list_flatten(values)), values)
    else:
        offsets = pa.array(range(rows + 1), pa.int32())
        mask = pc.is_null(values)
        texts = pa.ListArray.from_arrays(offsets, _answer_texts(values), mask=mask)
    if options is None:
        return texts
    right = (
        None if row is None else [right_answer(text, of_row) for text in row]
        for row, of_row in zip(texts.to_pylist(), options, strict=True)
    )
    return pa.array(right, TEXTS)


def _answer_texts(values: pa.Array) -> pa.Array:
    if pa.types.is_struct(values.type):
        names = [field.name for field in values.type]
        values = values.flatten()[names.index(ANSWER)]
    return _text(values, len(values))


def _asked(question: pa.Array, options: Sequence[Sequence[str]]) -> pa.Array:
    return pa.array(map(asked, question.to_pylist(), options), pa.string())


def _flat(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
