"""RayJob and RayService, of a workload: the head and a group of workers for each pool."""

import math
from importlib.metadata import version

import yaml

from infra.deploy.config import DeployConfig
from infra.deploy.pods import UNPRIVILEGED, Manifest, ray_pod, submitter_pod
from infra.deploy.workload import POOL_LABEL, SETTINGS_AT, Group, Workload, groups_of

API = "ray.io/v1"
APPLICATION = "serving.app:build"
_FINISHED_S = 600
"""So long pods of a job that has ended can be looked at."""
_IDLE_S = 300
_MACHINES_S = 1800
_DOWNLOAD_S = 3600
"""A job may take so long to begin, at least, and so much longer where weights are downloaded."""


def ray_job(name: str, config: DeployConfig, workload: Workload, image: str) -> Manifest:
    """A batch job on a cluster of its own, which goes when the job has ended.

    Args:
        name: of the object.
        config: of the deployment.
        workload: a batch job.
        image: that all pods run.

    Raises:
        ValueError: a replica fits on no node.
    """
    policy = " --policy " + f"{SETTINGS_AT}/policy.yaml" if "policy.yaml" in workload.files else ""
    spec = {
        "entrypoint": f"sgl run --config {SETTINGS_AT}/job.yaml{policy}",
        # The driver dies with the head, and another cluster goes on where the output is. Only once:
        # a job that is refused is refused again, and machines are paid for meanwhile.
        "backoffLimit": 1,
        "submitterConfig": {"backoffLimit": 2},
        "submitterPodTemplate": submitter_pod(name, config, image),
        # It is handed to Ray when all nodes are there, and those that came first are paid for.
        "preRunningDeadlineSeconds": _begins_in_s(workload),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": _FINISHED_S,
        "rayClusterSpec": ray_cluster(name, config, workload, image),
    }
    return _object("RayJob", name, config, spec)


def ray_service(name: str, config: DeployConfig, workload: Workload, image: str) -> Manifest:
    """An endpoint; its Kubernetes service is called NAME-serve-svc.

    Args:
        name: of the object.
        config: of the deployment.
        workload: an endpoint.
        image: that all pods run.

    Raises:
        ValueError: a replica fits on no node.
    """
    spec = {
        "serveConfigV2": yaml.safe_dump(serve_config(workload), sort_keys=False),
        "rayClusterConfig": ray_cluster(name, config, workload, image),
        # What changes is started beside what serves, which goes when the new one is healthy.
        "upgradeStrategy": {"type": "NewCluster"},
    }
    return _object("RayService", name, config, spec)


def serve_config(workload: Workload) -> Manifest:
    """What Ray Serve is told, as `serve deploy` takes it."""
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": workload.port},
        "applications": [
            {
                "name": "sgl",
                "route_prefix": "/",
                "import_path": APPLICATION,
                "args": {"settings": dict(workload.settings)},
            }
        ],
    }


def ray_cluster(name: str, config: DeployConfig, workload: Workload, image: str) -> Manifest:
    """The specification of the Ray cluster of either.

    Raises:
        ValueError: a replica fits on no node.
    """
    groups = groups_of(workload, config)
    scales = any(group.most > group.least for group in groups)
    head = {
        "serviceType": "ClusterIP",
        "enableIngress": False,
        # The operator asks the dashboard from another pod; who else may, the network policy says.
        "rayStartParams": {"dashboard-host": "0.0.0.0", "num-cpus": "0"},
        "template": ray_pod(name, config, workload, image, scales=scales),
    }
    spec: Manifest = {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token"},
        "headGroupSpec": head,
        "workerGroupSpecs": [_workers(name, config, workload, image, group) for group in groups],
    }
    if scales:
        spec["enableInTreeAutoscaling"] = True
        spec["autoscalerOptions"] = {
            "idleTimeoutSeconds": _IDLE_S,
            "securityContext": dict(UNPRIVILEGED),
        }
    return spec


def _begins_in_s(workload: Workload) -> int:
    waits: float = workload.settings["ray"]["nodes_wait_s"]
    return max(_MACHINES_S, math.ceil(waits)) + (_DOWNLOAD_S if workload.weights else 0)


def _workers(
    name: str, config: DeployConfig, workload: Workload, image: str, group: Group
) -> Manifest:
    return {
        "groupName": group.role,
        "replicas": group.least,
        "minReplicas": group.least,
        "maxReplicas": group.most,
        "labels": {POOL_LABEL: group.role},
        "rayStartParams": {},
        "template": ray_pod(name, config, workload, image, group),
    }


def _object(kind: str, name: str, config: DeployConfig, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": config.namespace}
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}
