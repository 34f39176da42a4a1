"""Pods of Ray and of what prepares for it: nobody's root, with what they ask for and no more."""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from infra.deploy.config import DeployConfig, NodesConfig
from infra.deploy.workload import KEYS_AT, SETTINGS_AT, Group, Weights, Workload

Manifest: TypeAlias = dict[str, Any]

PART_OF = "app.kubernetes.io/part-of"
COMPONENT = "app.kubernetes.io/component"
INSTANCE = "app.kubernetes.io/instance"
HEAD = "head"
GPU = "nvidia.com/gpu"
HUB_CACHE = "HF_HUB_CACHE"
HUB = "hub"
UNPRIVILEGED: Manifest = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
_USER = 1000
"""Of the image."""
_POLL_S = 5


def labels(name: str, config: DeployConfig, component: str) -> dict[str, str]:
    """Of a pod; network policies and disruption budgets go by them."""
    return {PART_OF: config.name, INSTANCE: name, COMPONENT: component}


def digest(value: object) -> str:
    """Short, of anything that is JSON: another value makes another name, and so another object."""
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def settings_name(name: str, workload: Workload) -> str:
    """Of the ConfigMap. Pods see a change of it as one of theirs, and an endpoint is upgraded."""
    return f"{name}-settings-{digest(workload.mounted)}"


def ray_pod(
    name: str,
    config: DeployConfig,
    workload: Workload,
    image: str,
    group: Group | None = None,
    *,
    scales: bool = False,
) -> Manifest:
    """A pod template of Ray's head or, with a group, of one of its workers.

    Args:
        name: of the workload's objects.
        config: of the deployment.
        workload: whose settings and models it needs.
        image: that it runs.
        group: of the worker.
        scales: whether Ray's autoscaler runs in it, which asks Kubernetes for pods.
    """
    nodes: NodesConfig = group.nodes if group else config.head
    spec = _spec(config, [_ray_container(workload, config, image, nodes, group)])
    spec["volumes"] = _volumes(name, config, workload)
    if workload.weights:
        spec["initContainers"] = [_waiting(config, workload.weights, image)]
    if group:
        spec |= placement(config, group)
    elif config.head.node_selector:
        spec["nodeSelector"] = dict(config.head.node_selector)
    spec["automountServiceAccountToken"] = scales
    role = group.role if group else HEAD
    return {"metadata": {"labels": labels(name, config, role)}, "spec": spec}


def submitter_pod(name: str, config: DeployConfig, image: str) -> Manifest:
    """The pod that hands the job to Ray, and has its log."""
    container = _container("submitter", image, _resources(1, 1))
    spec = _spec(config, [container]) | {"restartPolicy": "Never"}
    return {"metadata": {"labels": labels(name, config, "submitter")}, "spec": spec}


