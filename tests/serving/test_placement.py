"""What the pools reserve, on clusters that have it or not."""

import logging
from typing import Any

import pytest

from serving.app import _pool
from serving.placement import placed
from serving.pools import SmallPool
from sgl.errors import ConfigurationError
from tests.serving.fakes import config_of


def node(**resources: float) -> dict[str, Any]:
    return {"Alive": True, "Resources": {"CPU": 4.0} | resources}


def gpus(nodes: list[dict[str, Any]], **pools: Any) -> tuple[float | None, float | None]:
    config = placed(config_of(pools=pools), nodes)
    return config.pools.small.num_gpus, config.pools.large.num_gpus


def test_replicas_share_a_single_gpu() -> None:
    assert gpus([node(GPU=1)]) == (0.5, 0.5)
    assert gpus([node(GPU=1)], small={"replicas": 3}) == (0.25, 0.25)
    assert gpus([node(GPU=2)]) == (1.0, 1.0)
    assert gpus([node()]) == (0.0, 0.0)


def test_what_no_node_has_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"pools.large.num_gpus: .* 8, .* has 1"):
        gpus([node(GPU=1)], large={"num_gpus": 8})


def test_the_ingress_takes_cores_too() -> None:
    config = config_of(listen={"replicas": 4, "num_cpus": 1})
    with pytest.raises(ConfigurationError, match="ingress 4"):
        placed(config, [node(CPU=4)])


def test_one_core_is_enough() -> None:
    placed(config_of(), [node(CPU=1)])


def test_a_split_model_has_its_gpus() -> None:
    models = {"small": {"path": "s"}, "large": {"path": "l", "tensor_parallel": 2}}
    config = placed(config_of(models=models), [node(GPU=4)])
    assert config.pools.large.num_gpus == 2
    with pytest.raises(ConfigurationError, match="num_gpus"):
        placed(config_of(models=models), [node(GPU=1)])


def test_what_comes_with_the_load_may_wait(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = gpus([node(GPU=2)], large={"num_gpus": 1, "max_replicas": 4})
    assert found == (1.0, 1.0)
    assert "max_replicas" in caplog.text


def test_settings_that_no_replica_can_have_are_told() -> None:
    models = {"small": {"path": "s", "cuda_graphs": True}, "large": {"path": "l"}}
    with pytest.raises(ConfigurationError, match=r"models\.small\.cuda_graphs"):
        placed(config_of(models=models), [node()])


def on(pool: str, **resources: float) -> dict[str, Any]:
    return node(**resources) | {"Labels": {"sgl-pool": pool}}


APART = {
    "small": {"num_gpus": 0.5, "node_labels": {"sgl-pool": "small"}},
    "large": {"num_gpus": 2, "node_labels": {"sgl-pool": "large"}},
}


def test_replicas_ask_for_nodes_of_their_pool() -> None:
    """As Ray Serve hands it on; live in tests/integration/test_pools_apart.py."""
    config = placed(config_of(pools=APART), [on("small", GPU=1), on("large", GPU=2)])
    for role, gpus in (("small", 0.5), ("large", 2)):
        asked = _pool(SmallPool, role, config).ray_actor_options
        assert asked["label_selector"] == {"sgl-pool": role}
        assert asked["num_gpus"] == gpus
    config = placed(config_of(), [node(GPU=2)])
    assert "label_selector" not in _pool(SmallPool, "small", config).ray_actor_options


def test_a_pool_whose_nodes_have_too_little_is_refused_whatever_others_have() -> None:
    with pytest.raises(ConfigurationError, match=r"pools.large.num_gpus: .* 2, .* has 1"):
        gpus([on("small", GPU=8), on("large", GPU=1)], **APART)
    with pytest.raises(ConfigurationError, match=r"pools.large.node_labels: no node has"):
        gpus([on("small", GPU=8)], **APART)
