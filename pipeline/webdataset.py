"""WebDataset shards: tar files whose members share a key, read as a stream.

A sample is a run of neighbouring members with one key, the name up to its first dot. What follows
the dot tells what a member is: a picture (several make a list), `.json` (an object whose entries
become columns), `.txt` and `.cls` (columns of these names). Anything else is passed over. The id of
a sample is its shard and its key.
"""

import io
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipeline.cells import Row, chunk_of
from pipeline.config import InputConfig
from pipeline.files import Chunk, InputFile
from pipeline.manifests import parse_object
from sgl.errors import ConfigurationError

_PICTURES = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"})
_BLOCK = 512
_BUFFER_BYTES = 1 << 18
_CHUNK_ROWS = 64
_CHUNK_BYTES = 64 << 20
_END = "(end)"


@dataclass
class _Sample:
    """One key's members, while they come in."""

    key: str
    cells: dict[str, Any] = field(default_factory=dict)
    pictures: list[bytes] = field(default_factory=list)
    problem: str | None = None


def read_samples(
    file: InputFile, config: InputConfig, types: pa.Schema | None = None, *, pictures: bool
) -> Iterator[Chunk]:
    """The samples of one shard, in order.

    A shard that is damaged has a failed record in the place of what cannot be found.

    Args:
        file: the tar.
        config: the user's column names, and the most bytes of a member.
        types: of the columns that are only carried; see pipeline.cells.chunk_of.
        pictures: read them, in tables of bounded size; else all are null, in one table.

    Raises:
        ConfigurationError: this is no tar file at all; names it.
        OSError: the storage fails.
    """
    waiting: list[_Sample] = []
    first = held = 0
    for sample in _samples(file, config.max_image_bytes, pictures):
        waiting.append(sample)
        held += sum(map(len, sample.pictures))
        if pictures and (len(waiting) == _CHUNK_ROWS or held >= _CHUNK_BYTES):
            yield _chunk(waiting, first, config, file, types)
            first, held, waiting = first + len(waiting), 0, []
    if waiting or not first:
        yield _chunk(waiting, first, config, file, types)


def _chunk(
    samples: list[_Sample],
    first: int,
    config: InputConfig,
    file: InputFile,
    types: pa.Schema | None,
) -> Chunk:
    stem = posixpath.splitext(file.name)[0]
    columns = config.columns
    own = (columns.id, columns.image)
    rows = [
        Row(first + place, {k: v for k, v in sample.cells.items() if k not in own})
        for place, sample in enumerate(samples)
    ]
    chunk = chunk_of(rows, config, types)
    ids = pa.array([f"{stem}/{sample.key}" for sample in samples], pa.string())
    images = pa.array([sample.pictures or None for sample in samples], pa.list_(pa.large_binary()))
    table = chunk.table.append_column(columns.id, ids).append_column(columns.image, images)
    broken = {place: s.problem for place, s in enumerate(samples) if s.problem is not None}
    return Chunk(table, chunk.numbers, {**chunk.problems, **broken})


def _samples(file: InputFile, max_bytes: int, pictures: bool) -> Iterator[_Sample]:
    sample: _Sample | None = None
    with file.open() as raw, io.BufferedReader(raw, _BUFFER_BYTES) as stream:
        size = raw.size()
        try:
            for tar, member in _members(stream, file):
                key, kind = _split(member.name)
                if not member.isfile() or not key:
                    continue
                if sample is None or key != sample.key:
                    if sample is not None:
                        yield sample
                    sample = _Sample(key)
                if member.offset_data + member.size > size and not member.issparse():
                    sample.problem = "the shard breaks off within this sample"
                    break
                _add(sample, kind, member, tar, max_bytes, pictures)
        except tarfile.TarError:
            if sample is not None:
                yield sample
            sample = _Sample(_END, problem="the shard is damaged; what follows here is lost")
    if sample is not None:
        yield sample


def _members(
    stream: io.BufferedReader, file: InputFile
) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of a tar.

    Raises:
        ConfigurationError: it is none.
        TarError: it is damaged, or lacks its end mark; tarfile itself would just stop.
    """
    try:
        tar = tarfile.TarFile(fileobj=stream)
    except tarfile.TarError as error:
        raise ConfigurationError(f"input.path: {file.name} is no tar file") from error
    with tar:
        while (member := tar.next()) is not None:
            yield tar, member
        stream.seek(tar.offset)
        if stream.read(_BLOCK) != bytes(_BLOCK):
            raise tarfile.ReadError("no end mark")


def _split(name: str) -> tuple[str, str]:
    """Key and kind of a member; an empty key for hidden ones."""
    readable = name.encode(errors="backslashreplace").decode().removeprefix("./")
    folder, base = posixpath.split(readable)
    stem, _, kind = base.partition(".")
    return (posixpath.join(folder, stem) if stem else ""), kind.lower()


def _add(
    sample: _Sample,
    kind: str,
    member: tarfile.TarInfo,
    tar: tarfile.TarFile,
    max_bytes: int,
    pictures: bool,
) -> None:
    """Put one member into its sample, or say why it cannot be."""
    is_picture = kind.rpartition(".")[2] in _PICTURES
    if not is_picture and kind not in ("json", "txt", "cls"):
        return
    if member.issparse() or member.size > max_bytes:
        sample.problem = f"its .{kind} has more bytes than max_image_bytes ({max_bytes})"
        return
    if is_picture and not pictures:
        return
    opened = tar.extractfile(member)
    data = opened.read() if opened is not None else b""
    if is_picture:
        sample.pictures.append(data)
    elif problem := _tell(sample.cells, kind, data):
        sample.problem = f"its .{kind} is {problem}"


def _tell(cells: dict[str, Any], kind: str, data: bytes) -> str | None:
    """Add a text member to the cells; what is wrong with it, if anything."""
    if kind == "json":
        record = parse_object(data)
        if isinstance(record, str):
            return record
        cells.update(record)
        return None
    try:
        text = data.decode()
        cells[kind] = text if kind == "txt" else int(text)
    except UnicodeDecodeError:
        return "no valid UTF-8"
    except ValueError:
        return "no integer"
    return None
