from pathlib import Path
from typing import Any

import pytest

from pipeline.config import JobConfig
from pipeline.preflight import check_models, resolve
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
