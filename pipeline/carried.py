"""Columns that mean nothing here and go into the output: their types over all files."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cells import REFERENCES, TEXTS
from pipeline.config import ColumnsConfig, InputConfig
from pipeline.drift import common, storable
from pipeline.records import answers_type
from sgl.errors import ConfigurationError


def carried_columns(
    schemas: Sequence[tuple[str, pa.Schema]], config: InputConfig, *, typed: bool
) -> pa.Schema:
    """All columns that mean nothing here, and the answers, in types that hold every file's.

    Args:
        schemas: of every file, with its name.
        config: the user's column names, and what is dropped.
        typed: whether the files themselves say their types; else what they hold has a type only by
            what it looks like, and what looks different becomes text.

    Raises:
        ConfigurationError: two typed files have types without a common one, or Parquet cannot store
            one.
    """
    columns = config.columns
    own = {columns.id, columns.image, columns.question, columns.max_new_tokens, *config.drop}
    found: dict[str, tuple[str, pa.DataType]] = {}
    for file, schema in schemas:
        for field in schema:
            if field.name in own:
                continue
            type_ = field.type
            if field.name == columns.answers:
                type_ = answers_type(type_, options=bool(config.options))
            first, before = found.get(field.name, (file, type_))
            both = common(before, type_, numbers=not typed)
            if both is None and not typed:
                both = TEXTS if field.name == columns.answers else pa.string()
            if both is None:
                raise ConfigurationError(
                    f"input.path: its files disagree about column '{field.name}': {first} holds "
                    f"{before} and {file} {type_}; mend it, or leave it out with input.drop"
                )
            found[field.name] = (first, both)
    carried = pa.schema([(name, storable(type_)) for name, (_, type_) in found.items()])
    for field in carried:
        _check_stored(field)
    return carried


def joined(schemas: Sequence[pa.Schema], columns: ColumnsConfig) -> pa.Schema:
    """One schema for the pieces of a text file, whose types are what their cells look like.

    Args:
        schemas: of its pieces, as pipeline.cells.chunk_of finds them.
        columns: the user's names.
    """
    names = {name for schema in schemas for name in schema.names}
    otherwise = {columns.image: REFERENCES, columns.answers_among(names): TEXTS}
    types: dict[str, pa.DataType] = {}
    for field in (field for schema in schemas for field in schema):
        both = common(types.get(field.name, field.type), field.type, numbers=True)
        types[field.name] = otherwise.get(field.name, pa.string()) if both is None else both
    return pa.schema(list(types.items()))


def check_unchanged(before: pa.Schema, now: pa.Schema) -> None:
    """Refuse to go on with an output whose rows have other types than the ones to come.

    Types of text formats are what their cells look like, and change with the input.

    Args:
        before: the carried columns of the rows that are there (`Source.carried_schema`).
        now: of those to come.

    Raises:
        ConfigurationError: names the first column that differs.
    """
    types = {field.name: field.type for field in before}
    for field in now:
        known = types.get(field.name, field.type)
        if not field.type.equals(known):
            raise ConfigurationError(
                f"input.path: column '{field.name}' holds {field.type} now, and {known} in the "
                "rows of output.path; leave it out with input.drop, or write another output.path"
            )


def _check_stored(field: pa.Field) -> None:
    """Refuse what the writer would refuse after the models have done their work."""
    try:
        rows = pa.table([pa.nulls(1, field.type)], schema=pa.schema([field]))
        pq.write_table(rows, pa.BufferOutputStream())
    except (pa.ArrowException, OSError) as error:
        raise ConfigurationError(
            f"input: column '{field.name}' holds {field.type}, which Parquet cannot store; "
            "leave it out with input.drop"
        ) from error
