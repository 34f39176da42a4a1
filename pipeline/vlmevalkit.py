"""TSV files of VLMEvalKit: one question a line, its pictures in it as base64.

Columns: `index` (the id), `question`, `image` (base64, a list of it, or the index of the row that
has the same picture) or `image_path`, options `A`, `B`, ..., `answer`, `hint`; all others are
carried, as text. The prompt is that toolkit's: see pipeline/multiple_choice.py. Local files are
mapped and never read whole; on S3 a file is read whole, and its pictures decoded some at a time.
"""

import binascii
import codecs
import mmap
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

import pyarrow as pa

from pipeline.config import ColumnsConfig, InputConfig
from pipeline.delimited import TextRecord, fields_of, records_of
from pipeline.files import Chunk, InputFile
from pipeline.multiple_choice import asked, options_in, right_answer
from sgl.errors import ConfigurationError

_TAB = "\t"
_INDEX, _ANSWER, _HINT, _PATH = "index", "answer", "hint", "image_path"
_LONGEST_INDEX = 64
"""A longer text in the column of pictures is one."""
_QUOTED = re.compile(r"['\"]([^'\"]+)['\"]")
_CHUNK_ROWS = 64
_CHUNK_BYTES = 64 << 20
_TEXTS = pa.list_(pa.string())
_PICTURES = pa.list_(pa.struct([("bytes", pa.large_binary()), ("path", pa.string())]))


class _BadPictureError(ValueError):
    """What a row says of its picture leads to none."""


def read_tsv(file: InputFile, config: InputConfig, *, pictures: bool) -> Iterator[Chunk]:
    """The records of one file, in order.

    Args:
        file: the TSV.
        config: the user's column names.
        pictures: decode them; else all are null. Either way the tables are of bounded size.

    Raises:
        ConfigurationError: this is no TSV of VLMEvalKit; names it.
        OSError: the storage fails.
    """
    with _mapped(file) as data:
        first_line = next(_lines_of(data), b"")
        header = _header(first_line, config.columns, file)
        reader = _Reader(data, len(first_line), header, config.columns)
        waiting: list[_Record] = []
        held, first = 0, True
        for record in reader.records(pictures=pictures):
            waiting.append(record)
            held += record.size
            if held >= _CHUNK_BYTES or (pictures and len(waiting) == _CHUNK_ROWS):
                yield reader.chunk(waiting)
                held, first, waiting = 0, False, []
        if waiting or first:
            yield reader.chunk(waiting)


@contextmanager
def _mapped(file: InputFile) -> Iterator[bytes | mmap.mmap]:
    if not file.is_local:
        with file.open() as stream:
            yield stream.read()
        return
    with open(file.path(), "rb") as opened:
        if not opened.seek(0, 2):
            yield b""
            return
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _lines_of(data: bytes | mmap.mmap, start: int = 0) -> Iterator[bytes]:
    """Each with its newline, cut out when it is asked for."""
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end


def _header(line: bytes, columns: ColumnsConfig, file: InputFile) -> list[str]:
    header = fields_of(line.removeprefix(codecs.BOM_UTF8).removesuffix(b"\n"), _TAB)
    if not isinstance(header, list):
        raise ConfigurationError(f"input.path: the first line of {file.name} is no TSV header")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ConfigurationError(f"input.path: {file.name} has column '{twice[0]}' twice")
    if columns.question not in header or not {_INDEX, columns.id} & set(header):
        raise ConfigurationError(
            f"input.path: {file.name} is no TSV of VLMEvalKit, which has the columns "
            f"'{_INDEX}' and '{columns.question}'; it has {', '.join(header)}"
        )
    return header


@dataclass(frozen=True)
class _Record:
    """One line, as far as it could be read.

    Attributes:
        number: of the line.
        cells: by column, but for the pictures; empty where the line is none.
        images: that it holds, or refers to.
        problem: why it is no record; None where it is one.
    """

    number: int
    cells: Mapping[str, str | None]
    images: list[dict[str, Any]] | None = None
    problem: str | None = None

    @property
    def size(self) -> int:
        """Bytes of pictures, and characters."""
        pictures = (len(one.get("bytes", b"")) for one in self.images or ())
        return sum(pictures) + sum(len(cell) for cell in self.cells.values() if cell is not None)


