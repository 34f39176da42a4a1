"""The ledger's events on storage: one small file each, because they are rare.

Layout: `ledger/<fingerprint>/<time>-<random>.json` in the output directory, read in that order.
"""

import logging
import posixpath
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Literal

from pyarrow import fs
from pydantic import ValidationError

from actors.config import StrictModel
from infra.storage import locate

logger = logging.getLogger(__name__)


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
    """The events of one output and fingerprint.

    Args:
        output: the output directory.
        fingerprint: of the settings.
    """

    def __init__(self, output: str, fingerprint: str) -> None:
        self._folder = posixpath.join(output, "ledger", fingerprint)

    def append(self, event: Event) -> None:
        """Write an event down at once.

        Raises:
            OSError: it cannot be written.
        """
        filesystem, folder = locate(self._folder)
        filesystem.create_dir(folder, recursive=True)
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}.json"
        with filesystem.open_output_stream(posixpath.join(folder, name)) as stream:
            stream.write(event.model_dump_json().encode())

    def read(self) -> list[Event]:
        """All events, the oldest first; one that was being written when its process died is not."""
        filesystem, folder = locate(self._folder)
        found = filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        paths = sorted(info.path for info in found if info.base_name.endswith(".json"))
        return [event for path in paths for event in _parsed(filesystem, path)]

    def forget(self, ids: Sequence[str]) -> None:
        """Let records run again, in company, whatever they did: for those who retry errors."""
        if ids:
            self.append(Event(kind="pardon", ids=tuple(ids)))


def _parsed(filesystem: fs.FileSystem, path: str) -> Iterable[Event]:
    with filesystem.open_input_stream(path) as stream:
        data = bytes(stream.read())
    try:
        yield Event.model_validate_json(data)
    except ValidationError:
        logger.warning("the ledger's file %s is incomplete and left out", path)
