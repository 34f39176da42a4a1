"""The identity of the bill, on books and rows made by hand."""

import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.s3 import DEFAULT
from pipeline.balance.record import BalanceRecord
from pipeline.bill import PoolBill, bill_of
from pipeline.output import Output
from pipeline.run_record import PoolRecord, RunRecord, kept, run_records
from pipeline.schema import INSTANT, PROBE
from pipeline.timesheet import ReplicaTime, Times

STARTED = 1_000.0
GPU: dict[str, Any] = {"device": "gpu", "usd_per_hour": 3600.0, "price": "as given"}
POOLS = {
    "small": PoolRecord(
        replicas=1, devices=0.5, device="gpu", usd_per_hour=3600.0, price="as given"
    ),
    "large": PoolRecord(
        replicas=2, devices=4.0, device="gpu", usd_per_hour=3600.0, price="as given"
    ),
}


def output_in(folder: Path) -> Output:
    return Output(str(folder), "fingerprint", DEFAULT)


def replica(role: str, **seconds: float) -> ReplicaTime:
    names = ("startup_s", "waiting_s", "device_s", "handling_s", "lost_s", "open_s")
    spent = dict.fromkeys(names, 0.0) | seconds
    return ReplicaTime(role=role, node="10.0.0.1", starts=1, **spent)


LARGE = (
    replica("large", startup_s=2, waiting_s=3, device_s=4, handling_s=1),
    replica("large", startup_s=2, waiting_s=2, device_s=3, lost_s=2, open_s=1),
)
SMALL = replica("small", startup_s=4, waiting_s=2, device_s=4)


def record_in(folder: Path, run_id: str = "run", **settings: Any) -> None:
    record = RunRecord(
        run_id=run_id,
        started_at=STARTED,
        pools=POOLS,
        **({"ended": True, "times": Times(elapsed_s=10, replicas=(SMALL, *LARGE))} | settings),
    )
    (folder / "runs").mkdir(exist_ok=True)
    (folder / "runs" / f"{run_id}.json").write_text(record.model_dump_json())


def rows_in(folder: Path, run_id: str = "run", until: float = 9.0) -> None:
    """Two rows: small 1 + 1 device-seconds, large 20, and 4 for a probe."""
    ended = pa.array([datetime.fromtimestamp(STARTED + until, UTC)] * 2, INSTANT)
    (folder / "rows").mkdir(exist_ok=True)
    table = pa.table(
        {
            "run_id": [run_id] * 2,
            "small_gpu_s": [1.0, 1.0],
            "large_gpu_s": [None, 20.0],
            "small_finished_at": ended,
            "large_finished_at": ended,
            PROBE.name: pa.array([None, [{"gpu_s": 1.0}, {"gpu_s": 3.0}]], PROBE.type),
        }
    )
    pq.write_table(table, folder / "rows" / f"{run_id}.parquet")


def test_parts_of_a_pool_add_up_to_what_was_reserved(tmp_path: Path) -> None:
    record_in(tmp_path)
    rows_in(tmp_path)
    bill = bill_of(output_in(tmp_path))
    assert bill.pools["small"] == PoolBill(5.0, 2.0, 0.0, 2.0, 1.0, 0.0, usd=5.0)
    # 4 x (4 + 3) device-seconds ran, of which 24 are in the output; 4 x 3 were lost.
    assert bill.pools["large"] == PoolBill(80.0, 20.0, 4.0, 16.0, 24.0, 16.0, usd=80.0)
    assert [one.unexplained_s for one in bill.pools.values()] == [0.0, 0.0]
    assert bill.nodes == {"10.0.0.1": {"small": 5.0, "large": 80.0}}


def test_time_that_nobody_booked_is_unexplained(tmp_path: Path) -> None:
    record_in(tmp_path, times=Times(elapsed_s=12, replicas=(SMALL, *LARGE)))
    rows_in(tmp_path)
    assert bill_of(output_in(tmp_path)).pools["large"].unexplained_s == pytest.approx(16.0)


def test_rows_that_were_lost_were_recomputed(tmp_path: Path) -> None:
    record_in(tmp_path)
    large = bill_of(output_in(tmp_path)).pools["large"]
    assert (large.rows_s, large.recomputed_s, large.unexplained_s) == (0.0, 40.0, 0.0)


def test_runs_add_up_and_those_without_a_record_are_named(tmp_path: Path) -> None:
    record_in(tmp_path)
    record_in(tmp_path, "later")
    rows_in(tmp_path)
    rows_in(tmp_path, "unheard")
    bill = bill_of(output_in(tmp_path))
    assert bill.pools["large"].pool_s == 160.0
    assert bill.runs["later"]["large"].rows_s == 0.0
    assert bill.without_record == ("unheard",)


