"""TSV files of VLMEvalKit: one question a line, its pictures in it as base64.

Columns: `index` (the id), `question`, `image` (base64, a list of it, or the index of the row that
has the same picture) or `image_path`, options `A`, `B`, ..., `answer`, `hint`; all others are
carried, as text. The prompt is that toolkit's: see pipeline/multiple_choice.py. Local files are
mapped and never read whole; on S3 a file is read whole, and its pictures decoded some at a time.
"""

import binascii
import mmap
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, overload

import pyarrow as pa

from pipeline.config import ColumnsConfig, InputConfig
from pipeline.delimited import fields_of, records_of
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
        pictures: decode them, in tables of bounded size; else all are null, in one table.

    Raises:
        ConfigurationError: this is no TSV of VLMEvalKit; names it.
        OSError: the storage fails.
    """
    with _mapped(file) as data:
        lines = _Lines(data)
        header = _header(lines, config.columns, file)
        reader = _Reader(lines, header, config.columns)
        waiting: list[_Record] = []
        held, first = 0, True
        for record in reader.records(pictures=pictures):
            waiting.append(record)
            held += sum(len(one.get("bytes") or b"") for one in record.images or ())
            if pictures and (len(waiting) == _CHUNK_ROWS or held >= _CHUNK_BYTES):
                yield reader.chunk(waiting)
                held, first, waiting = 0, False, []
        if waiting or first:
            yield reader.chunk(waiting)


@contextmanager
def _mapped(file: InputFile) -> Iterator[bytes | mmap.mmap]:
    if not file.is_local:
        yield file.read()
        return
    with open(file.path(), "rb") as opened:
        if not opened.seek(0, 2):
            yield b""
            return
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


class _Lines(Sequence[bytes]):
    """The lines of a file, cut out when they are asked for."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self._data = data
        self._ends = [match.start() for match in re.finditer(b"\n", data)]
        if not self._ends or self._ends[-1] != len(data) - 1:
            self._ends.append(len(data))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> list[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | list[bytes]:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        start = self._ends[at - 1] + 1 if at else 0
        return bytes(self._data[start : self._ends[at]])


def _header(lines: Sequence[bytes], columns: ColumnsConfig, file: InputFile) -> list[str]:
    header = fields_of(lines[0].removeprefix(b"\xef\xbb\xbf"), _TAB)
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
        cells: by column; empty where the line is none.
        images: that it holds, or refers to.
        problem: why it is no record; None where it is one.
    """

    number: int
    cells: Mapping[str, str | None]
    images: list[dict[str, Any]] | None = None
    problem: str | None = None


class _Reader:
    """Reads lines with a header."""

    def __init__(self, lines: _Lines, header: Sequence[str], columns: ColumnsConfig) -> None:
        self._lines, self._header, self._columns = lines, header, columns
        self._id = columns.id if columns.id in header else _INDEX
        self._answer = columns.answers if columns.answers in header else _ANSWER
        self._options = [name for name in header if name in ascii_uppercase and len(name) == 1]
        self._places: dict[str, int] | None = None

    def records(self, *, pictures: bool) -> Iterator[_Record]:
        for number, text, problem in self._texts():
            cells = {} if problem else self._cells(text)
            try:
                images = self._images(cells) if pictures else None
            except _BadPictureError as error:
                # The id is kept: the line itself could be read.
                images, problem = None, f"'{self._columns.image}' {error}"
            yield _Record(number, cells, images, problem)

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

    def _texts(self) -> Iterator[tuple[int, bytes, str | None]]:
        return records_of(self._lines, len(self._header), _TAB)

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
            for number, text, problem in self._texts():
                if problem is None and (name := self._cells(text)[self._id]) is not None:
                    self._places.setdefault(name, number)
        picture = self._picture_at(self._places.get(index))
        if not picture or len(picture) <= _LONGEST_INDEX:
            raise _BadPictureError("is neither base64 nor the index of a row with a picture")
        return picture

    def _picture_at(self, number: int | None) -> str | None:
        if number is None:
            return None
        _, text, _ = next(records_of(self._lines, len(self._header), _TAB, start=number - 1))
        return self._cells(text).get(self._columns.image)


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
