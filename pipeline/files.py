"""One file of the input, and pieces of what was read from it."""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from infra.s3 import DEFAULT, StorageConfig
from infra.storage import locate


@dataclass(frozen=True)
class InputFile:
    """A file of the input.

    Attributes:
        uri: where it is.
        name: its path below the input's folder, the same wherever that folder is mounted.
        storage: how S3 is reached.
    """

    uri: str
    name: str
    storage: StorageConfig = DEFAULT

    @property
    def folder(self) -> str:
        """The folder it lies in."""
        return posixpath.dirname(self.uri)

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's disk."""
        return "://" not in self.uri or self.uri.startswith("file://")

    def path(self) -> str:
        """Within its filesystem."""
        return locate(self.uri, self.storage)[1]

    def open(self) -> pa.NativeFile:
        """For reading at any place.

        Raises:
            OSError: it cannot be opened.
        """
        filesystem, path = locate(self.uri, self.storage)
        return filesystem.open_input_file(path)

    def label(self, number: int | str) -> str:
        """The id of a record that has none of its own: file and place."""
        return f"{self.name}:{number}"


@dataclass(frozen=True)
class Part:
    """What one read task can read on its own: a file, or one row group of a Parquet file.

    Attributes:
        file: that it is of.
        rows: how many records it holds.
        take: only so many from its start, where the input is limited.
        row_group: of a Parquet file; None for other formats.
        first: the number of its first row, where records are numbered by rows.
        content: tells this part from others without its pictures having been read, where the
            pictures lie in it; None where they do not.
        requests: see Chunk.
    """

    file: InputFile
    rows: int
    take: int
    row_group: int | None = None
    first: int = 0
    content: str | None = None
    requests: bool = False


@dataclass(frozen=True)
class Chunk:
    """Some neighbouring records of one file.

    Attributes:
        table: in the user's columns.
        numbers: of each record within its file: line, row, or count.
        problems: why the input has no readable record in a row's place; by row of the table.
        conversations: what records ask beyond their questions; likewise.
        requests: whether these are requests in OpenAI's batch format.
    """

    table: pa.Table
    numbers: Sequence[int]
    problems: Mapping[int, str] = field(default_factory=dict)
    conversations: Mapping[int, str] = field(default_factory=dict)
    requests: bool = False

    def first(self, rows: int) -> "Chunk":
        """At most so many of its records."""
        if rows >= self.table.num_rows:
            return self
        first = {row: problem for row, problem in self.problems.items() if row < rows}
        beyond = {row: text for row, text in self.conversations.items() if row < rows}
        table, numbers = self.table.slice(0, rows), self.numbers[:rows]
        return replace(self, table=table, numbers=numbers, problems=first, conversations=beyond)
