"""Pools on nodes of their own: raylets with labels and GPUs that are none, which come and go.

One cluster plays a job during which the large pool's node joins late, then each pool's node is
killed and another joins; then the same job in peace, one whose nodes there are none of, and an
endpoint's replicas.
"""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.bill import bill_of
from tests.chaos.cluster import ROOT, ChaosCluster, wait_until
from tests.chaos.job import write_config
from tests.chaos.judge import judge, rows_in
from tests.chaos.place import on_disk
from tests.integration.placed import LARGE, POOLS, SMALL, held, places
from tests.pipeline.inputs import job_of, records, write_parquet

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

COUNT = 96
WAIT_S = 120.0
LIMIT_S = 300.0
"""For what takes seconds, on a machine that has other things to do as well."""
DRIVER = """
import sys
from pathlib import Path
from tests.integration.placed import drive
drive(Path(sys.argv[1]), {"disturbed": 0.1, "calm": 0.0, "refused": 0.0})
"""
NOWHERE = POOLS | {"large": POOLS["large"] | {"node_labels": {"sgl-pool": "huge"}}}


@dataclass(frozen=True)
class Played:
    """What is left of it.

    Attributes:
        folder: of everything.
        nodes: Ray's ids of each pool's nodes, in the order in which they joined.
        said: by the driver.
        code: its exit code.
    """

    folder: Path
    nodes: Mapping[str, tuple[str, str]]
    said: str
    code: int


def write_job(folder: Path, name: str, address: str, pools: dict[str, Any], wait_s: float) -> None:
    job = job_of(
        folder / "in.parquet",
        folder / name,
        output={"rows_per_file": 8},
        pools=pools,
        ray={"address": address, "nodes_wait_s": wait_s},
    )
    write_config(job, folder / f"{name}.yaml")


def play(cluster: ChaosCluster, folder: Path) -> Played:
    """The driver's life; nodes join and die at moments of it."""
    write_parquet(folder / "in.parquet", records(COUNT))
    write_job(folder, "disturbed", cluster.address, POOLS, WAIT_S)
    write_job(folder, "calm", cluster.address, POOLS, 0.0)
    write_job(folder, "refused", cluster.address, NOWHERE, 1.0)
    said, log = folder / "said.txt", folder / "disturbed.log"
    with said.open("wb") as file:
        driver = subprocess.Popen(
            [sys.executable, "-uc", DRIVER, str(folder)],
            cwd=ROOT,
            env=cluster.environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:

        def until(holds: Callable[[], bool], what: str) -> None:
            wait_until(lambda: holds() or driver.poll() is not None, LIMIT_S, what)
            assert driver.poll() is None, said.read_text()

        until(lambda: "nodes to join" in said.read_text(), "the driver waits for nodes")
        first = {"small": cluster.raylets[0], "large": cluster.add(LARGE)}
        second = {}
        for role, raylet in first.items():
            until((log / held(role)).exists, f"the {role} pool works")
            second[role] = cluster.replace(raylet)
        code = driver.wait(LIMIT_S)
    finally:
        driver.kill()
        driver.wait()
    nodes = {role: (cluster.nodes[first[role]], cluster.nodes[second[role]]) for role in first}
    return Played(folder, nodes, said.read_text(), code)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    with ChaosCluster((SMALL,)) as cluster:
        yield play(cluster, tmp_path_factory.mktemp("apart"))


def test_nodes_that_join_late_are_waited_for_and_that_is_told(played: Played) -> None:
    assert played.code == 0, played.said
    waiting, *_ = (line for line in played.said.splitlines() if "nodes to join" in line)
    assert "120 s at most" in waiting
    assert "pools.large.node_labels: no node has sgl-pool=large" in waiting


def test_every_replica_is_on_a_node_of_its_pool_with_gpus_of_its_own(played: Played) -> None:
    for name, generations in (("disturbed", (0, 1)), ("calm", (1,)), ("endpoint", (1,))):
        found = places(played.folder / f"{name}.log")
        for role, gpus in (("small", [("0",), ("0",)]), ("large", [("0", "1"), ("2", "3")])):
            nodes = [played.nodes[role][generation] for generation in generations]
            # And those of the node that joined are the ones that the killed node's became.
            assert {one.node for one in found if one.role == role} == set(nodes)
            for node in nodes:
                # A replica that has not started when the last record is done never does.
                there = Counter(one.gpus for one in found if one.node == node)
                assert there
                assert there <= Counter(gpus), (name, role)


def test_nothing_is_lost_or_twice_and_all_answers_are_the_calm_runs(played: Played) -> None:
    calm = on_disk(played.folder / "calm").output()
    wanted = {row["id"]: row for row in rows_in(calm)}
    assert Counter(row["route"] for row in wanted.values()).keys() == {"small", "large"}
    assert len(wanted) == COUNT
    verdict = judge(on_disk(played.folder / "disturbed").output(), wanted, time.time())
    assert verdict.problems == ()


def test_the_bill_adds_up_and_says_what_was_done_again(played: Played) -> None:
    for name in ("disturbed", "calm"):
        bill = bill_of(on_disk(played.folder / name).output())
        assert len(bill.runs) == 1
        for role, pool in bill.pools.items():
            assert abs(pool.unexplained_s) <= 0.01 * pool.pool_s, (name, role, bill)
            assert pool.usd is not None
            assert (pool.recomputed_s > 0.01) == (name == "disturbed"), (name, role, bill)


def test_a_label_that_no_node_has_is_refused_in_time(played: Played) -> None:
    (line,) = (line for line in played.said.splitlines() if line.startswith("refused: "))
    assert line == (
        "refused: pools.large.node_labels: no node has sgl-pool=huge; start nodes with ray start "
        "--labels sgl-pool=huge, or leave node_labels out"
    )
    assert not (played.folder / "refused" / "rows").exists()
