"""What a workload needs beside its pods: account, volume, network, settings, weights."""

from typing import Any

import yaml

from infra.deploy.config import DeployConfig
from infra.deploy.pods import COMPONENT, PART_OF, Manifest, weights_pod
from infra.deploy.workload import Workload

_NAMESPACE_NAME = "kubernetes.io/metadata.name"
_DASHBOARD = 8265
_WEIGHTS_S = 86400


def base(config: DeployConfig, port: int | None) -> dict[str, Manifest]:
    """What is the same on all devices, by file name.

    Args:
        config: of the deployment.
        port: of an endpoint.
    """
    name = config.namespace
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    return {
        "namespace.yaml": {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": levels},
        },
        "service-account.yaml": _account(config),
        "volume.yaml": _volume(config),
        "network.yaml": _network(config, port),
    }


def settings(name: str, config: DeployConfig, workload: Workload) -> Manifest:
    """The settings and the files beside them, where pods read them."""
    data = dict(workload.files)
    if workload.port is None:
        data["job.yaml"] = yaml.safe_dump(dict(workload.settings), sort_keys=False)
    return _object("v1", "ConfigMap", f"{name}-settings", config, {"data": data})


def weights(name: str, config: DeployConfig, workload: Workload, image: str) -> Manifest:
    """A job that downloads the checkpoints before pods of Ray start; those wait for it."""
    spec = {
        "backoffLimit": 6,
        "ttlSecondsAfterFinished": _WEIGHTS_S,
        "template": weights_pod(config, workload.weights, image),
    }
    return _object("batch/v1", "Job", f"{name}-weights", config, {"spec": spec})


def _account(config: DeployConfig) -> Manifest:
    account = _object("v1", "ServiceAccount", config.name, config, {})
    if config.role_arn:
        account["metadata"]["annotations"] = {"eks.amazonaws.com/role-arn": config.role_arn}
    return account


def _volume(config: DeployConfig) -> Manifest:
    spec: Manifest = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": f"{config.volume.size_gib}Gi"}},
    }
    if config.volume.storage_class:
        spec["storageClassName"] = config.volume.storage_class
    models = f"{config.name}-models"
    return _object("v1", "PersistentVolumeClaim", models, config, {"spec": spec})


def _network(config: DeployConfig, port: int | None) -> Manifest:
    """Pods of one deployment reach each other, the operator the head, and clients the endpoint."""
    ours = {"podSelector": {"matchLabels": {PART_OF: config.name}}}
    operator = {"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: config.operator_namespace}}}
    ingress: list[Manifest] = [{"from": [ours]}, _open(_DASHBOARD, [operator])]
    if port is not None:
        spaces = (config.namespace, *config.client_namespaces)
        clients = [{"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: s}}} for s in spaces]
        # KubeRay's own probes and its look at the proxies come from the operator and the kubelet.
        ingress.append(_open(port, [*clients, operator]))
    selected = {
        "matchLabels": {PART_OF: config.name},
        "matchExpressions": [{"key": COMPONENT, "operator": "Exists"}],
    }
    spec = {"podSelector": selected, "policyTypes": ["Ingress"], "ingress": ingress}
    return _object("networking.k8s.io/v1", "NetworkPolicy", config.name, config, {"spec": spec})


def _open(port: int, who: list[Manifest]) -> Manifest:
    return {"from": who, "ports": [{"protocol": "TCP", "port": port}]}


def _object(api: str, kind: str, name: str, config: DeployConfig, body: dict[str, Any]) -> Manifest:
    metadata: Manifest = {"name": name, "namespace": config.namespace}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **body}
