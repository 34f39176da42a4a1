"""Deployments of the examples and of the demo's settings, rendered."""

from pathlib import Path
from typing import Any

import yaml

from jobs.demo import SETTINGS
from jobs.deploy import rendered
from jobs.deploy_settings import Deployment, deployment_of

FOLDER = Path(__file__).parents[3] / "infra" / "deploy"
ON_CORES = (
    "deploy.image=registry.example/sgl:0.1.0-cpu",
    *(f"deploy.{role}.instance_type=m7i.xlarge" for role in ("head", "small", "large")),
    "deploy.aws={region: us-east-1, image_id: ami-0, subnets: [a], security_groups: [b]}",
    "pools={small: {num_gpus: 0}, large: {num_gpus: 0}}",
)
"""What the demo's own settings do not say: they are for a machine that is there already."""
DEMO = (*ON_CORES, "input.path=s3://bucket/in.parquet", "output.path=s3://bucket/out")


def deployment(kind: str, *assignments: str) -> Deployment:
    """One of job, serve, demo, demo-serve."""
    settings, more = {
        "job": (FOLDER / "job.yaml", ()),
        "serve": (FOLDER / "serve.yaml", ()),
        "demo": (SETTINGS, DEMO),
        "demo-serve": (SETTINGS.with_name("serve.yaml"), ON_CORES),
    }[kind]
    endpoint = kind.endswith("serve")
    return deployment_of(str(settings), (*more, *assignments), None, endpoint=endpoint)


def files(kind: str, target: str = "kuberay", *assignments: str) -> dict[str, Any]:
    """What is rendered of it, parsed, by path."""
    found = rendered(deployment(kind, *assignments), target)
    return {path: yaml.safe_load(text) for path, text in found.items()}


KINDS = ("job", "serve", "demo", "demo-serve")


def ray_objects(kind: str, *assignments: str) -> dict[str, dict[str, Any]]:
    """RayJobs or RayServices of all overlays, by path."""
    found = files(kind, "kuberay", *assignments)
    return {path: one for path, one in found.items() if one["kind"] in ("RayJob", "RayService")}


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    found: dict[str, Any] = spec.get("rayClusterSpec") or spec["rayClusterConfig"]
    return found


def nodes_of(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Workers at the start, as ray.nodes() tells them."""
    nodes = []
    for group in cluster_of(manifest)["workerGroupSpecs"]:
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        gpus = int(limits.get("nvidia.com/gpu", 0))
        resources = {"CPU": float(limits["cpu"])} | ({"GPU": float(gpus)} if gpus else {})
        one = {"Alive": True, "Resources": resources, "Labels": group["labels"]}
        nodes += [one] * group["replicas"]
    return nodes
