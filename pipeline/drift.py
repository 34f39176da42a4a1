"""Types that differ between the files of one input: brought together where nothing is lost."""

import pyarrow as pa
import pyarrow.compute as pc


def is_text(type_: pa.DataType) -> bool:
    """Strings of any layout, or nothing but nulls."""
    plain_type = plain(type_)
    return bool(pa.types.is_string(plain_type) or pa.types.is_null(plain_type))


def is_binary(type_: pa.DataType) -> bool:
    """Bytes of any layout, or nothing but nulls."""
    plain_type = plain(type_)
    return bool(pa.types.is_binary(plain_type) or pa.types.is_null(plain_type))


def is_list(type_: pa.DataType) -> bool:
    """Lists of any layout."""
    return bool(pa.types.is_list(plain(type_)))


def plain(type_: pa.DataType) -> pa.DataType:
    """The type without what is layout only: dictionaries, 64-bit offsets, views, fixed sizes."""
    t = pa.types
    if t.is_dictionary(type_):
        return plain(type_.value_type)
    if t.is_large_string(type_) or t.is_string_view(type_):
        return pa.string()
    if t.is_large_binary(type_) or t.is_binary_view(type_) or t.is_fixed_size_binary(type_):
        return pa.binary()
    if t.is_list(type_) or t.is_large_list(type_) or t.is_fixed_size_list(type_):
        return pa.list_(plain(type_.value_type))
    if t.is_struct(type_):
        return pa.struct([pa.field(f.name, plain(f.type)) for f in type_])
    return type_


def common(left: pa.DataType, right: pa.DataType, *, numbers: bool = False) -> pa.DataType | None:
    """The narrowest type that holds every value of both; None where there is none.

    Args:
        left: of some values.
        right: of others.
        numbers: integers and floats are one kind, as in JSON; integers of more than 53 bits are
            then values that the type may not hold.
    """
    if left.equals(right):
        return left
    return _common(plain(left), plain(right), numbers)


def _common(left: pa.DataType, right: pa.DataType, numbers: bool) -> pa.DataType | None:
    t = pa.types
    if left.equals(right) or t.is_null(right):
        return left
    if t.is_null(left):
        return right
    if t.is_list(left) and t.is_list(right):
        inner = _common(left.value_type, right.value_type, numbers)
        return None if inner is None else pa.list_(inner)
    if t.is_struct(left) and t.is_struct(right):
        return _common_struct(left, right, numbers)
    if t.is_timestamp(left) and t.is_timestamp(right):
        return max(left, right, key=_fineness) if left.tz == right.tz else None
    kinds = (_number_kind(left, numbers), _number_kind(right, numbers))
    return _promoted(left, right) if kinds[0] is not None and kinds[0] == kinds[1] else None


def _fineness(type_: pa.TimestampType) -> int:
    return ("s", "ms", "us", "ns").index(type_.unit)


def _number_kind(type_: pa.DataType, numbers: bool) -> str | None:
    if pa.types.is_integer(type_):
        return "number" if numbers else "integer"
    if pa.types.is_floating(type_):
        return "number" if numbers else "float"
    return None


def _common_struct(left: pa.StructType, right: pa.StructType, numbers: bool) -> pa.DataType | None:
    types = {field.name: field.type for field in left}
    for field in right:
        found = _common(types.get(field.name, pa.null()), field.type, numbers)
        if found is None:
            return None
        types[field.name] = found
    return pa.struct(list(types.items()))


def _promoted(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    # uint64 beside a signed type has no common integer; Arrow would take one that overflows.
    if pa.uint64() in (left, right) and not (
        pa.types.is_unsigned_integer(left) and pa.types.is_unsigned_integer(right)
    ):
        return None
    schemas = [pa.schema([("value", type_)]) for type_ in (left, right)]
    return pa.unify_schemas(schemas, promote_options="permissive").field("value").type


def storable(type_: pa.DataType) -> pa.DataType:
    """The type with nulls for structs without fields ("{}" in JSON), which Parquet cannot store."""
    return _without_empty(plain(type_)) if _has_empty(type_) else type_


def _has_empty(type_: pa.DataType) -> bool:
    if is_list(type_):
        return _has_empty(type_.value_type)
    if pa.types.is_struct(type_):
        return type_.num_fields == 0 or any(_has_empty(field.type) for field in type_)
    return False


def _without_empty(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_list(type_):
        return pa.list_(_without_empty(type_.value_type))
    if pa.types.is_struct(type_):
        fields = [(field.name, _without_empty(field.type)) for field in type_]
        return pa.struct(fields) if fields else pa.null()
    return type_


def conform(values: pa.Array, type_: pa.DataType) -> pa.Array:
    """Values in a type that `common` or `storable` has found for them.

    Raises:
        ArrowInvalid: the type does not hold them.
    """
    if values.type.equals(type_):
        return values
    if pa.types.is_null(values.type) or pa.types.is_null(type_):
        return pa.nulls(len(values), type_)
    if pa.types.is_struct(type_) and pa.types.is_struct(values.type):
        return _conform_struct(values, type_)
    if pa.types.is_list(type_) and is_list(values.type):
        return _conform_list(values, type_)
    return pc.cast(values, type_)


def _conform_struct(values: pa.StructArray, type_: pa.StructType) -> pa.Array:
    # flatten, not field: it heeds the offset of a slice and the nulls of the struct itself.
    parts = dict(zip((f.name for f in values.type), values.flatten(), strict=True))
    empty = pa.nulls(len(values))
    fields = [conform(parts.get(f.name, empty), f.type) for f in type_]
    return pa.StructArray.from_arrays(fields, fields=list(type_), mask=pc.is_null(values))


def _conform_list(values: pa.Array, type_: pa.ListType) -> pa.Array:
    return list_array(conform(pc.list_flatten(values), type_.value_type), values)


def list_array(items: pa.Array, like: pa.Array) -> pa.Array:
    """Items in lists of the lengths, and with the nulls, of another array's lists."""
    lengths = pc.fill_null(pc.cast(pc.list_value_length(like), pa.int64()), 0)
    ends = pc.cast(pc.cumulative_sum(lengths), pa.int32())
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    return pa.ListArray.from_arrays(offsets, items, mask=pc.is_null(like))
