"""How far an output is, read off its files; nothing is changed, and a run may be writing it."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from infra.s3 import DEFAULT, StorageConfig
from pipeline.balance.record import BalanceRecord
from pipeline.lease import Holder, holder_of
from pipeline.output import Alarm, Output, open_output
from pipeline.rowfiles import in_parallel, read, visible, write_tasks
from pipeline.run_record import run_records
from sgl.errors import ConfigurationError
from sgl.types import Route


@dataclass(frozen=True)
class Status:
    """One look at an output.

    Attributes:
        state: complete, running (its writer lives), or stopped (the same command goes on).
        records: of the input, as the latest run counted them.
        done: records that a model settled, by route.
        failed: failed records, by stage and type of error.
        missing: records without a committed row.
        surplus: committed rows beyond the number of records; the next run removes them.
        uncommitted: data files in the making, or left by a killed run.
        broken: committed data files that are gone or damaged.
        run_id: of the latest run.
        mode: of the job.
        fingerprint: of its settings.
        finished_at: when it was complete; None while it is not.
        writer: who is writing, or was when it died; None where nobody holds the lease.
        alarm: that the answers are not what was promised; None where none was raised.
        balance: of the latest run's pools; None where they are of a fixed size.
    """

    state: str
    records: int
    done: dict[str, int]
    failed: dict[str, dict[str, int]]
    missing: int
    surplus: int
    uncommitted: int
    broken: int
    run_id: str
    mode: str
    fingerprint: str
    finished_at: str | None
    writer: Holder | None
    alarm: Alarm | None
    balance: BalanceRecord | None = None


def status(path: str, now: float, storage: StorageConfig = DEFAULT) -> Status:
    """Look at an output directory.

    Args:
        path: of the directory, or its URI.
        now: time.time(), against which the writer's heartbeat is held.
        storage: how S3 is reached.

    Raises:
        ConfigurationError: there is no output of this pipeline.
    """
    unknown = open_output(path, "", storage)
    record = unknown.record()
    if record is None:
        raise ConfigurationError(f"{path}: no output of sgl run (it has no _job.json)")
    output = Output(path, record.fingerprint, storage)
    tasks = write_tasks(output)
    committed = [task for task in tasks if task.committed]
    names = [name for task in committed for name in task.data]
    routes, failed, broken = _counted(output, names)
    broken += sum(not task.data for task in committed)
    left = record.records - sum(routes.values())
    success, writer = output.success(), holder_of(output)
    return Status(
        state=_state(writer, is_marked(output) and not left and not broken, now),
        records=record.records,
        done={route: n for route, n in sorted(routes.items()) if route != Route.FAILED.value},
        failed=failed,
        missing=max(0, left),
        surplus=max(0, -left),
        uncommitted=sum(len(task.data) for task in tasks if not task.committed),
        broken=broken,
        run_id=record.run_id,
        mode=str(record.job.get("mode", "cascade")),
        fingerprint=record.fingerprint,
        finished_at=success.finished_at if success else None,
        writer=writer,
        alarm=output.alarm(),
        balance=_balance(output, record.run_id),
    )


def _balance(output: Output, run_id: str) -> BalanceRecord | None:
    return next((one.balance for one in run_records(output) if one.run_id == run_id), None)


def is_marked(output: Output) -> bool:
    """Whether an output has a success marker that is of its files as they are now."""
    success = output.success()
    return success is not None and success.files == digest_of_files(output)


def count_routes(output: Output) -> dict[str, int]:
    """Rows by route, of committed data files."""
    names = [name for task in write_tasks(output) if task.committed for name in task.data]
    routes, _, _ = _counted(output, names)
    return dict(sorted(routes.items()))


def digest_of_files(output: Output) -> str:
    """Of the names and sizes of the data files: what is written behind an audit changes it."""
    sizes = output.names(output.rows)
    listed = [(name, sizes[name]) for name in visible(output, output.rows)]
    return hashlib.blake2b(repr(listed).encode(), digest_size=16).hexdigest()


def _counted(
    output: Output, names: list[str]
) -> tuple[Counter[str], dict[str, dict[str, int]], int]:
    routes, broken = Counter[str](), 0
    kinds = Counter[tuple[str, str]]()
    for table in _tables(output, names):
        if table is None:
            broken += 1
            continue
        routes.update(table["route"].to_pylist())
        errors = (error for error in table["error"].to_pylist() if error)
        kinds.update((error["stage"], error["type"]) for error in errors)
    failed: dict[str, dict[str, int]] = {}
    for (stage, kind), count in sorted(kinds.items()):
        failed.setdefault(stage, {})[kind] = count
    return routes, failed, broken


def _tables(output: Output, names: list[str]) -> Iterator[pa.Table | None]:
    columns = ["route", "error"]
    return in_parallel(lambda name: read(output, output.rows, name, columns), names)


def _state(writer: Holder | None, complete: bool, now: float) -> str:
    if writer is not None and not writer.is_gone(now):
        return "running"
    return "complete" if complete else "stopped"
