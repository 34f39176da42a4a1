"""Text files of records: JSON lines, CSV, LLaVA JSON, OpenAI batches. They are read whole.

A line that is no record keeps its place as a failed row. Only a file whose lines cannot be told
apart, or that is of another format altogether, is refused.
"""

import codecs
import json
from collections.abc import Mapping
from typing import Any

from pipeline.cells import Row, chunk_of
from pipeline.config import ColumnsConfig, InputConfig
from pipeline.delimited import read_csv
from pipeline.files import Chunk, InputFile
from pipeline.openai_batch import as_record, is_request
from sgl.errors import ConfigurationError

_IMAGE_PLACEHOLDER = "<image>"
_OTHER_ENCODINGS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_manifest(file: InputFile, file_format: str, config: InputConfig) -> Chunk:
    """All records of one text file.

    Args:
        file: to read.
        file_format: jsonl, openai, csv or llava. In jsonl, requests in OpenAI's batch format are
            told by their entries.
        config: the user's column names.

    Raises:
        ConfigurationError: the file is not what its format says; names it.
        OSError: it cannot be read.
    """
    data = file.read()
    if data.startswith(_OTHER_ENCODINGS):
        raise ConfigurationError(f"input.path: {file.name} is UTF-16; write it as UTF-8")
    data = data.removeprefix(codecs.BOM_UTF8)
    if file_format == "csv":
        return read_csv(data, config.columns, file)
    if file_format == "llava":
        return chunk_of(_llava(data, config.columns, file), config, file)
    rows = _json_lines(data)
    if file_format == "openai" or any(is_request(row.record, config.columns) for row in rows):
        rows = [as_record(row, config.columns) for row in rows]
    return chunk_of(rows, config, file)


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


def _json_lines(data: bytes) -> list[Row]:
    # By newlines alone: splitlines also splits at characters that JSON allows within a string.
    return [
        Row(number, parse_object(line))
        for number, line in enumerate(data.split(b"\n"), 1)
        if line.strip()
    ]


def _llava(data: bytes, columns: ColumnsConfig, file: InputFile) -> list[Row]:
    try:
        records = json.loads(data.decode())
        json.dumps(records, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"input.path: {file.name} cannot be read as llava JSON") from error
    if not isinstance(records, list):
        raise ConfigurationError(f"input.path: {file.name} is no JSON list of LLaVA records")
    return [Row(number, _flatten(record, columns)) for number, record in enumerate(records, 1)]


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
