"""Laws of a plan: the optimum is the optimum, and more is never slower."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import JobConfig
from pipeline.plan.costs import Overheads, PoolCost
from pipeline.plan.model import Job, Split, bottleneck, seconds, stage_seconds
from pipeline.plan.search import best_split
from pipeline.preflight import resolve
from sgl.errors import ConfigurationError
from tests.pipeline.plan.jobs import FREE, job

BLOCKS = (16, 64)
COSTS = st.builds(
    PoolCost,
    fixed_s=st.floats(0, 1),
    row_s=st.floats(0.001, 0.5),
    batch_rows=st.integers(1, 64),
    devices=st.sampled_from([0.4, 0.5, 1.0, 2.0]),
)
JOBS = st.builds(
    Job,
    records=st.integers(1, 5000),
    escalation=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    small=COSTS,
    large=COSTS,
    overheads=st.sampled_from([FREE, Overheads()]),
    cores=st.integers(1, 16),
    cores_per_device=st.sampled_from([0.5, 4.0]),
)


def brute_force(one: Job, devices: float) -> tuple[float, float]:
    """Least seconds, and the fewest devices that reach them, of every split that there is."""
    larges = range(1, 25) if one.escalates else [0]
    every = [Split(*split) for split in product(range(1, 25), larges, BLOCKS)]
    fitting = [split for split in every if one.devices(split) <= devices]
    least = min(seconds(one, split) for split in fitting)
    enough = [split for split in fitting if seconds(one, split) <= least * (1 + 1e-9)]
    return least, min(map(one.devices, enough))


@given(JOBS, st.integers(4, 12))
def test_the_search_finds_what_trying_everything_finds(one: Job, devices: int) -> None:
    split, took = best_split(one, devices, BLOCKS)
    least, fewest = brute_force(one, devices)
    assert took == pytest.approx(least)
    assert one.devices(split) == fewest


@given(JOBS, st.integers(4, 40), st.integers(1, 40))
def test_more_devices_are_never_slower(one: Job, devices: int, more: int) -> None:
    _, few = best_split(one, devices, BLOCKS)
    _, many = best_split(one, devices + more, BLOCKS)
    assert many <= few * (1 + 1e-9)


@given(JOBS, st.integers(1, 20), st.integers(1, 20))
def test_more_replicas_of_either_pool_are_never_slower(one: Job, small: int, large: int) -> None:
    split = Split(small, large if one.escalates else 0, 64)
    now = seconds(one, split)
    assert seconds(one, replace(split, small=small + 1)) <= now
    if one.escalates:
        assert seconds(one, replace(split, large=large + 1)) <= now


def test_slack_trades_time_for_devices() -> None:
    fastest, took = best_split(job(), 64, BLOCKS)
    cheaper, longer = best_split(job(), 64, BLOCKS, slack=0.5)
    assert took <= longer <= took * 1.5 * (1 + 1e-9)
    assert job().devices(cheaper) < job().devices(fastest)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"overheads": Overheads(fetch_s=10.0)}, "fetch"),
        ({"overheads": Overheads(fetch_s=0.0, write_s=1e5)}, "write"),
        ({"overheads": Overheads(driver_s=1e4)}, "driver"),
        ({"small": PoolCost(0.0, 50.0, 32)}, "small"),
        ({"large": PoolCost(0.0, 50.0, 16)}, "large"),
    ],
)
def test_what_is_slow_is_named(changes: dict[str, object], named: str) -> None:
    assert bottleneck(stage_seconds(job(**changes), Split(2, 2, 64))) == named


def test_pools_cut_to_what_the_driver_can_do_are_not_what_limits() -> None:
    one = job(overheads=Overheads(driver_s=0.5), records=100_000, cores=400)
    split, _ = best_split(one, 200, BLOCKS)
    assert one.devices(split) < 100
    assert bottleneck(stage_seconds(one, split)) == "driver"


def test_fewer_devices_than_a_replica_of_each_pool_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes 3 devices, and there are 2"):
        best_split(job(), 2, BLOCKS)


@given(JOBS, st.integers(4, 40))
def test_what_is_proposed_is_what_a_run_would_accept(one: Job, devices: int) -> None:
    """Shares that are left over on two GPUs make no replica."""
    split, _ = best_split(one, devices, BLOCKS)
    models = {role: {"path": role} for role in ("small", "large")}
    pools = {"small": {"replicas": split.small, "num_gpus": one.small.devices}}
    data: dict[str, Any] = {"mode": "small"}
    if split.large:
        pools["large"] = {"replicas": split.large, "num_gpus": one.large_cost().devices}
        data = {"threshold": 0.5}
    data |= {"input": {"path": "i"}, "output": {"path": "o"}, "models": models, "pools": pools}
    taken = one.devices(split)
    assert taken <= devices
    node = {"Alive": True, "Resources": {"CPU": 64.0, "GPU": float(taken)}}
    placed = resolve(JobConfig.model_validate(data), [node])
    assert placed.placements["small"].num_gpus == one.small.devices


def test_cores_come_with_the_devices_that_are_rented() -> None:
    """Decoding that limits is a reason to rent more of them."""
    slow = Overheads(fetch_s=2.0, write_s=0.0, driver_s=0.0)
    one = job(records=100_000, overheads=slow, cores=512, cores_per_device=8.0)
    split, took = best_split(one, 64, BLOCKS)
    assert one.devices(split) == 64
    assert took >= 100_000 * 2.0 / 512
