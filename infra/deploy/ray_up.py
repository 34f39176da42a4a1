"""A file for `ray up`, on machines of AWS: the same pools without Kubernetes."""

import shlex
from collections.abc import Mapping

from infra.deploy.config import AwsConfig, DeployConfig, NodesConfig
from infra.deploy.kustomize import as_yaml
from infra.deploy.pods import HUB, HUB_CACHE, Manifest, hub
from infra.deploy.workload import KEYS, KEYS_AT, POOL_LABEL, SETTINGS_AT, Group, Workload, groups_of

_TOKEN = f"{SETTINGS_AT}/auth_token"
_MODELS = "/mnt/models"
_USER = 1000
"""Of the image."""
_FILES = 65536
_IDLE_MIN = 15
_HEAD = "head"
_NVIDIA = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
"""What NVIDIA's runtime goes by: without them, and no CUDA image has set them, it gives no GPU. On
Kubernetes the device plugin says which; there an image that said all would get past it."""


def cluster_file(config: DeployConfig, workload: Workload) -> dict[str, str]:
    """Text of the cluster's file and of what it copies to the nodes, by file name.

    Raises:
        ValueError: a replica fits on no node, or something is missing that machines need; names the
            setting and the remedy.
    """
    if config.aws is None:
        raise ValueError(
            "deploy.aws: --target ray-up starts machines of AWS; write region, image_id, subnets "
            "and security_groups, or --target kuberay"
        )
    settings = "job.yaml" if workload.port is None else "serve.yaml"
    files = {settings: as_yaml(dict(workload.settings)), **workload.files}
    return {"cluster.yaml": as_yaml(_cluster(config, config.aws, workload, tuple(files)))} | files


def _cluster(
    config: DeployConfig, aws: AwsConfig, workload: Workload, files: tuple[str, ...]
) -> Manifest:
    groups = groups_of(workload, config)
    types = {_HEAD: _head(config, aws)}
    types |= {group.role: _workers(aws, group) for group in groups}
    return {
        "cluster_name": config.name,
        "max_workers": sum(group.most for group in groups),
        "idle_timeout_minutes": _IDLE_MIN,
        "provider": {
            "type": "aws",
            "region": aws.region,
            "use_internal_ips": True,
            "cache_stopped_nodes": False,
        },
        "auth": {"ssh_user": aws.ssh_user},
        "docker": {
            "image": config.image,
            "container_name": config.name,
            "pull_before_run": True,
            "run_options": _run_options(config, workload.environment),
        },
        # The token is the operator's own file, and stands in none of these.
        "file_mounts": {_TOKEN: "~/.ray/auth_token"}
        | {f"{SETTINGS_AT}/{file}": file for file in files}
        | ({f"{KEYS_AT}/{KEYS}": workload.keys} if workload.keys else {}),
        "initialization_commands": _mount(aws),
        "head_node_type": _HEAD,
        "available_node_types": types,
        "head_start_ray_commands": [
            "ray stop",
            f"ulimit -n {_FILES}; ray start --head --port=6379 --dashboard-host=127.0.0.1 "
            "--object-manager-port=8076 --autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": [
            "ray stop",
            f"ulimit -n {_FILES}; ray start --address=$RAY_HEAD_IP:6379 --object-manager-port=8076",
        ],
    }


def _run_options(config: DeployConfig, environment: Mapping[str, str]) -> list[str]:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": _TOKEN}
    told = {**token, **_NVIDIA, HUB_CACHE: hub(config), **environment}
    return [
        f"--ulimit nofile={_FILES}:{_FILES}",
        "--security-opt no-new-privileges",
        f"--volume {_MODELS}:{config.volume.mount}",
        *(f"--env {shlex.quote(f'{name}={value}')}" for name, value in told.items()),
    ]


def _mount(aws: AwsConfig) -> list[str]:
    made, hub_at = f"sudo mkdir -p {_MODELS}", f"{_MODELS}/{HUB}"
    own = f"sudo mkdir -p {hub_at} && sudo chown {_USER}:{_USER} {hub_at}"
    if aws.file_system is None:
        return [own]
    options = "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport"
    mount = f"sudo mount -t nfs4 -o {options} {aws.file_system}:/ {_MODELS}"
    # What is mounted is root's, and may hold what is none of ours.
    return [f"{made} && (mountpoint -q {_MODELS} || {mount}) && {own}"]


def _head(config: DeployConfig, aws: AwsConfig) -> Manifest:
    # Without cores no replica and no task of the pipeline runs beside the driver.
    machine = _machine("head", config.head, aws, aws.instance_profile)
    return {"resources": {"CPU": 0}, "node_config": machine, "max_workers": 0}


def _workers(aws: AwsConfig, group: Group) -> Manifest:
    machine = _machine(group.role, group.nodes, aws, aws.workers_profile or aws.instance_profile)
    if group.nodes.spot and group.gpus:
        machine["InstanceMarketOptions"] = {"MarketType": "spot"}
    resources = {"CPU": group.nodes.cpus} | ({"GPU": group.gpus} if group.gpus else {})
    return {
        "resources": resources,
        "labels": {POOL_LABEL: group.role},
        "node_config": machine,
        "min_workers": group.least,
        "max_workers": group.most,
    }


def _machine(role: str, nodes: NodesConfig, aws: AwsConfig, profile: str | None) -> Manifest:
    if nodes.instance_type is None:
        raise ValueError(
            f"deploy.{role}.instance_type: --target ray-up needs it; write one with "
            f"{nodes.cpus} vCPUs or more, as in m7i.xlarge or g6.xlarge"
        )
    disk = {"VolumeSize": aws.disk_gib, "VolumeType": "gp3", "Encrypted": True}
    machine: Manifest = {
        "InstanceType": nodes.instance_type,
        "ImageId": aws.image_id,
        "SubnetIds": list(aws.subnets),
        "SecurityGroupIds": list(aws.security_groups),
        "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": disk}],
        # Two hops reach from a container; requests without a token are refused.
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
    }
    if profile:
        machine["IamInstanceProfile"] = {"Arn": profile}
    return machine
