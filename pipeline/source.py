"""The input: its files found, its columns understood, its ids checked; no Ray."""

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from infra.s3 import DEFAULT, StorageConfig, patiently
from infra.storage import list_files, locate
from pipeline.config import ColumnsConfig, InputConfig
from pipeline.drift import common
from pipeline.files import InputFile, Part
from pipeline.formats import format_of, inspect, read_chunks
from pipeline.made_ids import Place
from pipeline.records import Shape, answers_type, embeds_pictures, shape_of
from pipeline.references import without_secrets
from pipeline.schema import READ
from sgl.errors import ConfigurationError

_NAMED_DUPLICATES = 5
_SHOWN_ID = 80
_GLOB = frozenset("*?[")
_FILE_NAME = "file_name"
_DEFAULT_NAMES = ColumnsConfig()
_FIXED_COLUMNS = ("parquet", "arrow")
"""Formats whose files have the same columns in every row."""


@dataclass(frozen=True)
class Source:
    """A checked input.

    Attributes:
        parts: in order.
        file_format: one of the values of pipeline.formats.SUFFIXES.
        shape: from the input's columns to the reader's.
        config: what it was opened with.
        storage: how S3 is reached.
    """

    parts: tuple[Part, ...]
    file_format: str
    shape: Shape
    config: InputConfig
    storage: StorageConfig = DEFAULT

    @property
    def rows(self) -> int:
        """Records, the limit applied."""
        return sum(part.take for part in self.parts)

    @property
    def carried(self) -> tuple[str, ...]:
        """Input columns that go into the output untouched."""
        return tuple(self.shape.schema.names[len(READ) :])

    def tables(self, part: Part, only: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows of one part, in the reader's schema.

        Args:
            part: to read.
            only: columns of the input that suffice; see pipeline.formats.read_chunks.
        """
        place = Place(part.file, self.config.image_root, part.content)
        left = part.take
        read = partial(read_chunks, part, self.file_format, self.config, only)
        for chunk in patiently(read, self.storage):
            if left <= 0:
                return
            taken = chunk.first(left)
            left -= taken.table.num_rows
            yield self.shape.apply(taken, place)


def open_source(config: InputConfig, storage: StorageConfig = DEFAULT) -> Source:
    """Find the input's files and columns; no picture is read.

    Args:
        config: the input.
        storage: how S3 is reached.

    Raises:
        ConfigurationError: nothing is there, or its columns cannot be used.
    """
    try:
        files = list_files(config.path, storage)
    except (FileNotFoundError, ValueError, OSError) as error:
        where = without_secrets(config.path)
        raise ConfigurationError(f"input.path: nothing to read at {where}") from error
    file_format, chosen = format_of(files, config.format)
    root = _root(locate(config.path, storage)[1], files)
    schemas: list[tuple[str, pa.Schema]] = []
    parts: list[Part] = []
    for path in chosen:
        name = posixpath.relpath(path, root)
        file = InputFile(_with_scheme(config.path, path), name, storage)
        schema, found = _inspect(file, file_format, config)
        schemas.append((file.name, schema))
        parts += found
    if not any(part.rows for part in parts):
        raise ConfigurationError(f"input.path: no records in {without_secrets(config.path)}")
    config = _with_answers(_with_image_folder(config, schemas), schemas)
    _check_names(config, schemas, file_format)
    shape = shape_of(schemas, _carried(schemas, config), config.columns, config.options)
    referred = _files_of_references(schemas, config.columns.image)
    parts = [replace(p, content=None) if p.file.name in referred else p for p in parts]
    limited = tuple(_limited(parts, config.limit))
    return Source(limited, file_format, shape, config, storage)


def check_ids(source: Source) -> pa.ChunkedArray:
    """Refuse duplicate ids: the checkpoint would silently skip all but the first.

    Only what ids are made of is read, and never a picture.

    Returns:
        The ids, text, in the input's order.

    Raises:
        ConfigurationError: names the first offenders.
    """
    tables = (t for part in source.parts for t in source.tables(part, _needed(source, part)))
    ids = pa.chunked_array([t["id"].combine_chunks() for t in tables], pa.string())
    counts = pc.value_counts(ids)
    twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    if len(twice):
        named = ", ".join(name[:_SHOWN_ID] for name in twice[:_NAMED_DUPLICATES].to_pylist())
        remedy = "give each record its own"
        if not source.shape.given_ids:
            remedy = (
                "these are hashes of image and question, so the same question about the same "
                "image stands there twice; remove it, or add an id column"
            )
        raise ConfigurationError(
            f"input.columns.id: {len(twice)} ids occur more than once: {named}; {remedy}"
        )
    return ids


def _needed(source: Source, part: Part) -> tuple[str, ...]:
    columns = source.config.columns
    if source.shape.given_ids:
        return (columns.id,)
    return (columns.question,) if part.content else (columns.image, columns.question)


def _inspect(
    file: InputFile, file_format: str, config: InputConfig
) -> tuple[pa.Schema, list[Part]]:
    return next(patiently(lambda: [inspect(file, file_format, config)], file.storage))


def _root(located: str, files: Sequence[str]) -> str:
    """The folder that the names of files are below: the input's own, or its fixed part."""
    located = located.rstrip("/")
    if files == [located]:
        return posixpath.dirname(located)
    parts = located.split("/")
    fixed = next((i for i, part in enumerate(parts) if _GLOB & set(part)), len(parts))
    return "/".join(parts[:fixed]) or "/"


def _with_image_folder(
    config: InputConfig, schemas: Sequence[tuple[str, pa.Schema]]
) -> InputConfig:
    """Hugging Face's image folder: a manifest called metadata names its pictures `file_name`."""
    stems = {posixpath.splitext(posixpath.basename(file))[0] for file, _ in schemas}
    names = {name for _, schema in schemas for name in schema.names}
    if (
        stems != {"metadata"}
        or config.columns.image in names
        or "image" in _renamed(config.columns)
        or _FILE_NAME not in names
    ):
        return config
    columns = config.columns.model_copy(update={"image": _FILE_NAME})
    return config.model_copy(update={"columns": columns})


def _with_answers(config: InputConfig, schemas: Sequence[tuple[str, pa.Schema]]) -> InputConfig:
    """Datasets with one right answer call it `answer`, which would be an output column's name."""
    names = {name for _, schema in schemas for name in schema.names} - set(config.drop)
    answers = config.columns.answers_among(names)
    columns = config.columns.model_copy(update={"answers": answers})
    return config.model_copy(update={"columns": columns})


def _renamed(columns: ColumnsConfig) -> list[str]:
    """What the user has named otherwise; settings that were saved and read name everything."""
    return [role for role, name in columns if name != getattr(_DEFAULT_NAMES, role)]


def _check_names(
    config: InputConfig, schemas: Sequence[tuple[str, pa.Schema]], file_format: str
) -> None:
    """Refuse names that no file knows, and files of fixed columns that lack a needed one."""
    columns = config.columns
    known = {name for _, schema in schemas for name in schema.names}
    listed = ", ".join(sorted(known)) or "none"
    needed = ("question",) if config.text_only else ("question", "image")
    for role in (*needed, *_renamed(columns)):
        name = getattr(columns, role)
        if name not in known:
            waived = role == "image" and not config.text_only
            hint = "; input.text_only answers without one" if waived else ""
            raise ConfigurationError(
                f"input.columns.{role}: the input has no column '{name}'; it has {listed}{hint}"
            )
    for setting in ("drop", "options"):
        if unknown := [name for name in getattr(config, setting) if name not in known]:
            raise ConfigurationError(
                f"input.{setting}: the input has no column '{unknown[0]}'; it has {listed}"
            )
    if file_format not in _FIXED_COLUMNS:
        return
    for role in ("id", *needed):
        name = getattr(columns, role)
        lacking = [file for file, schema in schemas if name not in schema.names]
        if name in known and lacking:
            raise ConfigurationError(
                f"input.columns.{role}: {lacking[0]} has no column '{name}', which other files have"
            )


def _carried(schemas: Sequence[tuple[str, pa.Schema]], config: InputConfig) -> pa.Schema:
    """All columns that mean nothing here, and the answers, in types that hold every file's."""
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
            both = common(before, type_)
            if both is None:
                raise ConfigurationError(
                    f"input.path: its files disagree about column '{field.name}': {first} holds "
                    f"{before} and {file} {type_}; mend it, or leave it out with input.drop"
                )
            found[field.name] = (first, both)
    return pa.schema([(name, type_) for name, (_, type_) in found.items()])


def _files_of_references(schemas: Sequence[tuple[str, pa.Schema]], image: str) -> frozenset[str]:
    """Files that hold no pictures, only references to them."""
    return frozenset(
        file
        for file, schema in schemas
        if image not in schema.names or not embeds_pictures(schema.field(image).type)
    )


def _limited(parts: Sequence[Part], limit: int | None) -> Iterator[Part]:
    left = sum(part.rows for part in parts) if limit is None else limit
    for part in parts:
        if left > 0:
            yield replace(part, take=min(part.rows, left))
        left -= part.rows


def _with_scheme(given: str, path: str) -> str:
    scheme, found, _ = given.partition("://")
    return f"{scheme}://{path}" if found else path
