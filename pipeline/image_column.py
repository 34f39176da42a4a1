"""The column of pictures: bytes, references or both, one or several of a record."""

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.drift import conform, is_binary, is_list, is_text, list_array
from pipeline.schema import IMAGE_REFERENCE


def is_image(type_: pa.DataType) -> bool:
    """Whether a column of this type can hold pictures or references to them."""
    if is_list(type_):
        return not is_list(type_.value_type) and is_image(type_.value_type)
    if not pa.types.is_struct(type_):
        return is_text(type_) or is_binary(type_)
    fields = {field.name: field.type for field in type_}
    data, path = fields.get("bytes", pa.null()), fields.get("path", pa.null())
    return bool({"bytes", "path"} & set(fields)) and is_binary(data) and is_text(path)


def embeds_pictures(type_: pa.DataType) -> bool:
    """Whether an image column of this type holds pictures, not only references to them."""
    if is_list(type_):
        return embeds_pictures(type_.value_type)
    if pa.types.is_struct(type_):
        return any(f.name == "bytes" and not pa.types.is_null(f.type) for f in type_)
    return is_binary(type_) and not pa.types.is_null(type_)


def references(values: pa.Array | None, base: str, rows: int) -> pa.Array:
    """Lists of references; one that stands alone is a list of one."""
    if values is None:
        return pa.nulls(rows, pa.list_(IMAGE_REFERENCE))
    if is_list(values.type):
        return list_array(_each_reference(pc.list_flatten(values), base), values)
    offsets = pa.array(range(rows + 1), pa.int32())
    return pa.ListArray.from_arrays(offsets, _each_reference(values, base))


def _each_reference(values: pa.Array, base: str) -> pa.Array:
    rows = len(values)
    parts: dict[str, pa.Array] = {}
    if pa.types.is_struct(values.type):
        names = (field.name for field in values.type)
        parts = dict(zip(names, values.flatten(), strict=True))
    else:
        parts["path" if is_text(values.type) else "bytes"] = values
    data, uri = parts.get("bytes", pa.nulls(rows)), parts.get("path", pa.nulls(rows))
    return pa.StructArray.from_arrays(
        [
            pc.cast(data, pa.large_binary()),
            # A name that became null would be no image, which a record may lack; so it is kept, and
            # is a file that is not found.
            valid_text(conform(uri, pa.string()), escape=True),
            pa.array([base] * rows, pa.string()),
        ],
        fields=list(IMAGE_REFERENCE),
        mask=pc.is_null(values),
    )


def valid_text(text: pa.Array, escape: bool = False) -> pa.Array:
    """Text that is no UTF-8 becomes null, or has its bad bytes escaped."""
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        raw = text.cast(pa.binary()).to_pylist()
        return pa.array([_decoded(data, escape) for data in raw], pa.string())
    return text


def _decoded(raw: bytes | None, escape: bool) -> str | None:
    try:
        return (
            None if raw is None else raw.decode(errors="backslashreplace" if escape else "strict")
        )
    except UnicodeDecodeError:
        return None
