"""What validates manifests offline: Kubernetes' own schemas, and KubeRay's fields around them.

KubeRay's fields stand in kuberay.yaml, whose head says of which releases they are. A name that is
not among them is an error, where an operator would drop it in silence. What is rendered must be
right for the oldest release that docs/CLUSTER.md asks for and for the newest alike.
"""

import json
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from tests.infra.deploy.rules import QUANTITY, check_rules

KUBERNETES = "1.37.0"
KUBERAY = yaml.safe_load((Path(__file__).parent / "kuberay.yaml").read_text())
RELEASES = ("oldest", "newest")
_OBJECTS = ("RayJob", "RayService")
_TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "flag": {"type": "boolean"},
    "int": {"type": "integer"},
    "count": {"type": "integer", "minimum": 0},
    "positive": {"type": "integer", "minimum": 1},
    "number": {"type": "number"},
    "quantity": {"type": "string", "pattern": QUANTITY.pattern},
    "texts": {"type": "object", "additionalProperties": {"type": "string"}},
}
_NAME = {"type": "string", "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$", "maxLength": 47}
"""Of a RayJob or RayService: KubeRay adds to it what must fit into a Kubernetes label."""
_METADATA = {"name": _NAME, "namespace": _NAME, "labels": "texts", "annotations": "texts"}


def _strict(required: list[str], properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _type(told: str | dict[str, Any]) -> dict[str, Any]:
    """The schema of a type in kuberay.yaml's notation."""
    if isinstance(told, dict):
        return told
    if told in _TYPES:
        return _TYPES[told]
    if told.startswith("["):
        return {"type": "array", "items": _type(told[1:-1])}
    if told.startswith("k8s:"):
        return {"$ref": f"{told.removeprefix('k8s:')}.json"}
    if told in KUBERAY["types"]:
        return {"$ref": f"#/$defs/{told}"}
    assert "|" in told, f"kuberay.yaml: {told} is no type"
    return {"enum": told.split("|")}


def _fields(told: dict[str, str], release: str) -> dict[str, Any]:
    kept = {n: t for n, t in told.items() if release == "newest" or not n.endswith("+")}
    required = [name[:-1] for name in kept if name.endswith("!")]
    return _strict(required, {name.rstrip("!+"): _type(t) for name, t in kept.items()})


@lru_cache
def kuberay(kind: str, release: str) -> dict[str, Any]:
    """The schema of a whole object, a RayJob or a RayService.

    Args:
        kind: of the object.
        release: of KubeRay, one of RELEASES.
    """
    parts = {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": kind},
        "metadata": _strict(["name", "namespace"], {n: _type(t) for n, t in _METADATA.items()}),
        "spec": {"$ref": f"#/$defs/{kind}"},
    }
    defs = {name: _fields(told, release) for name, told in KUBERAY["types"].items()}
    return _strict(list(parts), parts) | {"$defs": defs}


KUSTOMIZATION = _strict(
    ["apiVersion", "kind", "resources"],
    {
        "apiVersion": {"const": "kustomize.config.k8s.io/v1beta1"},
        "kind": {"const": "Kustomization"},
        "resources": {"type": "array", "items": _TYPES["text"], "minItems": 1, "uniqueItems": True},
    },
)


@lru_cache
def kubernetes(kind: str) -> dict[str, Any]:
    """One of Kubernetes' own schemas."""
    folder = files("kubernetes_validate") / "kubernetes-json-schema"
    text = (folder / f"v{KUBERNETES}-local-strict" / f"{kind}.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


def _registry() -> Registry[Any]:
    def retrieve(uri: str) -> Resource[Any]:
        return DRAFT202012.create_resource(kubernetes(uri.rpartition("/")[2].removesuffix(".json")))

    return Registry(retrieve=retrieve)


def check(manifest: dict[str, Any]) -> None:
    """Hold a manifest against the schema of its kind, and what the schemas leave open.

    Raises:
        jsonschema.ValidationError: it is not what its kind may be.
    """
    kind = manifest["kind"]
    if kind == "Kustomization":
        Draft202012Validator(KUSTOMIZATION).validate(manifest)
    elif kind in _OBJECTS:
        for release in RELEASES:
            Draft202012Validator(kuberay(kind, release), registry=_registry()).validate(manifest)
    else:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    check_rules(manifest)
