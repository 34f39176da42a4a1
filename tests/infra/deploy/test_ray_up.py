"""The file of `ray up`, held against Ray's own validators."""

import copy
from typing import Any

import pytest
from jsonschema import ValidationError
from ray.autoscaler._private.util import validate_config

from infra.deploy.ray_up import cluster_file
from infra.deploy.workload import Pool, Workload
from jobs.deploy_settings import deployment_of
from tests.infra.deploy.rendering import FOLDER, KINDS, deployment, files

SYNCED = {"cluster_synced_files": []}
"""That Ray fills in itself before it validates."""


@pytest.mark.parametrize("kind", KINDS)
def test_rays_validators_take_it(kind: str) -> None:
    cluster = files(kind, "ray-up")["cluster.yaml"]
    validate_config(cluster | SYNCED)
    types = cluster["available_node_types"]
    assert types["small"]["labels"] == {"sgl-pool": "small"}
    assert types["large"]["labels"] == {"sgl-pool": "large"}
    assert types["head"]["resources"] == {"CPU": 0}
    assert cluster["max_workers"] == types["small"]["max_workers"] + types["large"]["max_workers"]


@pytest.mark.parametrize(
    "path",
    [
        ("max_workers",),
        ("file_mounts",),
        ("docker", "image"),
        ("available_node_types", "small", "labels"),
        ("available_node_types", "large", "node_config"),
    ],
)
def test_a_misspelt_key_is_found(path: tuple[str, ...]) -> None:
    cluster: dict[str, Any] = copy.deepcopy(files("job", "ray-up")["cluster.yaml"])
    place = cluster
    for step in path[:-1]:
        place = place[step]
    place[f"{path[-1]}x"] = place.pop(path[-1])
    with pytest.raises(ValidationError):
        validate_config(cluster | SYNCED)


def test_the_small_pools_machines_are_spot_ones_and_the_large_ones_are_not() -> None:
    types = files("job", "ray-up")["cluster.yaml"]["available_node_types"]
    spot = {name: "InstanceMarketOptions" in one["node_config"] for name, one in types.items()}
    assert spot == {"head": False, "small": True, "large": False}


def test_the_containers_get_the_gpus() -> None:
    """The image is none of NVIDIA's, which would say so itself."""
    options = files("job", "ray-up")["cluster.yaml"]["docker"]["run_options"]
    assert "--env NVIDIA_VISIBLE_DEVICES=all" in options
    assert "--env NVIDIA_DRIVER_CAPABILITIES=compute,utility" in options


def test_what_is_mounted_is_what_is_written_and_the_operators_own() -> None:
    found = files("serve", "ray-up")
    mounts = found["cluster.yaml"]["file_mounts"]
    assert mounts["/etc/sgl/serve.yaml"] in found
    assert mounts["/etc/sgl/auth_token"] == "~/.ray/auth_token"
    assert mounts["/etc/sgl-keys/keys.yaml"].endswith("/keys.yaml")
    assert len(mounts) == 3


def test_rays_ports_stay_inside() -> None:
    cluster = files("job", "ray-up")["cluster.yaml"]
    assert "--dashboard-host=127.0.0.1" in cluster["head_start_ray_commands"][1]
    assert "--env RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert cluster["provider"]["use_internal_ips"] is True


NFS = "deploy.aws.file_system=fs-1.efs.us-east-1.amazonaws.com"


@pytest.mark.parametrize("more", [(), (NFS,)])
def test_models_can_be_written_where_the_image_looks_for_them(more: tuple[str, ...]) -> None:
    cluster = files("job", "ray-up", *more)["cluster.yaml"]
    (command,) = cluster["initialization_commands"]
    assert ("mount -t nfs4" in command) == bool(more)
    assert command.endswith("chown 1000:1000 /mnt/models/hub")
    options = cluster["docker"]["run_options"]
    assert "--volume /mnt/models:/models" in options
    assert "--env HF_HUB_CACHE=/models/hub" in options


def test_workers_may_have_less_than_the_head() -> None:
    """Which starts machines."""
    less = "deploy.aws.workers_profile=arn:aws:iam::1:instance-profile/less"
    for more, same in (((), True), ((less,), False)):
        types = files("job", "ray-up", *more)["cluster.yaml"]["available_node_types"]
        found = {name: one["node_config"]["IamInstanceProfile"] for name, one in types.items()}
        assert (found["small"] == found["head"]) == same
        assert found["small"] == found["large"]


def test_what_machines_need_is_asked_for() -> None:
    job = str(FOLDER / "job.yaml")
    without = deployment_of(job, ["deploy.aws=null"], None, endpoint=False)
    with pytest.raises(ValueError, match=r"deploy.aws: .* write region"):
        cluster_file(without.config, without.workload)
    config = deployment("demo", "deploy.head.instance_type=null").config
    pools = (Pool("small", 1, 1, 0.0, 1.0),)
    with pytest.raises(ValueError, match=r"deploy.head.instance_type: .* needs it"):
        cluster_file(config, Workload({}, pools))
