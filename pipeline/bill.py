"""The bill of an output's runs, explained: every device-second of the pools has a reason.

    rows        forward passes whose results are in the output, as their rows have them
    probe       likewise, of the probe's further answers
    start-up    replicas that load their models, or wait for their place
    idle        loaded replicas that wait, and what stands around their forward passes
    recomputed  forward passes that died, or whose rows were lost or failed, and had to come again
    unexplained what is missing to replicas x devices x time: an error of the books

Rows and probe are read off the output; the rest is of the ledger's clock (pipeline/timesheet.py).
So the books agree only where both tell the same story.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.output import Output
from pipeline.rowfiles import in_parallel, read, visible
from pipeline.run_record import RunRecord, run_records
from pipeline.schema import PROBE
from pipeline.tally import latest

ROLES = ("small", "large")
_READS = (*("run_id", "small_gpu_s", "large_gpu_s"), "small_finished_at", "large_finished_at")


@dataclass(frozen=True)
class PoolBill:
    """Device-seconds of one pool; see the module's docstring.

    Attributes:
        pool_s: reserved, replicas x devices x time, each for as long as it had them.
        usd: price of them; None where none is known.
    """

    pool_s: float = 0.0
    rows_s: float = 0.0
    probe_s: float = 0.0
    startup_s: float = 0.0
    idle_s: float = 0.0
    recomputed_s: float = 0.0
    usd: float | None = None

    @property
    def unexplained_s(self) -> float:
        """The error; negative where more was booked than reserved."""
        booked = self.rows_s + self.probe_s + self.startup_s + self.idle_s + self.recomputed_s
        return self.pool_s - booked

    def plus(self, other: "PoolBill") -> "PoolBill":
        """Both; a price is known only where both are."""
        sums = {
            one.name: getattr(self, one.name) + getattr(other, one.name)
            for one in fields(self)
            if one.name != "usd"
        }
        known = self.usd is not None and other.usd is not None
        return PoolBill(**sums, usd=self.usd + other.usd if known else None)  # type: ignore[operator]


@dataclass(frozen=True)
class Bill:
    """Of all runs of an output.

    Attributes:
        pools: by role, over all runs.
        runs: by run and role.
        nodes: replica-seconds by node and role, times their devices.
        without_record: runs that have rows and whose time nobody kept.
    """

    pools: dict[str, PoolBill]
    runs: dict[str, dict[str, PoolBill]]
    nodes: dict[str, dict[str, float]]
    without_record: tuple[str, ...]


@dataclass
class Spent:
    """What one run's rows say that it took.

    Attributes:
        device_s: by role, of the run's own answers.
        probe_s: of the large model's others.
        until: when the last forward pass ended.
    """

    device_s: dict[str, float]
    probe_s: float = 0.0
    until: datetime | None = None

    def plus(self, other: "Spent") -> "Spent":
        """Both."""
        device_s = {role: s + other.device_s[role] for role, s in self.device_s.items()}
        return Spent(device_s, self.probe_s + other.probe_s, latest(self.until, other.until))


def bill_of(output: Output) -> Bill:
    """Read an output's rows and run records."""
    return bill_from(run_records(output), spent_by_run(_tables(output)))


def bill_from(records: Sequence[RunRecord], spent: Mapping[str, Spent]) -> Bill:
    """Of runs' records and what their rows took.

    Args:
        records: the earliest first.
        spent: by run.
    """
    runs = {
        one.run_id: {role: _pool_bill(one, role, spent.get(one.run_id)) for role in one.pools}
        for one in records
    }
    pools: dict[str, PoolBill] = {}
    for by_role in runs.values():
        for role, bill in by_role.items():
            pools[role] = pools[role].plus(bill) if role in pools else bill
    unknown = sorted(spent.keys() - runs.keys())
    return Bill(pools, runs, _nodes(records), tuple(unknown))


def spent_by_run(tables: Iterable[pa.Table]) -> dict[str, Spent]:
    """Sum up rows by the run that wrote them."""
    found: dict[str, Spent] = {}
    for table in tables:
        for run in pc.unique(table["run_id"]).to_pylist():
            rows = table.filter(pc.equal(table["run_id"], run))
            spent = found.setdefault(run, Spent(dict.fromkeys(ROLES, 0.0)))
            for role in ROLES:
                spent.device_s[role] += pc.sum(rows[f"{role}_gpu_s"]).as_py() or 0.0
                spent.until = latest(spent.until, pc.max(rows[f"{role}_finished_at"]).as_py())
            if PROBE.name in rows.column_names:
                probes = pc.list_flatten(rows[PROBE.name])
                spent.probe_s += pc.sum(pc.struct_field(probes, "gpu_s")).as_py() or 0.0
    return found


def _tables(output: Output) -> Iterator[pa.Table]:
    def some(name: str) -> pa.Table | None:
        return read(output, output.rows, name, [*_READS, PROBE.name])

    return (one for one in in_parallel(some, visible(output, output.rows)) if one is not None)


def _pool_bill(record: RunRecord, role: str, spent: Spent | None) -> PoolBill:
    pool = record.pools[role]
    each = [one for one in record.times.replicas if one.role == role]
    sums = {
        name: pool.devices * sum(getattr(one, name) for one in each)
        for name in ("startup_s", "waiting_s", "handling_s", "device_s", "lost_s", "open_s")
    }
    rows_s = spent.device_s[role] if spent else 0.0
    probe_s = spent.probe_s if spent and role == "large" else 0.0
    # A run that was killed worked on for a few seconds after its record was last written.
    unseen_s = record.held(role) * pool.devices * _unseen(record, spent)
    late_s = max(0.0, rows_s + probe_s - sums["device_s"])
    again_s = max(0.0, sums["device_s"] - rows_s - probe_s)
    pool_s = record.device_s(role, record.times.elapsed_s) + unseen_s
    return PoolBill(
        pool_s=pool_s,
        rows_s=rows_s,
        probe_s=probe_s,
        startup_s=sums["startup_s"],
        idle_s=sums["waiting_s"] + sums["handling_s"] + max(0.0, unseen_s - late_s),
        recomputed_s=again_s + sums["lost_s"] + sums["open_s"],
        usd=None if pool.usd_per_hour is None else pool_s * pool.usd_per_hour / 3600,
    )


def _unseen(record: RunRecord, spent: Spent | None) -> float:
    if record.ended or spent is None or spent.until is None:
        return 0.0
    return max(0.0, spent.until.timestamp() - record.started_at - record.times.elapsed_s)


def _nodes(records: Iterable[RunRecord]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for record in records:
        for one in record.times.replicas:
            found[one.node][one.role] += one.total_s * record.pools[one.role].devices
    return {node: dict(by_role) for node, by_role in found.items()}
