"""Columns that mean nothing here and go into the output: their types over all files."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import InputConfig
from pipeline.drift import common, storable
from pipeline.records import answers_type
from sgl.errors import ConfigurationError


def carried_columns(schemas: Sequence[tuple[str, pa.Schema]], config: InputConfig) -> pa.Schema:
    """All columns that mean nothing here, and the answers, in types that hold every file's.

    Args:
        schemas: of every file, with its name.
        config: the user's column names, and what is dropped.

    Raises:
        ConfigurationError: two files have types without a common one, or Parquet cannot store it.
    """
    columns = config.columns
    own = {columns.id, columns.image, columns.question, columns.max_new_tokens, *config.drop}
    found: dict[str, tuple[str, pa.DataType]] = {}
    for file, schema in schemas:
        for field in schema:
            if field.name in own:
                continue
            type_ = answers_type(field.type) if field.name == columns.answers else field.type
            first, before = found.get(field.name, (file, type_))
            both = common(before, type_)
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
