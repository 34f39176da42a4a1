"""Before a run, and after it: rows and checkpoint made to agree, whatever was killed in between.

Ray writes each task's rows in two phases: pending checkpoint, data file, rename to committed. What
a killed process can leave behind, and what is done about it:

    pending, not committed             its data files go, then the pending checkpoint
    pending and committed              the pending one goes: Ray would delete the committed rows
    data files, neither of both        they go: rows that nobody committed
    data files, no checkpoint at all   it was deleted, and is written anew from the rows
    committed, data file gone/damaged  its ids are taken out of the checkpoint, to be done again
    committed ids differ from rows     the checkpoint is written anew from the rows
    one id in several files            the row of the first file stays (`drop_doubled`)
    committed by a run taken for dead  goes, if it came after that was decided (`settle`)

One law makes any order of deaths safe: **a committed task's data files are the truth, and its
checkpoint is made to agree with them.** Every step is one deletion or one replacement of a whole
file, and leaves a state of the table above. So rows are taken out of an output (failed ones that
are to be tried again, doubled ones) by replacing their data file; no moment shows a row twice.
"""

import contextlib
import io
import posixpath
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.storage import write_bytes
from pipeline.ids import hashes_of
from pipeline.journal import Journal
from pipeline.output import Output
from pipeline.rowfiles import (
    COMMITTED,
    PENDING,
    WriteTask,
    in_parallel,
    leftovers,
    read,
    write_tasks,
)
from sgl.types import Route


@dataclass
class Repairs:
    """What was found and mended.

    Attributes:
        uncommitted: data files whose rows nobody committed; deleted.
        lost: records whose committed rows are gone or damaged; to be done again.
        corrected: checkpoints made to agree with their rows.
        doubled: rows whose id another file holds; deleted.
    """

    uncommitted: int = 0
    lost: int = 0
    corrected: int = 0
    doubled: int = 0

    def lines(self) -> list[str]:
        """For the user, one line per kind."""
        told = (
            (self.uncommitted, "data files that nobody had committed were removed"),
            (self.lost, "committed rows are gone or damaged; their records are done again"),
            (self.corrected, "checkpoint files were corrected from their rows"),
            (self.doubled, "rows that stood twice were removed"),
        )
        return [f"reconciled: {count:,} {what}" for count, what in told if count]


