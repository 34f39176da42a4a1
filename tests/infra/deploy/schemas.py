"""What validates manifests offline: Kubernetes' own schemas, and KubeRay's fields around them.

KubeRay's fields are written down here from its API reference, version 1.6
(https://docs.ray.io/en/master/cluster/kubernetes/references/api.html), strictly: a name that is not
among them is an error, where an operator would drop it in silence. The pod templates within are
checked by Kubernetes' schemas, as the CRDs' own are generated from the same types.
"""

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

import kubernetes_validate
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

KUBERNETES = "1.37.0"
TEXT, FLAG, COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": TEXT}
ANY: dict[str, Any] = {}


def strict(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def among(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


@lru_cache
def kubernetes(kind: str) -> dict[str, Any]:
    folder = files("kubernetes_validate") / "kubernetes-json-schema"
    text = (folder / f"v{KUBERNETES}-local-strict" / f"{kind}.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


POD = {"$ref": "podtemplatespec-v1.json"}
SERVICE = {"$ref": "service-v1.json"}
SECURITY = {"$ref": "securitycontext-v1.json"}

HEAD = strict(
    ("template", "rayStartParams"),
    template=POD,
    headService=SERVICE,
    enableIngress=FLAG,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    serviceType=among("ClusterIP", "NodePort", "LoadBalancer"),
)
WORKERS = strict(
    ("groupName", "template", "minReplicas", "maxReplicas", "rayStartParams"),
    suspend=FLAG,
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    idleTimeoutSeconds=COUNT,
    resources=TEXTS,
    labels=TEXTS,
    rayStartParams=TEXTS,
    template=POD,
    scaleStrategy=ANY,
    numOfHosts=COUNT,
)
AUTOSCALER = strict(
    resources=ANY,
    image=TEXT,
    imagePullPolicy=among("Always", "IfNotPresent", "Never"),
    securityContext=SECURITY,
    idleTimeoutSeconds=COUNT,
    upscalingMode=among("Default", "Aggressive", "Conservative"),
    version=among("v1", "v2"),
    env=ANY,
    envFrom=ANY,
    volumeMounts=ANY,
)
CLUSTER = strict(
    ("headGroupSpec",),
    authOptions=strict(mode=among("disabled", "token"), secretName=TEXT, enableK8sTokenAuth=FLAG),
    suspend=FLAG,
    managedBy=TEXT,
    autoscalerOptions=AUTOSCALER,
    headServiceAnnotations=TEXTS,
    enableInTreeAutoscaling=FLAG,
    gcsFaultToleranceOptions=ANY,
    headGroupSpec=HEAD,
    rayVersion=TEXT,
    workerGroupSpecs={"type": "array", "items": WORKERS},
    upgradeStrategy=ANY,
)
JOB = strict(
    activeDeadlineSeconds=COUNT,
    backoffLimit=COUNT,
    rayClusterSpec=CLUSTER,
    submitterPodTemplate=POD,
    metadata=TEXTS,
    clusterSelector=TEXTS,
    submitterConfig=strict(backoffLimit=COUNT),
    managedBy=TEXT,
    deletionStrategy=ANY,
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    submissionMode=among("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    entrypointResources=TEXT,
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    ttlSecondsAfterFinished=COUNT,
    shutdownAfterJobFinishes=FLAG,
    suspend=FLAG,
)
SERVICES = strict(
    rayClusterDeletionDelaySeconds=COUNT,
    serveService=SERVICE,
    upgradeStrategy=ANY,
    serveConfigV2=TEXT,
    rayClusterConfig=CLUSTER,
    excludeHeadPodFromServeSvc=FLAG,
    suspend=FLAG,
)
KUSTOMIZATION = strict(
    ("apiVersion", "kind", "resources"),
    apiVersion=among("kustomize.config.k8s.io/v1beta1"),
    kind=among("Kustomization"),
    resources={"type": "array", "items": TEXT, "minItems": 1, "uniqueItems": True},
)
NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 47}
METADATA = strict(("name", "namespace"), name=NAME, namespace=NAME, labels=TEXTS, annotations=TEXTS)


def _object(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return strict(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion=among("ray.io/v1"),
        kind=among(kind),
        metadata=METADATA,
        spec=spec,
    )


KUBERAY = {
    "RayJob": _object("RayJob", JOB),
    "RayService": _object("RayService", SERVICES),
    "Kustomization": KUSTOMIZATION,
}


def _registry() -> Registry[Any]:
    def retrieve(uri: str) -> Resource[Any]:
        return DRAFT202012.create_resource(kubernetes(uri.rpartition("/")[2].removesuffix(".json")))

    return Registry(retrieve=retrieve)


def check(manifest: dict[str, Any]) -> None:
    """Raises jsonschema.ValidationError where a manifest is not what its kind may be."""
    schema = KUBERAY.get(manifest["kind"])
    if schema is None:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        return
    Draft202012Validator(schema, registry=_registry()).validate(manifest)
