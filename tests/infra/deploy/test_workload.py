"""Nodes that hold the replicas of a pool."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from infra.deploy.config import DeployConfig
from infra.deploy.workload import Pool, Workload, groups_of

IMAGE = "registry.example/sgl:1"


def nodes(replicas: int, num_gpus: float, busy: float = 0.01, **small: object) -> tuple[int, int]:
    config = DeployConfig.model_validate({"image": IMAGE, "small": small})
    pool = Pool("small", replicas, replicas, num_gpus, busy)
    (group,) = groups_of(Workload({}, (pool,)), config)
    assert group.least == group.most
    return group.least, group.gpus


@pytest.mark.parametrize(
    ("replicas", "num_gpus", "small", "expected"),
    [
        (8, 0.25, {}, (2, 1)),
        (8, 0.3, {}, (3, 1)),
        (3, 1 / 3, {}, (1, 1)),
        (8, 0.25, {"gpus": 2}, (1, 2)),
        (3, 2, {"gpus": 8}, (1, 8)),
        (3, 4, {}, (3, 4)),
        (3, 3, {"gpus": 8}, (2, 8)),
        (5, 0, {}, (1, 0)),
    ],
)
def test_as_few_nodes_as_hold_them(
    replicas: int, num_gpus: float, small: dict[str, int], expected: tuple[int, int]
) -> None:
    assert nodes(replicas, num_gpus, **small) == expected


def test_threads_on_cores_are_counted() -> None:
    assert nodes(5, 0, 2.0, cpus=4) == (3, 0)
    assert nodes(8, 0.25, 2.0, cpus=4) == (4, 1)


@given(st.integers(1, 50), st.sampled_from([0.1, 0.2, 0.25, 0.5, 1, 2, 4]), st.integers(4, 8))
def test_gpus_are_enough_and_a_node_less_is_not(replicas: int, each: float, gpus: int) -> None:
    count, _ = nodes(replicas, each, gpus=gpus)
    per_node = gpus * math.floor(1 / each + 1e-9) if each < 1 else gpus // int(each)
    assert (count - 1) * per_node < replicas <= count * per_node


@pytest.mark.parametrize(
    ("num_gpus", "busy", "small", "says"),
    [
        (4, 0.01, {"gpus": 2}, r"deploy.small.gpus: a replica takes 4 .* has 2; write 4 or more"),
        (0, 0.01, {"gpus": 1}, r"deploy.small.gpus: replicas run on the CPU, .* leave it out"),
        (0, 8.0, {"cpus": 4}, r"deploy.small.cpus: a replica keeps 8 busy, .* has 4; write 8"),
    ],
)
def test_what_fits_on_no_node_is_refused(
    num_gpus: float, busy: float, small: dict[str, int], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        nodes(1, num_gpus, busy, **small)


@pytest.mark.parametrize("image", ["sgl", "sgl:latest", "host:5000/sgl", "host:5000/sgl:latest"])
def test_an_image_that_may_change_is_refused(image: str) -> None:
    with pytest.raises(ValidationError, match="another image tomorrow"):
        DeployConfig(image=image)


@pytest.mark.parametrize("image", ["sgl:1", "host:5000/sgl:1-cuda", "sgl@sha256:" + "0" * 64])
def test_one_that_stays_is_taken(image: str) -> None:
    assert DeployConfig(image=image).image == image


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "Sgl"},
        {"large": {"accelerator": "cpu"}},
        {"large": {"gpu": 8}},
        {"small": {"node_selector": {"a b": "c"}}},
        {"role_arn": "sgl"},
        {"volume": {"mount": "models"}},
        {"aws": {"region": "us-east-1", "image_id": "ami-1", "subnets": [], "security_groups": []}},
    ],
)
def test_wishes_that_no_cluster_can_meet(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DeployConfig.model_validate({"image": IMAGE} | wrong)
