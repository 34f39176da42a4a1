"""What each run's pools were and how their time went: `runs/RUN_ID.json` in the output directory.

Written again and again while the run lasts, so that a run that was killed has its bill too, up to
a few seconds before its end.
"""

import logging
import posixpath
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import Field, ValidationError

from actors.config import StrictModel
from infra.storage import read_bytes, write_bytes
from pipeline.balance.record import BalanceRecord
from pipeline.output import Output
from pipeline.timesheet import Times

logger = logging.getLogger(__name__)

_WRITTEN_EVERY_S = 10.0


class PoolRecord(StrictModel):
    """A pool as the run reserved it.

    Attributes:
        replicas: reserved from the run's start to its end, or to when its balance moves them.
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
        balance: likewise; None where the pools are of a fixed size.
    """

    run_id: str
    started_at: float
    ended: bool
    pools: dict[str, PoolRecord]
    times: Times = Field(default_factory=lambda: Times(elapsed_s=0.0, replicas=()))
    balance: BalanceRecord | None = None

    def device_s(self, role: str, elapsed_s: float) -> float:
        """Device-seconds that a pool has reserved after so many seconds."""
        pool = self.pools[role]
        beyond_s = self.balance.beyond_s.get(role, 0.0) if self.balance else 0.0
        return pool.devices * (pool.replicas * elapsed_s + beyond_s)

    def held(self, role: str) -> int:
        """Replicas of a pool that hold devices."""
        return (self.balance.held if self.balance else {}).get(role, self.pools[role].replicas)


@contextmanager
def kept(
    output: Output,
    record: RunRecord,
    times: Callable[[], Times | None],
    every_s: float = _WRITTEN_EVERY_S,
    balance: Callable[[], BalanceRecord | None] = lambda: None,
) -> Iterator[None]:
    """Keep one run's record up to date until the block ends, however it ends.

    Args:
        output: where it is kept.
        record: of the run, as it begins.
        times: asks for the times so far; None when they cannot be had.
        every_s: seconds from one writing to the next.
        balance: tells of it so far; None where there is none.
    """
    over = threading.Event()

    def keep() -> None:
        latest = record
        _write(output, latest)
        while True:
            ended = over.wait(every_s)
            if (now := times()) is not None:
                told = {"times": _later(latest, now), "ended": ended, "balance": balance()}
                latest = latest.model_copy(update=told)
            _write(output, latest)
            if ended:
                return

    thread = threading.Thread(target=keep, name="bookkeeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _later(before: RunRecord, now: Times) -> Times:
    """The times, also where the ledger has died and begun anew, knowing of nothing before.

    What it had booked stays; what came between is unexplained and not free.
    """
    if now.elapsed_s >= before.times.elapsed_s:
        return now
    return before.times.model_copy(update={"elapsed_s": time.time() - before.started_at})


def _write(output: Output, record: RunRecord) -> None:
    data = record.model_dump_json(indent=1).encode()
    try:
        write_bytes(_path(output, f"{record.run_id}.json"), data, output.storage)
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