class _Reader:
    """Reads the lines behind a header."""

    def __init__(
        self,
        data: bytes | mmap.mmap,
        start: int,
        header: Sequence[str],
        columns: ColumnsConfig,
    ) -> None:
        self._data, self._start, self._header, self._columns = data, start, header, columns
        self._id = columns.id if columns.id in header else _INDEX
        self._answer = columns.answers if columns.answers in header else _ANSWER
        self._options = [name for name in header if name in ascii_uppercase and len(name) == 1]
        self._places: dict[str, slice] | None = None

    def records(self, *, pictures: bool) -> Iterator[_Record]:
        for line in self._texts():
            problem = line.problem
            cells = {} if problem else self._cells(line.text)
            try:
                images = self._images(cells) if pictures else None
            except _BadPictureError as error:
                # The id is kept: the line itself could be read.
                images, problem = None, f"'{self._columns.image}' {error}"
            cells.pop(self._columns.image, None)
            yield _Record(line.number, cells, images, problem)

    def chunk(self, records: Sequence[_Record]) -> Chunk:
        """A table of the same columns for any records."""
        columns, cells = self._columns, [record.cells for record in records]
        options = [options_in([one.get(name) for name in self._options] or [None]) for one in cells]
        arrays = {
            columns.id: pa.array([one.get(self._id) for one in cells], pa.string()),
            columns.question: pa.array(list(map(self._asked, cells, options)), pa.string()),
            columns.image: pa.array([record.images for record in records], _PICTURES),
        }
        if self._answer in self._header:
            right = map(right_answer, (one.get(self._answer) for one in cells), options)
            accepted = [None if answer is None else [answer] for answer in right]
            arrays[columns.answers] = pa.array(accepted, _TEXTS)
        if self._options:
            arrays["options"] = pa.array([texts or None for texts in options], _TEXTS)
        own = {*arrays, self._id, self._answer, _PATH, *self._options}
        for name in self._header:
            if name not in own:
                arrays[name] = pa.array([one.get(name) for one in cells], pa.string())
        problems = {place: r.problem for place, r in enumerate(records) if r.problem is not None}
        return Chunk(pa.table(arrays), [record.number for record in records], problems)

    def _asked(self, cells: Mapping[str, str | None], options: Sequence[str]) -> str | None:
        return asked(cells.get(self._columns.question), options, cells.get(_HINT))

    def _texts(self) -> Iterator[TextRecord]:
        return records_of(_lines_of(self._data, self._start), len(self._header), _TAB)

    def _cells(self, text: bytes) -> dict[str, str | None]:
        fields = fields_of(text, _TAB)
        assert isinstance(fields, list), "records_of has read it"
        return dict(zip(self._header, (field or None for field in fields), strict=True))

    def _images(self, cells: Mapping[str, str | None]) -> list[dict[str, Any]] | None:
        said = cells.get(self._columns.image)
        if said is None:
            path = cells.get(_PATH)
            return None if path is None else [{"path": one} for one in _items(path)]
        if len(said) <= _LONGEST_INDEX:
            said = self._picture_of(said)
        return [{"bytes": _decoded(one)} for one in _items(said)]

    def _picture_of(self, index: str) -> str:
        """The picture of another row."""
        if self._places is None:
            # Of all rows, because the other may come later; without pictures this is little.
            self._places = {}
            for line in self._texts():
                if line.problem is None and (name := self._cells(line.text)[self._id]) is not None:
                    start = self._start + line.start
                    self._places.setdefault(name, slice(start, start + len(line.text)))
        place = self._places.get(index)
        picture = place and self._cells(self._data[place]).get(self._columns.image)
        if not picture or len(picture) <= _LONGEST_INDEX:
            raise _BadPictureError("is neither base64 nor the index of a row with a picture")
        return picture


def _items(text: str) -> list[str]:
    """One text, or those of a list that is written out."""
    if text.startswith("[") and text.endswith("]"):
        return _QUOTED.findall(text)
    return [text]


def _decoded(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text.rpartition(",")[2], strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise _BadPictureError("holds broken base64") from error
