"""What each run's pools were and how their time went: `runs/RUN_ID.json` in the output directory.

Written again and again while the run lasts, so that a run that was killed has its bill too, up to
a few seconds before its end.
"""

import logging
import posixpath
import threading
import time
from collections.abc import Callable
from types import TracebackType

from pydantic import Field, ValidationError

from actors.config import StrictModel
from infra.storage import read_bytes, write_bytes
from pipeline.output import Output
from pipeline.timesheet import Times

logger = logging.getLogger(__name__)

_WRITTEN_EVERY_S = 10.0


class PoolRecord(StrictModel):
    """A pool as the run reserved it.

    Attributes:
        replicas: reserved from the run's start to its end.
        devices: of each: GPUs, a share of one, or CPU cores.
        device: what they are: "gpu" or "cpu".
        usd_per_hour: of one device; None where no price is known.
        price: the same with its currency, date and source; or why there is none.
    """

    replicas: int
    devices: float
    device: str
    usd_per_hour: float | None
    price: str


class RunRecord(StrictModel):
    """Of one run.

    Attributes:
        run_id: as in its rows.
        started_at: when its pools were reserved; time.time().
        ended: whether `times` is of its end, and not of a moment on the way.
        pools: by role.
        times: up to then.
    """

    run_id: str
    started_at: float
    ended: bool
    pools: dict[str, PoolRecord]
    times: Times = Field(default_factory=lambda: Times(elapsed_s=0.0, replicas=()))


class Bookkeeper:
    """Keeps one run's record up to date until the block ends, however it ends.

    Args:
        output: where it is kept.
        record: of the run, as it begins.
        times: asks for the times so far; None when they cannot be had.
        every_s: seconds from one writing to the next.
    """

    def __init__(
        self,
        output: Output,
        record: RunRecord,
        times: Callable[[], Times | None],
        every_s: float = _WRITTEN_EVERY_S,
    ) -> None:
        self._output = output
        self._record = record
        self._times = times
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="bookkeeper", daemon=True)

    def __enter__(self) -> "Bookkeeper":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _keep(self) -> None:
        while True:
            ended = self._over.wait(self._every_s)
            times = self._times()
            if times is not None:
                self._record = self._record.model_copy(update={"times": times, "ended": ended})
            self._write()
            if ended:
                return

    def _write(self) -> None:
        path = _path(self._output, f"{self._record.run_id}.json")
        data = self._record.model_dump_json(indent=1).encode()
        try:
            write_bytes(path, data, self._output.storage)
        except OSError:
            # It tells of the run and is no part of it.
            logger.warning("the run's record could not be written", exc_info=True)


def run_records(output: Output) -> list[RunRecord]:
    """Of all runs that wrote to an output, the earliest first; a damaged one is left out.

    Raises:
        OSError: they cannot be read.
    """
    found = []
    for name in output.names(output.runs):
        if name.endswith(".json") and not name.startswith("."):
            data = read_bytes(_path(output, name), output.storage)
            try:
                found.append(RunRecord.model_validate_json(data))
            except ValidationError:
                logger.warning("the run's record %s is damaged and left out", name)
    return sorted(found, key=lambda one: one.started_at)


def begun(run_id: str, pools: dict[str, PoolRecord]) -> RunRecord:
    """The record of a run that begins now."""
    return RunRecord(run_id=run_id, started_at=time.time(), ended=False, pools=pools)


def _path(output: Output, name: str) -> str:
    return posixpath.join(output.runs, name)
