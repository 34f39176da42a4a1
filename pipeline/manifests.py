"""Text files of records: JSON lines, OpenAI batches and CSV as streams, LLaVA JSON whole.

A line that is no record keeps its place as a failed row. Only a file whose lines cannot be told
apart, or that is of another format altogether, is refused.
"""

import codecs
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, BinaryIO

import pyarrow as pa

from pipeline.cells import Row, chunk_of, in_pieces
from pipeline.config import ColumnsConfig, InputConfig
from pipeline.delimited import read_csv
from pipeline.files import Chunk, InputFile
from pipeline.openai_batch import as_record, is_request
from sgl.errors import ConfigurationError

_IMAGE_PLACEHOLDER = "<image>"
_BUFFER_BYTES = 4 << 20
"""Of one request to S3."""
_OTHER_ENCODINGS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_manifest(
    file: InputFile, file_format: str, config: InputConfig, types: pa.Schema | None = None
) -> Iterator[Chunk]:
    """All records of one text file, in tables of bounded size.

    Args:
        file: to read.
        file_format: jsonl, openai, csv or llava. In jsonl, requests in OpenAI's batch format are
            told by the entries of the first piece.
        config: the user's column names.
        types: of the columns that are only carried; see pipeline.cells.chunk_of.

    Raises:
        ConfigurationError: the file is not what its format says; names it.
        OSError: it cannot be read.
    """
    with file.open() as raw, io.BufferedReader(raw, _BUFFER_BYTES) as stream:
        start = stream.peek(len(codecs.BOM_UTF8))
        if start.startswith(_OTHER_ENCODINGS):
            raise ConfigurationError(f"input.path: {file.name} is UTF-16; write it as UTF-8")
        if start.startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
        if file_format == "csv":
            yield from read_csv(stream, config.columns, file)
        elif file_format == "llava":
            for piece in in_pieces(_llava(stream.read(), config.columns, file)):
                yield chunk_of(piece, config, types)
        else:
            told = file_format == "openai"
            pieces = in_pieces(_json_lines(stream))
            for piece, requests in _requests_as_records(pieces, told, config.columns):
                yield replace(chunk_of(piece, config, types), requests=requests)


def parse_object(data: bytes) -> dict[str, Any] | str:
    """A JSON object, or what is wrong with it."""
    try:
        record = json.loads(data.decode())
        if b"\\ud" in data.lower():
            # Half a surrogate pair is legal JSON, and no text that anything else could store.
            json.dumps(record, ensure_ascii=False).encode()
    except UnicodeError:
        return "no valid UTF-8"
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg}"
    except (ValueError, RecursionError):
        return "not JSON that can be read: nested too deep, or a number too long"
    return record if isinstance(record, dict) else "not a JSON object"


def _json_lines(stream: BinaryIO) -> Iterator[tuple[int, Row]]:
    # By newlines alone: splitlines also splits at characters that JSON allows within a string.
    for number, line in enumerate(stream, 1):
        if line.strip():
            yield len(line), Row(number, parse_object(line.removesuffix(b"\n")))


def _requests_as_records(
    pieces: Iterator[list[Row]], told: bool, columns: ColumnsConfig
) -> Iterator[tuple[list[Row], bool]]:
    """The same, and whether these are requests in OpenAI's format: told so, or one of the first is.

    Decided once for a file, so that a rotten request is one among good ones, whatever its place.
    """
    requests = told
    for place, piece in enumerate(pieces):
        if not place and not told:
            requests = any(is_request(row.record, columns) for row in piece)
        yield [as_record(row, columns) for row in piece] if requests else piece, requests


def _llava(data: bytes, columns: ColumnsConfig, file: InputFile) -> Iterator[tuple[int, Row]]:
    try:
        records = json.loads(data.decode())
        json.dumps(records, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"input.path: {file.name} cannot be read as llava JSON") from error
    if not isinstance(records, list):
        raise ConfigurationError(f"input.path: {file.name} is no JSON list of LLaVA records")
    for number, record in enumerate(records, 1):
        yield len(data) // len(records), Row(number, _flatten(record, columns))


def _flatten(record: Any, columns: ColumnsConfig) -> Mapping[str, Any] | str:
    """The first human turn becomes the question, the first gpt turn the accepted answer."""
    if not isinstance(record, dict):
        return "not a JSON object"
    turns = record.get("conversations") or []
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return "'conversations' is not a list of objects"
    human = next((turn.get("value") for turn in turns if turn.get("from") == "human"), None)
    reply = next((turn.get("value") for turn in turns if turn.get("from") == "gpt"), None)
    flat = {key: value for key, value in record.items() if key != "conversations"}
    if isinstance(human, str):
        human = human.replace(_IMAGE_PLACEHOLDER, "").strip()
    if human is not None:
        flat.setdefault(columns.question, human)
    if reply is not None:
        flat.setdefault(columns.answers, [reply])
    return flat
