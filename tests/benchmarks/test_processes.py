import os
import time

import pytest

from benchmarks.fresh import Fresh
from benchmarks.processes import Watcher, cpu_by_kind, kind_of, memory_of, own_bytes, tree


def _hold(mebibytes: int) -> tuple[int, int]:
    before = own_bytes(os.getpid())
    held = b"x" * (mebibytes << 20)
    return own_bytes(os.getpid()) - before, len(held)


def _fail() -> None:
    raise ValueError("no result")


def _nested(cores: set[int]) -> tuple[set[int], set[int]]:
    process = Fresh(os.sched_getaffinity, 0)
    below = {one.pid for one in tree(os.getpid())}
    assert process.pid in below
    return os.sched_getaffinity(0) & cores, process.result()


def test_a_process_owns_what_it_allocates() -> None:
    grown, held = Fresh(_hold, 64).result()
    assert grown == pytest.approx(held, rel=0.1)


def test_a_process_that_fails_is_an_error() -> None:
    with pytest.raises(ChildProcessError, match="_fail"):
        Fresh(_fail).result()


def test_the_cores_hold_for_descendants_too() -> None:
    cores = set(list(os.sched_getaffinity(0))[:1])
    assert Fresh(_nested, cores, cores=cores).result() == (cores, cores)


def test_what_has_ended_holds_nothing() -> None:
    process = Fresh(os.getpid)
    pid = process.result()
    assert own_bytes(pid) == 0
    assert tree(pid) == []


def test_sums_are_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = {
        2: "/site-packages/ray/core/src/ray/gcs/gcs_server --port",
        3: "/site-packages/ray/core/src/ray/raylet/raylet --x",
        4: "ray::MapWorker(MapBatches(SmallStage))",
        5: "python /ray/_private/workers/default_worker.py --x",
        6: "ray::DashboardAgent",
        7: "python -u /ray/_private/log_monitor.py",
    }
    monkeypatch.setattr("benchmarks.processes.command_of", commands.get)
    kinds = [kind_of(pid, 1) for pid in range(1, 8)]
    assert kinds == ["driver", "gcs", "raylet", "workers", "workers", "others", "others"]


def test_this_process_is_its_own_driver() -> None:
    assert memory_of(os.getpid()).by_kind["driver"] > 1 << 20
    before = cpu_by_kind(os.getpid())["driver"]
    started = time.process_time()
    while time.process_time() < started + 0.1:
        pass
    assert cpu_by_kind(os.getpid())["driver"] - before >= 0.05


def test_a_watcher_looks_until_the_block_ends() -> None:
    looks = iter(range(1_000_000))
    with Watcher(lambda: next(looks), 0.001) as watcher:
        while len(watcher.seen) < 3:
            time.sleep(0.001)
    seen = list(watcher.seen)
    assert [number for _, number in seen] == list(range(len(seen)))
    assert [at for at, _ in seen] == sorted(at for at, _ in seen)
