"""A run whose pools are balanced, on a cluster of raylets with GPUs that are none."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RECORDS = 800
BALANCED = """
import json, sys
from collections import Counter
from pathlib import Path
import pyarrow.parquet as pq
from benchmarks.balance_runs import Seconds, Stretch, local_cluster, run, write_stream

folder = Path(sys.argv[1])
stream = write_stream([Stretch(320, 0.1), Stretch(480, 0.6)], folder / "in.parquet")
with local_cluster(6):
    outcome, record = run(
        stream, folder / "out", Seconds(0.2, 0.6, 0.5), (5, 1), balance=True
    )
rows = pq.read_table(outcome.output.rows)
print(json.dumps({
    "ids": Counter(Counter(rows["id"].to_pylist()).values()),
    "routes": Counter(rows["route"].to_pylist()),
    "record": record.model_dump(mode="json"),
    "unexplained": {role: bill.unexplained_s for role, bill in outcome.bill.pools.items()},
    "pool_s": {role: bill.pool_s for role, bill in outcome.bill.pools.items()},
    "recomputed": {role: bill.recomputed_s for role, bill in outcome.bill.pools.items()},
}))
"""


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a stream left behind whose escalation rate jumps from 10 % to 60 %."""
    folder = tmp_path_factory.mktemp("balanced")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", BALANCED, str(folder)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_every_record_is_there_once_and_none_was_done_twice(balanced: dict[str, Any]) -> None:
    assert balanced["ids"] == {"1": RECORDS}
    assert balanced["routes"] == {"small": 480, "large": 320}
    # A difference of sums, which rounding leaves a little of.
    assert balanced["recomputed"] == pytest.approx({"small": 0.0, "large": 0.0}, abs=1e-6)


def test_devices_have_moved_to_the_large_pool(balanced: dict[str, Any]) -> None:
    moves = balanced["record"]["balance"]["moves"]
    before_the_end = [one for one in moves if one["small"][1]]
    assert before_the_end[0]["small"][0] == 5
    # How far it goes is a matter of what is left by then, which a busy machine changes.
    assert before_the_end[-1]["large"][1] > before_the_end[0]["large"][0]
    assert all(one["small"][1] + one["large"][1] <= 6 for one in moves)
    assert before_the_end[0]["done_s"] > before_the_end[0]["freed_s"]


def test_no_death_is_seen_in_a_replica_that_went(balanced: dict[str, Any]) -> None:
    replicas = balanced["record"]["times"]["replicas"]
    assert len(replicas) > 6
    assert all(one["starts"] <= 1 for one in replicas)
    assert sum(one["late"] for one in replicas) == len(replicas) - 6


def test_the_bill_holds_the_seconds_of_replicas_that_have_gone(balanced: dict[str, Any]) -> None:
    """The ledger's times of each replica against the driver's of the pools."""
    for role, unexplained_s in balanced["unexplained"].items():
        assert abs(unexplained_s) < 0.03 * balanced["pool_s"][role]
