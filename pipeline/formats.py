"""The accepted formats of input files: an allow-list, found by file name."""

import posixpath
from collections.abc import Iterator, Sequence

import pyarrow as pa

from pipeline.carried import joined
from pipeline.columnar import arrow_parts, parquet_parts, read_arrow, read_parquet
from pipeline.config import InputConfig
from pipeline.files import Chunk, InputFile, Part
from pipeline.manifests import read_manifest
from pipeline.vlmevalkit import read_tsv
from pipeline.webdataset import read_samples
from sgl.errors import ConfigurationError

SUFFIXES = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "vlmevalkit",
    ".json": "llava",
    ".tar": "webdataset",
    ".arrow": "arrow",
}
TYPED = ("parquet", "arrow")
"""Formats whose files say what type each column has, the same in every row."""
_SUFFIX_OF = {"openai": "jsonl"}
"""Formats that are told from their files' content, and the one whose suffixes they have."""
_SIDECARS = frozenset(
    {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
)
"""What Hugging Face writes beside the data."""
_CACHE = "cache-"
"""Begins the names of intermediate results that its library leaves beside them."""


def format_of(files: Sequence[str], wanted: str) -> tuple[str, list[str]]:
    """The format of an input and those of its files that have it.

    Raises:
        ConfigurationError: none of the files can be read, or they are of several formats.
    """
    known = [f for f in files if _is_data(f)]
    if wanted != "auto":
        chosen = [f for f in known if SUFFIXES.get(_suffix(f)) == _SUFFIX_OF.get(wanted, wanted)]
        return wanted, chosen or list(files)
    formats = {SUFFIXES[_suffix(f)] for f in known if _suffix(f) in SUFFIXES}
    if len(formats) > 1:
        raise ConfigurationError(
            f"input.path: holds files of several formats ({', '.join(sorted(formats))}); "
            "name the file, or write input.format"
        )
    if not formats:
        raise ConfigurationError(
            f"input.path: no file that can be read; accepted are {', '.join(SUFFIXES)}"
        )
    return formats.pop(), [f for f in known if _suffix(f) in SUFFIXES]


def inspect(file: InputFile, file_format: str, config: InputConfig) -> tuple[pa.Schema, list[Part]]:
    """A file's columns and what of it can be read on its own, without reading pictures.

    Raises:
        ConfigurationError: the file is not what its format says; names it.
        OSError: the storage fails.
    """
    if file_format == "parquet":
        return parquet_parts(file)
    if file_format == "arrow":
        return arrow_parts(file)
    schemas: dict[pa.Schema, None] = {}
    rows, requests = 0, False
    for chunk in _text_chunks(file, file_format, config, None, pictures=False):
        schemas[chunk.table.schema] = None
        rows += chunk.table.num_rows
        requests |= chunk.requests
    return joined(list(schemas), config.columns), [Part(file, rows, rows, requests=requests)]


def read_chunks(
    part: Part,
    file_format: str,
    config: InputConfig,
    types: pa.Schema,
    only: Sequence[str] | None = None,
) -> Iterator[Chunk]:
    """The records of one part, in order, in tables of bounded size.

    Args:
        part: to read.
        file_format: one of the values of SUFFIXES, or openai.
        config: the user's column names and limits.
        types: of the columns that are only carried, by the user's names.
        only: columns that suffice; a format that gains nothing by it gives more. None means all.

    Raises:
        ConfigurationError: the file is not what its format says; names it.
        OSError: the storage fails.
    """
    if file_format == "parquet":
        return read_parquet(part, only)
    if file_format == "arrow":
        return read_arrow(part, only)
    wanted = types if only is None else pa.schema([])
    return _text_chunks(part.file, file_format, config, wanted, pictures=only is None)


def _text_chunks(
    file: InputFile,
    file_format: str,
    config: InputConfig,
    types: pa.Schema | None,
    *,
    pictures: bool,
) -> Iterator[Chunk]:
    if file_format == "webdataset":
        return read_samples(file, config, types, pictures=pictures)
    if file_format == "vlmevalkit":
        return read_tsv(file, config, pictures=pictures)
    return read_manifest(file, file_format, config, types)


def _is_data(path: str) -> bool:
    name = posixpath.basename(path)
    return name not in _SIDECARS and not (name.startswith(_CACHE) and name.endswith(".arrow"))


def _suffix(path: str) -> str:
    return posixpath.splitext(path)[1].lower()
