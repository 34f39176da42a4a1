"""Answers by id, on the local disk: memory does not grow with the outputs that are compared."""

import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

_AT_ONCE = 500


class AnswerStore:
    """The answers of another output; gone when the block ends."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sgl-answers-")
        self._database = sqlite3.connect(Path(self._folder.name) / "answers.db")
        # Nobody needs the file after a crash.
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE answers (id TEXT PRIMARY KEY, answer TEXT)")

    def __enter__(self) -> "AnswerStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()
        self._folder.cleanup()

    def add(self, answers: Iterable[tuple[str, str | None]]) -> None:
        """Keep some ids and their answers, null where there is none."""
        self._database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", answers)

    def find(self, ids: Sequence[str]) -> dict[str, str | None]:
        """The answers of those ids that are known."""
        found: dict[str, str | None] = {}
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            found |= self._database.execute(
                f"SELECT id, answer FROM answers WHERE id IN ({marks})",
                some,
            ).fetchall()
        return found
