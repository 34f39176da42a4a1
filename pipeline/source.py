"""The input: its files found, its columns understood, its ids checked; no Ray."""

import posixpath
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa

from infra.failures import may_pass
from infra.s3 import DEFAULT, StorageConfig, patiently
from infra.storage import rooted_files
from pipeline.carried import carried_columns
from pipeline.config import InputConfig
from pipeline.draw import Draw, Lowest, hashes_of
from pipeline.files import InputFile, Part
from pipeline.formats import TYPED, format_of, inspect, read_chunks
from pipeline.ids import Spill, named_by
from pipeline.image_column import embeds_pictures
from pipeline.input_columns import check_names, with_answers, with_image_folder
from pipeline.made_ids import Place
from pipeline.records import Shape, shape_of
from pipeline.references import without_secrets
from pipeline.schema import READ
from sgl.errors import ConfigurationError

_NAMED_DUPLICATES = 5
_SHOWN_ID = 80


@dataclass(frozen=True)
class Source:
    """A checked input.

    Attributes:
        parts: in order.
        file_format: one of the values of pipeline.formats.SUFFIXES.
        shape: from the input's columns to the reader's.
        config: what it was opened with.
        storage: how S3 is reached.
        draw: of the records, where only a sample is wanted.
    """

    parts: tuple[Part, ...]
    file_format: str
    shape: Shape
    config: InputConfig
    storage: StorageConfig = DEFAULT
    draw: Draw | None = None

    @property
    def rows(self) -> int:
        """Records, limit and draw applied."""
        return self.draw.records if self.draw else sum(part.take for part in self.parts)

    @property
    def requests(self) -> bool:
        """Whether all of it is requests in OpenAI's batch format."""
        return all(part.requests for part in self.parts if part.rows)

    @property
    def carried(self) -> tuple[str, ...]:
        """Input columns that go into the output untouched."""
        return tuple(self.carried_schema.names)

    @property
    def carried_schema(self) -> pa.Schema:
        """Likewise, with their types, by the output's names."""
        return pa.schema(list(self.shape.schema)[len(READ) :])

    def tables(self, part: Part, only: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows of one part, in the reader's schema.

        Args:
            part: to read.
            only: columns of the input that suffice; see pipeline.formats.read_chunks.

        Raises:
            ConfigurationError: the part holds fewer rows than when the input was opened.
            OSError: the storage fails.
        """
        place = Place(part.file, self.config.image_root, part.content)
        left = part.take
        types = self.shape.carried
        read = partial(read_chunks, part, self.file_format, self.config, types, only)
        for chunk in patiently(read, self.storage):
            if left <= 0:
                return
            taken = chunk.first(left)
            left -= taken.table.num_rows
            table = self.shape.apply(taken, place)
            yield table.filter(pa.array(self.draw.chosen(table["id"]))) if self.draw else table
        if left > 0:
            raise ConfigurationError(
                f"input.path: {part.file.name} had {part.take} records when the job began and has "
                f"{left} fewer now; leave an input as it is while a job reads it"
            )


def open_source(config: InputConfig, storage: StorageConfig = DEFAULT) -> Source:
    """Find the input's files and columns; no picture is read.

    Args:
        config: the input.
        storage: how S3 is reached.

    Raises:
        ConfigurationError: nothing is there, or its columns cannot be used.
    """
    root, files = _found(config, storage)
    file_format, chosen = format_of(files, config.format)
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
    config = with_answers(with_image_folder(config, schemas), schemas)
    check_names(config, schemas, file_format)
    carried = carried_columns(schemas, config, typed=file_format in TYPED)
    shape = shape_of(schemas, carried, config.columns, config.options)
    referred = _files_of_references(schemas, config.columns.image)
    parts = [replace(p, content=None) if p.file.name in referred else p for p in parts]
    limited = tuple(_limited(parts, config.limit))
    return Source(limited, file_format, shape, config, storage)


def drawn(source: Source) -> Source:
    """The sample of an input that its settings ask for; all of it where they ask for none."""
    config = source.config
    if config.sample is None:
        return source
    lowest = Lowest(config.sample)
    for ids in read_ids(source):
        lowest.add(hashes_of(ids, config.sample_seed))
    return replace(source, draw=lowest.draw(config.sample_seed))


def read_ids(source: Source) -> Iterator[pa.ChunkedArray]:
    """The ids, text, in the input's order; only what they are made of is read, never a picture."""
    for part in source.parts:
        for table in source.tables(part, id_columns(source, part)):
            yield table["id"]


def check_ids(source: Source, into: Spill) -> None:
    """Refuse duplicate ids: the checkpoint would silently skip all but the first.

    Memory does not grow with the input: what occurs twice is told by hashes on the disk, and its
    names are read again.

    Args:
        source: the input.
        into: empty; holds every id afterwards.

    Raises:
        ConfigurationError: names some offenders.
    """
    for ids in read_ids(source):
        into.add(ids)
    count, some = into.repeated(_NAMED_DUPLICATES)
    if not count:
        return
    times = Counter(named_by(some, read_ids(source)))
    twice = [name for name, number in times.items() if number > 1]
    if not twice:  # other ids that share a hash, of which no input has more than one or two pairs
        return
    named = ", ".join(map(_printable, twice))
    remedy = "give each record its own"
    if not source.shape.given_ids:
        remedy = (
            "these are hashes of image and question, so the same question about the same "
            "image stands there twice; remove it, or add an id column"
        )
    raise ConfigurationError(
        f"input.columns.id: {count:,} ids occur more than once: {named}; {remedy}"
    )


def _printable(name: str) -> str:
    """An id that a terminal can be shown."""
    shown = name if name.isprintable() else repr(name)
    return shown[:_SHOWN_ID]


def id_columns(source: Source, part: Part) -> tuple[str, ...]:
    """Columns of the input that a part's ids are made of."""
    columns = source.config.columns
    if source.shape.given_ids:
        return (columns.id,)
    return (columns.question,) if part.content else (columns.image, columns.question)


def _inspect(
    file: InputFile, file_format: str, config: InputConfig
) -> tuple[pa.Schema, list[Part]]:
    return next(patiently(lambda: [inspect(file, file_format, config)], file.storage))


def _found(config: InputConfig, storage: StorageConfig) -> tuple[str, list[str]]:
    """The folder that the names of files are below, and the files."""
    where = without_secrets(config.path)
    try:
        return rooted_files(config.path, storage)
    except FileNotFoundError as error:
        raise ConfigurationError(f"input.path: nothing to read at {where}") from error
    except OSError as error:
        why = "its storage does not answer as it should; try again, or see storage"
        if not may_pass(error):
            why = "it may not be read, or is of a kind that cannot be; check who may read it"
        raise ConfigurationError(f"input.path: {where} cannot be reached: {why}") from error
    except ValueError as error:
        why = "write a path, or a URI of s3, file, gs or abfs without credentials or parameters"
        raise ConfigurationError(f"input.path: {where} is no place to read from; {why}") from error


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
    # A name on the disk may hold what a URI would have to escape.
    return f"{scheme}://{path}" if found and scheme != "file" else path
