"""What no schema says and Kubernetes, KubeRay or Ray refuse: words, quantities, what goes together.

KubeRay's rules are those of its own validation (ray-operator/controllers/ray/utils/validation.go in
ray-project/kuberay), as far as they are about what is rendered here.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jsonschema import ValidationError
from ray.scripts.scripts import start

QUANTITY = re.compile(r"^\d+(\.\d+)?([EPTGMk]i?|m)?$")
LABEL = re.compile(r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")
_WORDS = {
    "accessModes": {"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"},
    "effect": {"NoSchedule", "PreferNoSchedule", "NoExecute"},
    "fsGroupChangePolicy": {"OnRootMismatch", "Always"},
    "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "operator": {"Exists", "Equal", "In", "NotIn", "DoesNotExist"},
    "policyTypes": {"Ingress", "Egress"},
    "protocol": {"TCP", "UDP", "SCTP"},
    "restartPolicy": {"Always", "OnFailure", "Never"},
}
"""Fields that Kubernetes' schemas call texts, and the values that its API server takes."""
_SECCOMP = {"RuntimeDefault", "Localhost", "Unconfined"}
_START = {name.removeprefix("--") for option in start.params for name in option.opts}
"""What `ray start` takes; KubeRay hands `rayStartParams` over as they are."""
_LEAST_RAY = (2, 52)


def check_rules(manifest: Mapping[str, Any]) -> None:
    """Refuse what the schemas let through.

    Raises:
        jsonschema.ValidationError: names the field.
    """
    for key, value in _everything(manifest):
        _check_words(key, value)
        if key in ("limits", "requests"):
            for name, amount in value.items():
                _must(bool(QUANTITY.match(str(amount))), f"{key}.{name}: {amount} is no quantity")
    spec = manifest.get("spec", {})
    rules: dict[str, Callable[[Mapping[str, Any]], None]] = {
        "RayJob": _check_job,
        "RayService": _check_service,
    }
    if rule := rules.get(manifest["kind"]):
        rule(spec)


def _check_words(key: str, value: Any) -> None:
    if known := _WORDS.get(key):
        for word in value if isinstance(value, list) else [value]:
            _must(word in known, f"{key}: {word} is none of {', '.join(sorted(known))}")
    if key == "seccompProfile":
        _must(value["type"] in _SECCOMP, f"{key}.type: there is no {value['type']}")


def _check_job(job: Mapping[str, Any]) -> None:
    named = "rayClusterSpec" in job or "clusterSelector" in job
    _must(named, "one of rayClusterSpec and clusterSelector must be there")
    waits = job.get("ttlSecondsAfterFinished", 0) > 0
    shuts = job.get("shutdownAfterJobFinishes", False)
    _must(shuts or not waits, "ttlSecondsAfterFinished: needs shutdownAfterJobFinishes")
    sidecar = job.get("submissionMode") == "SidecarMode"
    own = {"submitterPodTemplate", "submitterConfig"} & job.keys()
    _must(not (sidecar and own), "SidecarMode: has no pod of a submitter")
    if submitter := job.get("submitterPodTemplate"):
        policy = submitter["spec"].get("restartPolicy")
        _must(policy in ("Never", "OnFailure"), "submitterPodTemplate: a job's pod needs Never")
    _check_cluster(job["rayClusterSpec"])


def _check_service(service: Mapping[str, Any]) -> None:
    _must("rayClusterConfig" in service, "rayClusterConfig must be there")
    upgrade = service.get("upgradeStrategy", {})
    if upgrade.get("type") == "NewClusterWithIncrementalUpgrade":
        _must("clusterUpgradeOptions" in upgrade, "clusterUpgradeOptions must be there")
    _check_cluster(service["rayClusterConfig"])


def _check_cluster(cluster: Mapping[str, Any]) -> None:
    if cluster.get("authOptions", {}).get("mode") == "token":
        version = tuple(int(part) for part in cluster.get("rayVersion", "0").split(".")[:2])
        _must(version >= _LEAST_RAY, "authOptions: a token needs a rayVersion of 2.52 or newer")
    _must("upgradeStrategy" not in cluster, "upgradeStrategy: not in a RayJob's or RayService's")
    _check_group(cluster["headGroupSpec"])
    names = [group["groupName"] for group in cluster.get("workerGroupSpecs", [])]
    _must(len(names) == len(set(names)), "workerGroupSpecs: two have one name")
    for group in cluster.get("workerGroupSpecs", []):
        bounds = (group["minReplicas"], group.get("replicas", 0), group["maxReplicas"])
        _must(list(bounds) == sorted(bounds), f"{group['groupName']}: replicas are out of bounds")
        _check_group(group)


def _check_group(group: Mapping[str, Any]) -> None:
    parameters = group.get("rayStartParams", {})
    for name in parameters:
        _must(name in _START, f"rayStartParams.{name}: ray start takes no such option")
    _must("labels" not in parameters, "rayStartParams.labels: write labels")
    amounts = {"num-cpus", "num-gpus", "memory", "resources"} & parameters.keys()
    _must(not (amounts and group.get("resources")), "resources: are also in rayStartParams")
    for value in group.get("labels", {}).values():
        _must(bool(LABEL.match(value)), f"labels: {value} is no value of a label")
    spec = group["template"]["spec"]
    # Ray's autoscaler replaces pods; one that starts again by itself would be a node of old.
    _must(spec.get("restartPolicy", "Never") == "Never", "restartPolicy: Never, or leave it out")


def _everything(value: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values of a manifest, however deep."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield key, below
            if key != "data":
                yield from _everything(below)
    elif isinstance(value, list):
        for below in value:
            yield from _everything(below)


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValidationError(otherwise)
