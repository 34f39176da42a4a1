"""What a workload needs beside its pods: account, volume, network, settings, weights."""

from typing import Any

from infra.deploy.config import DeployConfig
from infra.deploy.pods import (
    COMPONENT,
    HEAD,
    INSTANCE,
    PART_OF,
    Manifest,
    digest,
    settings_name,
    weights_pod,
)
from infra.deploy.workload import Workload

_NAMESPACE_NAME = "kubernetes.io/metadata.name"
_DASHBOARD = 8265
_METRICS = 8080
"""Ray's own, on every node."""
_WEIGHTS_S = 86400


def base(config: DeployConfig, workload: Workload) -> dict[str, Manifest]:
    """What is the same on all devices, by file name."""
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
        "network.yaml": _network(config, workload),
    }


def settings(name: str, config: DeployConfig, workload: Workload) -> Manifest:
    """The settings and the files beside them, where pods read them."""
    data = {"data": workload.mounted, "immutable": True}
    return _object("v1", "ConfigMap", settings_name(name, workload), config, data)


def weights(name: str, config: DeployConfig, workload: Workload, image: str) -> Manifest:
    """A job that downloads the checkpoints before pods of Ray start; those wait for it.

    A job's pods cannot be changed, so that other models or another image make another job.
    """
    template = weights_pod(name, config, workload.weights, image)
    spec = {"backoffLimit": 6, "ttlSecondsAfterFinished": _WEIGHTS_S, "template": template}
    job = _object("batch/v1", "Job", f"{name}-weights-{digest(template)}", config, {"spec": spec})
    job["metadata"]["labels"] = dict(template["metadata"]["labels"])
    return job


def disruption(name: str, config: DeployConfig) -> Manifest:
    """Keeps machines from being emptied under the head, with which all of a cluster's work goes.

    Workers may go one by one: their rows are done again, their requests elsewhere.
    """
    selected = {"matchLabels": {INSTANCE: name, COMPONENT: HEAD}}
    # Of pods that Kubernetes' own controllers do not know, only a number that stays is allowed.
    spec = {"minAvailable": 1, "selector": selected}
    return _object("policy/v1", "PodDisruptionBudget", f"{name}-head", config, {"spec": spec})


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


def _network(config: DeployConfig, workload: Workload) -> Manifest:
    """Pods of one deployment reach each other, the operator the head, and clients the endpoint."""
    port = workload.port
    ours = {"podSelector": {"matchLabels": {PART_OF: config.name}}}
    operator = {"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: config.operator_namespace}}}
    ingress: list[Manifest] = [{"from": [ours]}, _open([_DASHBOARD], [operator])]
    if port is not None:
        spaces = (config.namespace, *config.client_namespaces)
        clients = [{"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: s}}} for s in spaces]
        # KubeRay's own probes and its look at the proxies come from the operator and the kubelet.
        ingress.append(_open([port], [*clients, operator]))
    if config.metrics_namespace:
        who = {"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: config.metrics_namespace}}}
        ingress.append(_open([_METRICS, *workload.metrics], [who]))
    selected = {
        "matchLabels": {PART_OF: config.name},
        "matchExpressions": [{"key": COMPONENT, "operator": "Exists"}],
    }
    spec = {"podSelector": selected, "policyTypes": ["Ingress"], "ingress": ingress}
    return _object("networking.k8s.io/v1", "NetworkPolicy", config.name, config, {"spec": spec})


def _open(ports: list[int], who: list[Manifest]) -> Manifest:
    return {"from": who, "ports": [{"protocol": "TCP", "port": port} for port in ports]}


def _object(api: str, kind: str, name: str, config: DeployConfig, body: dict[str, Any]) -> Manifest:
    metadata: Manifest = {"name": name, "namespace": config.namespace}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **body}