class _Mender:
    """All changes to an output. The success marker goes before the first of them."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._lock = threading.Lock()
        self._opened = False

    def delete(self, folder: str, name: str) -> None:
        self._open()
        filesystem, path = self._output.located(posixpath.join(folder, name))
        # It is gone already where a request was repeated because its first answer was lost.
        with contextlib.suppress(FileNotFoundError):
            filesystem.delete_file(path)

    def replace(self, folder: str, name: str, table: pa.Table) -> None:
        """One file at once; an empty table deletes it."""
        if not table.num_rows:
            self.delete(folder, name)
            return
        self._open()
        data = io.BytesIO()
        pq.write_table(table, data)
        write_bytes(posixpath.join(folder, name), data.getvalue(), self._output.storage)

    def _open(self) -> None:
        with self._lock:
            if not self._opened:
                self._output.reopen()
                self._opened = True


def reconcile(output: Output, skip: Collection[str] = ()) -> Repairs:
    """Mend an output that nobody is writing.

    Args:
        output: held by a lease.
        skip: bases of write tasks that were reconciled before and cannot have changed.

    Raises:
        ConfigurationError: a file among the rows is not ours.
        OSError: the storage does not answer.
    """
    mender, repairs = _Mender(output), Repairs()
    for folder, name in leftovers(output):
        mender.delete(folder, name)
    tasks = write_tasks(output)
    if output.names(output.rows) and not output.names(output.checkpoint):
        # Each task writes there before it writes rows, so this folder was deleted. The rows are
        # the truth, and what a killed task had written of them is as good as the rest.
        tasks = [replace(task, committed=True) for task in tasks]
    for task in tasks:
        if not task.committed:
            _drop_uncommitted(output, mender, task)
            repairs.uncommitted += len(task.data)
        elif task.pending:
            mender.delete(output.checkpoint, task.base + PENDING)
    committed = (task for task in tasks if task.committed and task.base not in skip)
    for lost, corrected in in_parallel(lambda task: _agree(output, mender, task), committed):
        repairs.lost += lost
        repairs.corrected += corrected
    return repairs


def settle(output: Output, known: Collection[str], run_id: str) -> Repairs:
    """After a run: what it wrote is reconciled, and what no living run wrote goes.

    The workers of a driver that was taken for dead can outlive it by moments, and commit rows that
    this run's filter did not know of.

    Args:
        output: as the run left it.
        known: bases of the write tasks that stood when the run began.
        run_id: of the run; the names of its files begin with it.
    """
    mender = _Mender(output)
    strays = [
        task
        for task in write_tasks(output)
        if task.base not in known and not task.base.startswith(f"{run_id}_")
    ]
    for task in strays:
        if task.committed:
            # First, so that a death in between leaves nothing that counts.
            mender.delete(output.checkpoint, task.base + COMMITTED)
        _drop_uncommitted(output, mender, task)
    repairs = reconcile(output, skip=known)
    repairs.uncommitted += sum(len(task.data) for task in strays)
    return repairs


def drop_failed(output: Output) -> int:
    """Take the failed rows out of a reconciled output, so that the run does them again.

    Their deaths are forgotten, or the ledger would fail them again unseen. That comes first: a
    death in between leaves failed rows, which the next run of the same command takes out.

    Returns:
        How many.
    """
    mender, journal = _Mender(output), Journal(output)
    dead = journal.dead()

    def failed(rows: pa.Table) -> pa.Array:
        flags = pc.equal(rows["route"], Route.FAILED.value)
        ids = rows["id"].filter(flags).to_pylist()
        journal.forget([name for name in ids if name in dead])
        return flags

    def drop(task: WriteTask) -> int:
        return _drop_rows(output, mender, task, failed, ["id", "route"])

    return sum(in_parallel(drop, write_tasks(output)))


def drop_doubled(output: Output, twice: Collection[int]) -> int:
    """Take rows out of a reconciled output whose id an earlier file holds already.

    Args:
        output: held by a lease.
        twice: hashes of the ids in question.

    Returns:
        How many.
    """
    mender, seen = _Mender(output), set[str]()

    def again(rows: pa.Table) -> pa.Array:
        flags, texts = [], rows["id"].to_pylist()
        for text, one in zip(texts, hashes_of(texts).tolist(), strict=True):
            flags.append(one in twice and text in seen)
            if one in twice:
                seen.add(text)
        return pa.array(flags, pa.bool_())

    return sum(_drop_rows(output, mender, task, again, ["id"]) for task in write_tasks(output))


def _drop_rows(
    output: Output,
    mender: _Mender,
    task: WriteTask,
    unwanted: Callable[[pa.Table], pa.Array],
    columns: list[str],
) -> int:
    dropped = 0
    for name in task.data:
        seen = read(output, output.rows, name, columns)
        assert seen is not None, f"{name} was whole a moment ago"
        flags = unwanted(seen)
        if count := int(pc.sum(flags).as_py() or 0):
            rows = read(output, output.rows, name)
            assert rows is not None, f"{name} was whole a moment ago"
            mender.replace(output.rows, name, rows.filter(pc.invert(flags)))
            dropped += count
    if dropped:
        _agree(output, mender, task)
    return dropped


def _drop_uncommitted(output: Output, mender: _Mender, task: WriteTask) -> None:
    # The data first: without its pending checkpoint a data file would look like a row file.
    for name in task.data:
        mender.delete(output.rows, name)
    if task.pending:
        mender.delete(output.checkpoint, task.base + PENDING)


def _agree(output: Output, mender: _Mender, task: WriteTask) -> tuple[int, int]:
    """Make one checkpoint say what the data files hold: records lost, checkpoints corrected."""
    held: list[str] = []
    for name in task.data:
        # All of it: a page that the disk has lost may be of any column.
        table = read(output, output.rows, name)
        if table is None:
            mender.delete(output.rows, name)
        else:
            held += table["id"].to_pylist()
    table = read(output, output.checkpoint, task.base + COMMITTED)
    said = None if table is None else table["id"].to_pylist()
    if said is not None and sorted(said) == sorted(held):
        return 0, 0
    ids = pa.table({"id": pa.array(held, pa.string())})
    mender.replace(output.checkpoint, task.base + COMMITTED, ids)
    lost = len(set(said or ()) - set(held))
    return lost, int(bool(held))
