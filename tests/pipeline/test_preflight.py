import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import JobConfig
from pipeline.preflight import Placement, check_models, resolve
from sgl.errors import ConfigurationError
from tests.pipeline.inputs import job_of


def gpus(job: JobConfig, nodes: list[dict[str, Any]]) -> dict[str, float]:
    return {role: one.num_gpus for role, one in resolve(job, nodes).placements.items()}


def node(alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": resources}


def test_gpus_are_taken_where_the_cluster_has_them() -> None:
    job = job_of("in", "out")
    assert gpus(job, [node(CPU=4)]) == {"small": 0, "large": 0}
    assert gpus(job, [node(CPU=4, GPU=2)]) == {"small": 1, "large": 1}
    assert gpus(job, [node(CPU=4), node(False, GPU=8)]) == {"small": 0, "large": 0}


@pytest.mark.parametrize(
    ("small", "large", "cluster", "share"),
    [(1, 1, 1, 0.5), (1, 1, 2, 1), (2, 1, 2, 0.5), (3, 3, 2, 1 / 3), (4, 3, 2, 0.25), (1, 1, 9, 1)],
)
def test_few_gpus_are_shared_equally_so_that_all_replicas_fit(
    small: int, large: int, cluster: int, share: float
) -> None:
    job = job_of("in", "out", pools={"small": {"replicas": small}, "large": {"replicas": large}})
    assert set(gpus(job, [node(CPU=4, GPU=cluster)]).values()) == {share}


def test_what_is_written_wins() -> None:
    job = job_of("in", "out", pools={"small": {"num_gpus": 0}, "large": {"num_gpus": 2}})
    assert gpus(job, [node(CPU=4, GPU=2)]) == {"small": 0, "large": 2}


def test_a_mode_asks_for_its_own_pool_only() -> None:
    job = job_of("in", "out", mode="small", pools={"large": {"num_gpus": 8}})
    assert gpus(job, [node(CPU=4)]) == {"small": 0}


def models(**large: Any) -> dict[str, Any]:
    return {"small": {"path": "small"}, "large": {"path": "large", **large}}


@pytest.mark.parametrize(
    ("large", "pool", "cluster", "gpus_of_large"),
    [
        ({"tensor_parallel": 2}, {}, 4, 2),
        ({"tensor_parallel": 2}, {}, 0, 0),
        ({"tensor_parallel": 2}, {"num_gpus": 0}, 4, 0),
        ({"tensor_parallel": 2, "device": "cpu"}, {}, 4, 0),
        ({"tensor_parallel": 2}, {"num_gpus": 2}, 4, 2),
        ({"tensor_parallel": 1}, {"num_gpus": 3}, 4, 3),
        ({}, {"num_gpus": 3}, 4, 3),
        ({"device": "cpu"}, {}, 4, 0),
    ],
)
def test_the_processes_that_split_a_model_have_a_gpu_each(
    large: Any, pool: Any, cluster: int, gpus_of_large: int
) -> None:
    job = job_of("in", "out", models=models(**large), pools={"large": pool})
    assert gpus(job, [node(CPU=4, GPU=cluster)])["large"] == gpus_of_large


@pytest.mark.parametrize(
    ("large", "pool", "says"),
    [
        ({}, {"num_gpus": 1.5}, r"pools.large.num_gpus: 1.5 .* write 1 or 2"),
        ({"device": "cpu"}, {"num_gpus": 2}, r"models.large.device: 'cpu' .* write num_gpus: 0"),
        ({"tensor_parallel": 2}, {"num_gpus": 4}, "tensor_parallel: 2 .*num_gpus is 4"),
        ({"tensor_parallel": 2}, {"num_gpus": 0.5}, "tensor_parallel: 2 .*num_gpus is 0.5"),
        ({"tensor_parallel": 8}, {}, r"pools.large.num_gpus: .* 8, .* has 3"),
        ({}, {"num_gpus": 2, "replicas": 3}, "replicas: 3 .* 2 GPUs of one node, .* room for 2"),
    ],
)
def test_gpus_that_a_replica_could_not_all_use_are_refused(
    large: Any, pool: Any, says: str
) -> None:
    job = job_of("in", "out", mode="large", models=models(**large), pools={"large": pool})
    with pytest.raises(ConfigurationError, match=says):
        resolve(job, [node(CPU=4, GPU=3)] * 2)


@pytest.mark.parametrize(("num_gpus", "whole"), [(0, 1), (0.25, 1), (1, 1), (4, 4)])
def test_a_replica_is_told_of_whole_gpus(num_gpus: float, whole: int) -> None:
    assert Placement(num_gpus, 1).whole_gpus == whole


def test_processes_on_the_cpu_are_said() -> None:
    job = job_of("in", "out", models=models(tensor_parallel=2))
    described = resolve(job, [node(CPU=4)]).describe(job)
    assert described == "small: 1 x CPU, large: 1 x 2 processes on the CPU"


@pytest.mark.parametrize("nested", [True, False])
def test_heads_that_do_not_divide_are_refused_before_anything_loads(
    tmp_path: Path, nested: bool
) -> None:
    text = {"num_attention_heads": 28, "num_key_value_heads": 4, "intermediate_size": 18944}
    config = {"text_config": text} if nested else text
    (tmp_path / "config.json").write_text(json.dumps(config))

    def job(ranks: int) -> JobConfig:
        large = {"path": str(tmp_path), "tensor_parallel": ranks}
        return job_of("in", "out", mode="large", models={"large": large})

    check_models(job(4))
    with pytest.raises(ConfigurationError, match=r"models.large.tensor_parallel: .* 28 attention"):
        check_models(job(8))


@pytest.mark.parametrize(
    ("pools", "nodes", "says"),
    [
        ({"large": {"num_gpus": 1}}, [node(CPU=4)], r"pools.large.num_gpus: .* 1, .* has 0"),
        ({"large": {"num_gpus": 4}}, [node(CPU=4, GPU=2)] * 2, r"asks for 4.*largest node has 2"),
        (
            {"small": {"num_gpus": 1}, "large": {"num_gpus": 1, "replicas": 4}},
            [node(CPU=4, GPU=2)] * 2,
            r"5 num_gpus.*cluster has 4$",
        ),
        ({"small": {"num_cpus": 8}}, [node(CPU=4)], "pools.small.num_cpus"),
        ({"small": {"num_cpus": 2, "replicas": 3}}, [node(CPU=4)], "cluster has 4"),
        ({"small": {"num_cpus": 3.99}}, [node(CPU=4)], "5 num_cpus.*read, fetch and write 1"),
    ],
)
def test_what_no_node_has_is_refused(pools: Any, nodes: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        resolve(job_of("in", "out", pools=pools), nodes)


def test_a_checkpoint_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    models = {"small": {"path": str(tmp_path)}, "large": {"path": str(tmp_path / "none")}}
    with pytest.raises(ConfigurationError, match=r"models.large.path: no checkpoint at .*none"):
        check_models(job_of("in", "out", models=models))
    check_models(job_of("in", "out", models=models, mode="small"))
    check_models(job_of("in", "out", models={"small": {"path": "o/n"}, "large": {"path": "o/n"}}))


@pytest.mark.parametrize(
    ("small", "large", "nodes", "fits"),
    [
        ((1, 2), (1, 4), [4, 2], True),
        ((2, 2), (1, 4), [4, 4], True),
        ((2, 1), (1, 4), [5, 1], True),
        ((3, 1), (1, 4), [5, 2], True),
        ((2, 3), (1, 2), [4, 4], False),
        ((3, 1), (2, 3), [4, 5], True),
        ((2, 2), (1, 3), [6, 1], False),
        ((3, 0.6), (0, 1), [2], False),
        ((3, 0.6), (1, 1), [2, 2], True),
        ((4, 0.6), (1, 1), [2, 2], False),
        ((4, 0.4), (2, 0.6), [2], False),
        ((2, 0.4), (2, 0.6), [2], True),
        ((3, 1 / 3), (3, 1 / 3), [2], True),
    ],
)
def test_pools_that_fit_in_sum_but_not_on_the_nodes_are_refused(
    small: tuple[int, float], large: tuple[int, float], nodes: list[int], fits: bool
) -> None:
    pools = {
        role: {"replicas": count, "num_gpus": each}
        for role, (count, each) in (("small", small), ("large", large))
        if count
    }
    mode = "cascade" if large[0] else "small"
    job = job_of("in", "out", mode=mode, pools=pools)
    cluster = [node(CPU=4, GPU=gpus) for gpus in nodes]
    if fits:
        resolve(job, cluster)
    else:
        with pytest.raises(ConfigurationError, match=f"GPU|num_gpus.*{nodes[0]}"):
            resolve(job, cluster)


def test_the_refusal_tells_what_is_asked_and_what_each_node_has() -> None:
    pools = {"small": {"replicas": 2, "num_gpus": 2}, "large": {"num_gpus": 3}}
    with pytest.raises(ConfigurationError, match=r"small 2 x 2 and large 1 x 3 .* 6, 1$"):
        resolve(job_of("in", "out", pools=pools), [node(CPU=4, GPU=6), node(CPU=4, GPU=1)])


def test_cores_are_of_one_node_too() -> None:
    pools = {"small": {"num_cpus": 4}, "large": {"num_cpus": 4}}
    with pytest.raises(ConfigurationError, match=r"num_cpus are asked for"):
        resolve(job_of("in", "out", pools=pools), [node(CPU=6), node(CPU=3)])


def labelled(pool: str, **resources: float) -> dict[str, Any]:
    return node(**resources) | {"Labels": {"sgl-pool": pool, "ray.io/node-id": "1"}}


APART = {
    "small": {"replicas": 2, "num_gpus": 0.5, "node_labels": {"sgl-pool": "small"}},
    "large": {"replicas": 1, "num_gpus": 4, "node_labels": {"sgl-pool": "large"}},
}


def test_pools_on_nodes_of_their_own() -> None:
    job = job_of("in", "out", pools=APART)
    found = resolve(job, [labelled("small", CPU=4, GPU=1), labelled("large", CPU=4, GPU=4)])
    labels = {role: dict(one.node_labels) for role, one in found.placements.items()}
    assert labels == {"small": {"sgl-pool": "small"}, "large": {"sgl-pool": "large"}}


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([labelled("large", CPU=4, GPU=8)], "pools.small.node_labels: no node has sgl-pool=small"),
        (
            [labelled("small", CPU=4, GPU=8), labelled("large", CPU=4, GPU=2)],
            "pools.large.num_gpus: a replica asks for 4, and the largest node has 2",
        ),
        (
            [labelled("small", CPU=0.01, GPU=1), labelled("large", CPU=4, GPU=4)],
            "pools.small.node_labels: 2 replicas .* 0.01 num_cpus, .* have room for 1",
        ),
    ],
)
def test_what_other_pools_nodes_have_does_not_help(nodes: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        resolve(job_of("in", "out", pools=APART), nodes)


def zoned(*zones: str | None, **resources: float) -> list[dict[str, Any]]:
    return [node(**resources) | {"Labels": {"zone": zone} if zone else {}} for zone in zones]


@pytest.mark.parametrize("gpus", [1.0, 2.0, 0.75])
def test_what_is_on_nodes_that_neither_pool_may_be_on_does_not_help(gpus: float) -> None:
    """Each of them fits there alone, and in sum the cluster has enough."""
    pool = {"num_gpus": gpus, "node_labels": {"zone": "a"}}
    job = job_of("in", "out", pools={"small": pool, "large": pool})
    resolve(job, zoned("a", "a", CPU=4, GPU=2 if gpus > 1 else 1))
    with pytest.raises(ConfigurationError, match="no way to place them all"):
        resolve(job, zoned("a", None, CPU=4, GPU=2 if gpus > 1 else 1))


def test_a_pool_without_labels_takes_what_the_other_leaves() -> None:
    pools = {"small": {"num_gpus": 1}, "large": {"num_gpus": 1, "node_labels": {"zone": "a"}}}
    job = job_of("in", "out", pools=pools)
    resolve(job, zoned("a", None, CPU=4, GPU=1))
    resolve(job, zoned("a", CPU=4, GPU=2))
    with pytest.raises(ConfigurationError, match=r"pools: 2 num_gpus are needed"):
        resolve(job, zoned("a", CPU=4, GPU=1))


def test_what_no_node_can_mend_is_refused_before_any_is_looked_at() -> None:
    pools = {"large": {"num_gpus": 2.5}}
    with pytest.raises(ConfigurationError, match=r"pools.large.num_gpus: 2.5 is no whole number"):
        check_models(job_of("in", "out", pools=pools))
