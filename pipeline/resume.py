"""The two ends of a run: what is left to do before it, and whether all is done after it."""

from dataclasses import dataclass
from datetime import UTC, datetime

from pipeline.audit import audit, count_rows, describe
from pipeline.ids import Difference, Spill, compare
from pipeline.output import Output, Success
from pipeline.reconcile import Repairs, drop_doubled, drop_failed, reconcile, settle
from pipeline.rowfiles import write_tasks
from pipeline.status import count_routes, digest_of_files
from sgl.errors import ConfigurationError


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        left: records without a row.
        retried: of them, those whose failed rows were taken out for this run.
        tasks: bases of the write tasks that stand.
        repairs: what had to be mended.
    """

    left: int
    retried: int
    tasks: frozenset[str]
    repairs: Repairs


def begin(output: Output, expected: Spill, *, retry_errors: bool) -> Start:
    """Reconcile an output and count what is left of its input.

    Args:
        output: held by a lease.
        expected: the ids of the input, each once.
        retry_errors: take the failed rows out, to be done again.

    Raises:
        ConfigurationError: it holds rows of records that the input does not have, or files that are
            not ours. Nothing has been deleted for their sake.
    """
    repairs = reconcile(output)
    # Failed rows that go anyway need not be of the input: a line that was no record had the name of
    # its place, and once it is mended it has another.
    with Spill() as found:
        count_rows(output, found, settled=retry_errors)
        difference = compare(expected, found)
        if difference.foreign:
            raise ConfigurationError(_foreign(output, expected, difference))
        # First, so that of doubled rows it is none of these that stays.
        retried = drop_failed(output) if retry_errors else 0
        if difference.doubled:
            repairs.doubled = drop_doubled(output, found.twice())
    tasks = frozenset(task.base for task in write_tasks(output))
    return Start(difference.missing, retried, tasks, repairs)


def _foreign(output: Output, expected: Spill, difference: Difference) -> str:
    with Spill() as settled:
        count_rows(output, settled, settled=True)
        mended = not compare(expected, settled).foreign
    remedy = "give the whole input, or write another directory"
    if mended:
        remedy = "all of them have failed; --retry-errors takes them out and does what is missing"
    return f"output.path: {describe(difference, output)}; {remedy}"


def finish(output: Output, expected: Spill, start: Start, run_id: str) -> Repairs:
    """Reconcile what a run left, audit the whole output and mark it complete.

    Returns:
        What had to be mended.

    Raises:
        AuditError: it is not.
    """
    repairs = settle(output, start.tasks, run_id)
    audit(output, expected)
    success = Success(
        run_id=run_id,
        fingerprint=output.fingerprint,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        records=expected.count,
        routes=count_routes(output),
        files=digest_of_files(output),
    )
    output.tell(success)
    return repairs
