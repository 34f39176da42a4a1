from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.balance.splits import Limits, Share, Split, limits_of
from sgl.errors import ConfigurationError
from tests.pipeline.inputs import job_of


def limits(small: Share, large: Share, devices: float) -> Limits:
    return Limits(small, large, devices)


def job(small: dict[str, Any], large: dict[str, Any]) -> Any:
    return job_of("in", "out", pools={"small": small, "large": large, "balance": True})


def test_all_devices_are_shared_out_in_every_split() -> None:
    found = limits(Share(1, 1, 8), Share(1, 1, 8), 8).splits()
    assert found == [Split(8 - large, large) for large in range(1, 8)]


def test_a_large_replica_of_four_gpus_is_worth_sixteen_small_ones_of_a_quarter() -> None:
    found = limits(Share(0.25, 1, 99), Share(4, 1, 99), 12).splits()
    assert found == [Split(32, 1), Split(16, 2)]


def test_limits_of_the_settings_hold() -> None:
    found = limits(Share(1, 2, 5), Share(1, 2, 5), 8).splits()
    assert found == [Split(5, 3), Split(4, 4), Split(3, 5)]


@given(
    st.sampled_from([0.25, 0.5, 1, 2]),
    st.sampled_from([0.5, 1, 2, 4, 8]),
    st.integers(1, 64),
    st.integers(1, 3),
    st.integers(1, 30),
)
def test_no_split_is_beyond_a_limit_and_none_leaves_room(
    small: float, large: float, devices: int, least: int, most: int
) -> None:
    of = limits(Share(small, least, least + most), Share(large, least, least + most), devices)
    for split in of.splits():
        assert of.fits(split)
        assert not of.fits(Split(split.small + 1, split.large))
        assert not of.fits(Split(split.small, split.large + 1))


def test_behind_the_end_of_the_input_the_large_pool_takes_all() -> None:
    of = limits(Share(1, 1, 7), Share(2, 1, 3), 8)
    assert of.without_small(1) == [Split(0, 2), Split(0, 3)]


def test_what_the_settings_leave_open_the_devices_settle() -> None:
    given = job({"replicas": 4, "num_gpus": 0.5}, {"replicas": 2, "num_gpus": 2})
    found = limits_of(given, {"small": 0.5, "large": 2.0}, {"small": 0.5, "large": 2.0})
    assert found.devices == 6
    assert (found.small.most, found.large.most) == (12, 3)


@pytest.mark.parametrize(
    ("small", "large", "told"),
    [
        ({"num_gpus": 0}, {"num_gpus": 1}, "one pool is on GPUs and the other on the CPU"),
        ({"num_gpus": 1}, {"num_gpus": 4}, "no other split than 1 and 1"),
        ({"num_gpus": 1, "replicas": 2, "min_replicas": 2}, {"num_gpus": 1}, "no other split"),
    ],
)
def test_what_cannot_be_balanced_is_refused(
    small: dict[str, Any], large: dict[str, Any], told: str
) -> None:
    gpus = {"small": small["num_gpus"], "large": large["num_gpus"]}
    with pytest.raises(ConfigurationError, match=told):
        limits_of(job(small, large), gpus, {role: n or 1.0 for role, n in gpus.items()})


@pytest.mark.parametrize(
    ("pools", "told"),
    [
        ({"small": {"max_replicas": 4}}, "pools.balance: true, or leave it out"),
        ({"small": {"replicas": 1, "min_replicas": 2}, "balance": True}, "below min_replicas"),
        ({"large": {"replicas": 3, "max_replicas": 2}, "balance": True}, "above max_replicas"),
        ({"large": {"node_labels": {"pool": "large"}}, "balance": True}, "no device can move"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(pools: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        job_of("in", "out", pools=pools)


def test_one_pool_has_nothing_to_balance() -> None:
    with pytest.raises(ValueError, match="one pool only"):
        job_of("in", "out", mode="small", pools={"balance": True})