def test_a_killed_run_is_billed_to_its_last_row(tmp_path: Path) -> None:
    """Its record is 10 s old; its last row came at 12 s, and is of 2 device-seconds unbooked."""
    small = replica("small", startup_s=4, waiting_s=4, device_s=2)
    record_in(tmp_path, ended=False, times=Times(elapsed_s=10, replicas=(small,)))
    rows_in(tmp_path, until=12.0)
    bill = bill_of(output_in(tmp_path)).pools["small"]
    assert bill == PoolBill(6.0, 2.0, 0.0, 2.0, 2.0, 0.0, usd=6.0)
    assert bill.unexplained_s == 0.0


def test_a_pool_without_a_price_has_no_dollars_in_any_sum(tmp_path: Path) -> None:
    record_in(tmp_path)
    free = {role: pool.model_copy(update={"usd_per_hour": None}) for role, pool in POOLS.items()}
    record_in(tmp_path, "later")
    path = tmp_path / "runs" / "later.json"
    later = RunRecord.model_validate_json(path.read_text()).model_copy(update={"pools": free})
    path.write_text(later.model_dump_json())
    assert bill_of(output_in(tmp_path)).pools["large"].usd is None


def test_a_damaged_record_is_left_out(tmp_path: Path) -> None:
    record_in(tmp_path)
    (tmp_path / "runs" / "broken.json").write_text("{")
    assert [one.run_id for one in run_records(output_in(tmp_path))] == ["run"]


def test_a_record_is_kept_while_the_run_lasts_and_completed_when_it_raises(tmp_path: Path) -> None:
    output, asked = output_in(tmp_path), threading.Event()
    begun = RunRecord(run_id="run", started_at=time.time(), ended=False, pools=POOLS)
    answers = [Times(elapsed_s=1, replicas=()), None, Times(elapsed_s=3, replicas=())]

    def times() -> Times | None:
        if len(answers) == 1:
            asked.set()
        return answers.pop(0) if answers else None

    def job() -> None:
        with kept(output, begun, times, 0.01):
            assert asked.wait(30)
            (record,) = run_records(output)
            assert not record.ended
            raise RuntimeError("the job fails")

    with pytest.raises(RuntimeError, match="job"):
        job()
    (record,) = run_records(output)
    assert record.times.elapsed_s == 3


def test_a_ledger_that_begins_anew_makes_no_run_cheaper(tmp_path: Path) -> None:
    output, asked = output_in(tmp_path), threading.Event()
    begun = RunRecord(run_id="run", started_at=time.time() - 3600, ended=False, pools=POOLS)
    booked = Times(elapsed_s=3000, replicas=LARGE)
    answers = [booked, Times(elapsed_s=60, replicas=())]

    def times() -> Times:
        if len(answers) == 1:
            asked.set()
        return answers.pop(0) if len(answers) > 1 else answers[0]

    with kept(output, begun, times, 0.01):
        assert asked.wait(30)
    (record,) = run_records(output)
    assert record.times.elapsed_s >= 3600
    assert record.times.replicas == LARGE


def test_a_run_that_is_killed_at_once_has_its_record(tmp_path: Path) -> None:
    output = output_in(tmp_path)
    begun = RunRecord(run_id="run", started_at=time.time(), ended=False, pools=POOLS)
    with kept(output, begun, lambda: None, 600.0):
        deadline = time.monotonic() + 30
        while not run_records(output):
            assert time.monotonic() < deadline


def test_a_record_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    begun = RunRecord(run_id="run", started_at=time.time(), ended=False, pools=POOLS)
    with kept(output_in(tmp_path), begun, lambda: None, 60.0):
        pass


def test_replicas_that_came_and_went_are_paid_for_as_long_as_they_were_there(
    tmp_path: Path,
) -> None:
    """One of the two large replicas went after 6 s, and a small one came for the rest."""
    came = replica("small", startup_s=1, waiting_s=1, device_s=2)
    gone = replica("large", startup_s=2, waiting_s=2, device_s=2)
    record_in(
        tmp_path,
        times=Times(elapsed_s=10, replicas=(SMALL, came, LARGE[0], gone)),
        balance=BalanceRecord(
            held={"small": 2, "large": 1}, beyond_s={"small": 4.0, "large": -4.0}
        ),
    )
    bill = bill_of(output_in(tmp_path))
    assert bill.pools["small"].pool_s == 0.5 * (10 + 4)
    assert bill.pools["large"].pool_s == 4.0 * (10 + 6)
    assert bill.pools["small"].unexplained_s == 0
    assert bill.pools["large"].unexplained_s == 0
    assert bill.pools["large"].usd == 64.0


def test_of_a_killed_run_the_replicas_that_it_had_last_worked_on(tmp_path: Path) -> None:
    balance = BalanceRecord(held={"small": 3, "large": 1}, beyond_s={"small": 0.0, "large": 0.0})
    record_in(tmp_path, ended=False, balance=balance)
    rows_in(tmp_path, until=12.0)
    assert bill_of(output_in(tmp_path)).pools["small"].pool_s == 0.5 * (10 + 3 * 2)
