"""Manifests as files: a base that all devices share, and an overlay for each kind of them."""

from collections.abc import Mapping

import yaml

from infra.deploy.config import DeployConfig
from infra.deploy.kuberay import ray_job, ray_service
from infra.deploy.pods import Manifest
from infra.deploy.surroundings import base, disruption, settings, weights
from infra.deploy.workload import Workload

_KUSTOMIZATION = "kustomization.yaml"


def manifests(
    config: DeployConfig, workload: Workload, demo: tuple[DeployConfig, Workload] | None
) -> dict[str, str]:
    """Text of every file, by its path below the output directory.

    Args:
        config: of the deployment.
        workload: what is deployed.
        demo: the same on cores alone, to try the cluster with, and its nodes; None leaves it out.

    Raises:
        ValueError: a replica fits on no node; names the setting and the remedy.
    """
    files = _folder("base", base(config, workload), ())
    device = "gpu" if workload.on_gpus else "cpu"
    files |= _overlay(f"overlays/{device}", config.name, config, workload, config.image)
    if demo is not None:
        image = config.demo_image or config.image
        files |= _overlay("overlays/cpu-demo", f"{config.name}-demo", *demo, image)
    return files


def _overlay(
    path: str, name: str, config: DeployConfig, workload: Workload, image: str
) -> dict[str, str]:
    kind, make = ("rayjob", ray_job) if workload.port is None else ("rayservice", ray_service)
    found = {
        "settings.yaml": settings(name, config, workload),
        f"{kind}.yaml": make(name, config, workload, image),
        "disruption.yaml": disruption(name, config),
    }
    if workload.weights:
        found["weights.yaml"] = weights(name, config, workload, image)
    return _folder(path, found, ("../../base",))


def _folder(path: str, found: Mapping[str, Manifest], above: tuple[str, ...]) -> dict[str, str]:
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [*above, *found],
    }
    everything = {_KUSTOMIZATION: kustomization, **found}
    return {f"{path}/{file}": as_yaml(manifest) for file, manifest in everything.items()}


class _Plain(yaml.SafeDumper):
    """Writes a mapping that stands twice in full, and texts of many lines as such."""

    def ignore_aliases(self, _data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Plain.add_representer(str, _text)


def as_yaml(manifest: Manifest) -> str:
    """One manifest as text, its keys in the order in which they were made."""
    return yaml.dump(manifest, Dumper=_Plain, sort_keys=False, width=1000)