def weights_pod(
    name: str, config: DeployConfig, weights: Sequence[Weights], image: str
) -> Manifest:
    """Downloads checkpoints onto the shared volume, and says there when each is whole."""
    token = {"name": f"{config.name}-hub", "key": "token", "optional": True}
    home = [{"name": HUB_CACHE, "value": hub(config)}]
    secret = [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": token}}]
    containers = [
        _container(f"weights-{number}", image, _resources(1, 4))
        | {
            "command": ["sh", "-c", _download(config, one)],
            "env": home + secret,
            "volumeMounts": [{"name": "models", "mountPath": config.volume.mount}],
        }
        for number, one in enumerate(weights)
    ]
    spec = _spec(config, containers) | {
        "restartPolicy": "OnFailure",
        "volumes": [_models(config)],
    }
    return {"metadata": {"labels": labels(name, config, "weights")}, "spec": spec}


def placement(config: DeployConfig, group: Group) -> Manifest:
    """On which machines a worker may be, and which taints of theirs it puts up with."""
    selector = dict(group.nodes.node_selector)
    if config.capacity and group.gpus:
        spot = config.capacity.spot if group.nodes.spot else config.capacity.on_demand
        selector = {config.capacity.label: spot} | selector
    taints = [_toleration("sgl-pool", group.role)]
    if group.gpus:
        taints.append({"key": GPU, "operator": "Exists", "effect": "NoSchedule"})
        if group.nodes.spot and config.capacity:
            taints.append(_toleration(config.capacity.label, config.capacity.spot))
    return {"tolerations": taints} | ({"nodeSelector": selector} if selector else {})


def _toleration(key: str, value: str) -> Manifest:
    return {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}


def _ray_container(
    workload: Workload, config: DeployConfig, image: str, nodes: NodesConfig, group: Group | None
) -> Manifest:
    container = _container(
        "ray-worker" if group else "ray-head",
        image,
        _resources(nodes.cpus, nodes.memory_gib, group.gpus if group else 0),
    )
    environment = dict(workload.environment)
    if workload.weights:
        # Nodes that found a model missing would download it each for itself.
        environment |= {HUB_CACHE: hub(config), "HF_HUB_OFFLINE": "1"}
    container["env"] = [{"name": name, "value": value} for name, value in environment.items()]
    container["volumeMounts"] = [
        {"name": "models", "mountPath": config.volume.mount, "readOnly": True},
        {"name": "settings", "mountPath": SETTINGS_AT, "readOnly": True},
    ]
    if workload.keys:
        container["volumeMounts"].append({"name": "keys", "mountPath": KEYS_AT, "readOnly": True})
    if group is None:
        ports = {"gcs": 6379, "dashboard": 8265, "client": 10001}
        if workload.port:
            ports["serve"] = workload.port
        container["ports"] = [{"name": n, "containerPort": port} for n, port in ports.items()]
    elif workload.port:
        container["ports"] = [{"name": "serve", "containerPort": workload.port}]
    return container


def _volumes(name: str, config: DeployConfig, workload: Workload) -> list[Manifest]:
    volumes = [_models(config), _settings(name, workload)]
    if workload.keys:
        volumes.append({"name": "keys", "secret": {"secretName": f"{config.name}-keys"}})
    return volumes


def _settings(name: str, workload: Workload) -> Manifest:
    return {"name": "settings", "configMap": {"name": settings_name(name, workload)}}


def _models(config: DeployConfig) -> Manifest:
    claim = {"claimName": f"{config.name}-models"}
    return {"name": "models", "persistentVolumeClaim": claim}


def _spec(config: DeployConfig, containers: list[Manifest]) -> Manifest:
    return {
        "serviceAccountName": config.name,
        # S3 is reached by a token of its own; with this one whoever runs code could ask Kubernetes.
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": containers,
    }


def _container(name: str, image: str, resources: Mapping[str, Any]) -> Manifest:
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "resources": dict(resources),
        "securityContext": dict(UNPRIVILEGED),
    }


def _resources(cpus: int, memory_gib: int, gpus: int = 0) -> Manifest:
    """Limits equal to requests, as KubeRay tells Ray the limits and machines hold the requests."""
    amounts = {"cpu": str(cpus), "memory": f"{memory_gib}Gi"} | ({GPU: str(gpus)} if gpus else {})
    return {"limits": amounts, "requests": dict(amounts)}


def hub(config: DeployConfig) -> str:
    """The cache of checkpoints on the shared volume."""
    return f"{config.volume.mount}/{HUB}"


def _marker(config: DeployConfig, weights: Weights) -> str:
    told = f"{weights.repository}@{weights.revision or ''}"
    return f"{config.volume.mount}/ready/{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def _download(config: DeployConfig, weights: Weights) -> str:
    marker = _marker(config, weights)
    command = ["hf", "download", weights.repository]
    command += ["--revision", weights.revision] if weights.revision else []
    folder = shlex.quote(f"{config.volume.mount}/ready")
    return f"{shlex.join(command)} && mkdir -p {folder} && touch {shlex.quote(marker)}"


def _waiting(config: DeployConfig, weights: Sequence[Weights], image: str) -> Manifest:
    """Holds a pod back until the checkpoints are whole, on whichever node they were written."""
    there = " && ".join(f"[ -e {shlex.quote(_marker(config, one))} ]" for one in weights)
    return _container("wait-for-weights", image, _resources(1, 1)) | {
        "command": ["sh", "-c", f"until {there}; do sleep {_POLL_S}; done"],
        "volumeMounts": [
            {"name": "models", "mountPath": config.volume.mount, "readOnly": True},
        ],
    }
