"""The ledger's events on storage: one small file each, because they are rare.

Layout: `ledger/<fingerprint>/<time>-<random>.json` in the output directory, read in that order.
"""

import logging
import posixpath
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import ValidationError

from actors.config import StrictModel
from infra.storage import read_bytes, write_bytes
from pipeline.output import Output

logger = logging.getLogger(__name__)

_NAME = re.compile(r"\d{20}-[0-9a-f]{8}\.json")


class Event(StrictModel):
    """What happened to records.

    Attributes:
        kind: they were in a process that died, or all their deaths are to be forgotten.
        ids: of the records.
        stage: in which they died.
        hung: whether the process was ended by its deadline.
        deadline_s: which that was.
    """

    kind: Literal["death", "pardon"]
    ids: tuple[str, ...]
    stage: str = ""
    hung: bool = False
    deadline_s: float = 0.0


class Journal:
    """The events of one output, under its settings.

    Args:
        output: where they are.
    """

    def __init__(self, output: Output) -> None:
        self._output = output

    def append(self, event: Event) -> None:
        """Write an event down at once.

        Raises:
            OSError: it cannot be written.
        """
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.json"
        data = event.model_dump_json().encode()
        write_bytes(posixpath.join(self._output.ledger, name), data, self._output.storage)

    def read(self) -> list[Event]:
        """All events, the oldest first; a damaged one is left out.

        Raises:
            OSError: they cannot be read.
        """
        names = (name for name in self._output.names(self._output.ledger) if _NAME.fullmatch(name))
        return [event for name in names for event in self._parsed(name)]

    def dead(self) -> set[str]:
        """The records that were in a process that died, and have not been forgotten since.

        Raises:
            OSError: the events cannot be read.
        """
        found: set[str] = set()
        for event in self.read():
            found = found | set(event.ids) if event.kind == "death" else found - set(event.ids)
        return found

    def forget(self, ids: Sequence[str]) -> None:
        """Let records run again, in company, whatever they did: for those who retry errors.

        Raises:
            OSError: it cannot be written down.
        """
        if ids:
            self.append(Event(kind="pardon", ids=tuple(ids)))

    def _parsed(self, name: str) -> Iterable[Event]:
        data = read_bytes(posixpath.join(self._output.ledger, name), self._output.storage)
        try:
            yield Event.model_validate_json(data)
        except ValidationError:
            logger.warning("the ledger's file %s is damaged and left out", name)
