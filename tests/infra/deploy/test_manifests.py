"""Manifests hold what they promise, and typos in them would be found."""

import copy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)
from ray.autoscaler._private.util import validate_config
from ray.serve.schema import ServeDeploySchema

from jobs.deploy import rendered, write
from pipeline.config import JobConfig
from pipeline.preflight import resolve
from serving.app import _told_by
from serving.config_file import checked
from serving.placement import placed
from sgl.errors import ConfigurationError
from tests.infra.deploy.rendering import (
    KINDS,
    cluster_of,
    deployment,
    files,
    nodes_of,
    ray_objects,
)
from tests.infra.deploy.schemas import check

WIDE = "pools={small: {replicas: 7, num_gpus: 0.3}, large: {replicas: 3, num_gpus: 2}}"
EIGHT = "deploy.large.gpus=8"


@pytest.mark.parametrize("kind", KINDS)
def test_every_manifest_is_what_its_schema_says(kind: str) -> None:
    found = files(kind)
    assert len(found) > 6
    for manifest in found.values():
        check(manifest)


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of all keys that a schema knows: below maps of any names, and texts, there are none."""
    named = ("labels", "annotations", "limits", "requests", "rayStartParams", "nodeSelector")
    if isinstance(value, dict) and not (at and at[-1] in (*named, "matchLabels", "data")):
        for key, below in value.items():
            yield (*at, key)
            yield from paths(below, (*at, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from paths(below, (*at, index))


def misspelt(manifest: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    found = copy.deepcopy(manifest)
    place: Any = found
    for step in path[:-1]:
        place = place[step]
    place[f"{path[-1]}x"] = place.pop(path[-1])
    return found


MISSPELT = (
    *(("job", f"overlays/gpu/{file}.yaml") for file in ("rayjob", "weights", "disruption")),
    ("serve", "overlays/gpu/rayservice.yaml"),
    ("serve", "base/network.yaml"),
    ("job", "base/volume.yaml"),
)


@pytest.mark.parametrize(("kind", "file"), MISSPELT)
def test_any_misspelt_key_is_found(kind: str, file: str) -> None:
    manifest = files(kind)[file]
    keys = [path for path in paths(manifest) if path not in {("kind",), ("apiVersion",)}]
    assert len(keys) > 6
    # Workers are alike: the keys of one are enough.
    alike = {tuple(0 if isinstance(step, int) else step for step in path): path for path in keys}
    assert [path for path in alike.values() if passes(misspelt(manifest, path))] == []


CLUSTER = ("spec", "rayClusterSpec")
WORKER = (*CLUSTER, "workerGroupSpecs", 0)
POD = (*WORKER, "template", "spec")


@pytest.mark.parametrize(
    "path",
    [
        (*CLUSTER, "headGroupSpec"),
        (*CLUSTER, "headGroupSpec", "template"),
        *((*WORKER, name) for name in ("groupName", "minReplicas", "maxReplicas", "template")),
        ("metadata", "namespace"),
        ("spec", "rayClusterSpec"),
    ],
)
def test_what_is_missing_is_found(path: tuple[Any, ...]) -> None:
    manifest = files("job")["overlays/gpu/rayjob.yaml"]
    place: Any = manifest
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    assert not passes(manifest)


def passes(manifest: dict[str, Any]) -> bool:
    try:
        check(manifest)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "submissionMode"), "K8sJob"),
        (("spec", "backoffLimit"), "1"),
        (("spec", "rayClusterSpec", "authOptions", "mode"), "tokens"),
        (("spec", "rayClusterSpec", "headGroupSpec", "serviceType"), "ClusterIp"),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "minReplicas"), -1),
        (("spec", "rayClusterSpec", "workerGroupSpecs", 0, "labels"), {"sgl-pool": 1}),
        (("metadata", "name"), "Sgl"),
        (("spec", "ttlSecondsAfterFinished"), 1.5),
        (("spec", "shutdownAfterJobFinishes"), "true"),
        (("spec", "shutdownAfterJobFinishes"), False),
        (("spec", "preRunningDeadlineSeconds"), 0),
        (("spec", "managedBy"), "kueue"),
        ((*CLUSTER, "rayVersion"), "2.51.0"),
        ((*CLUSTER, "upgradeStrategy"), {"type": "Recreate"}),
        ((*CLUSTER, "tlsOptions"), {"enabled": True}),  # 1.6.2 would drop it
        ((*CLUSTER, "headGroupSpec", "rayStartParams"), {"dashbord-host": "0.0.0.0"}),
        ((*CLUSTER, "headGroupSpec", "rayStartParams"), {"num-cpus": 0}),
        ((*WORKER, "groupName"), "large"),
        ((*WORKER, "maxReplicas"), 0),
        ((*WORKER, "labels"), {"sgl-pool": "small pool"}),
        ((*WORKER, "resources"), {"CPU": 8}),
        ((*POD, "restartPolicy"), "Always"),
        ((*POD, "containers", 0, "imagePullPolicy"), "Allways"),
        ((*POD, "containers", 0, "resources", "limits", "memory"), "32GiB"),
        ((*POD, "securityContext", "runAsUser"), "1000"),
        ((*POD, "securityContext", "seccompProfile", "type"), "Runtime"),
        ((*POD, "tolerations", 0, "effect"), "NoShedule"),
    ],
)
def test_a_wrong_value_is_found(path: tuple[Any, ...], value: object) -> None:
    manifest = files("job")["overlays/gpu/rayjob.yaml"]
    place: Any = manifest
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ValidationError):
        check(manifest)


@pytest.mark.parametrize("kind", KINDS)
def test_rays_autoscaler_takes_the_cluster_and_knows_its_labels(kind: str) -> None:
    for manifest in ray_objects(kind).values():
        cluster = {"metadata": manifest["metadata"], "spec": cluster_of(manifest)}
        config = _derive_autoscaling_config_from_ray_cr(cluster)
        validate_config(config)
        types = config["available_node_types"]
        labels = {name: types[name]["labels"] for name in ("small", "large")}
        assert labels == {"small": {"sgl-pool": "small"}, "large": {"sgl-pool": "large"}}
        assert types["headgroup"]["resources"]["CPU"] == 0


@pytest.mark.parametrize("more", [(), (WIDE,), (WIDE, EIGHT)])
def test_the_nodes_of_a_job_hold_its_pools_and_not_one_less(more: tuple[str, ...]) -> None:
    found = files("job", "kuberay", *more)
    text = found["overlays/gpu/settings.yaml"]["data"]["job.yaml"]
    job = JobConfig.model_validate(yaml.safe_load(text))
    nodes = nodes_of(found["overlays/gpu/rayjob.yaml"])
    resolve(job, nodes)
    for missing in range(len(nodes)):
        with pytest.raises(ConfigurationError):
            resolve(job, nodes[:missing] + nodes[missing + 1 :])


@pytest.mark.parametrize("kind", ["serve", "demo-serve"])
def test_ray_serve_takes_the_endpoint_and_the_endpoint_its_settings(
    kind: str, tmp_path: Path
) -> None:
    for manifest in ray_objects(kind).values():
        given = yaml.safe_load(manifest["spec"]["serveConfigV2"])
        # Ray's schema drops what it does not know, so that what is left must be all.
        parsed = ServeDeploySchema.model_validate(given)
        assert parsed.model_dump(mode="json", exclude_unset=True) == given
        (application,) = given["applications"]
        assert application["import_path"] == "serving.app:build"
        config = _told_by(application["args"])
        assert placed(config, nodes_of(manifest)).pools.small.node_labels == {"sgl-pool": "small"}
        assert config.listen.host == "0.0.0.0"
        assert config.deploy is None


def test_a_misspelt_key_of_ray_serves_is_found() -> None:
    (manifest,) = ray_objects("demo-serve").values()
    given = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    given["applications"][0]["route_prefx"] = given["applications"][0].pop("route_prefix")
    parsed = ServeDeploySchema.model_validate(given)
    assert parsed.model_dump(mode="json", exclude_unset=True) != given
    settings = given["applications"][0]["args"]["settings"]
    with pytest.raises(ConfigurationError, match="limit: there is no such setting"):
        checked(settings | {"limit": {}})


@pytest.mark.parametrize("kind", KINDS)
def test_pods_are_nobodys_root_and_may_do_nothing(kind: str) -> None:
    for manifest in files(kind).values():
        for pod in pods(manifest):
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["runAsUser"] > 0
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in pod["containers"] + pod.get("initContainers", []):
                assert container["securityContext"]["allowPrivilegeEscalation"] is False
                assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
                resources = container["resources"]
                assert resources["limits"] == resources["requests"]
            assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


def pods(value: Any) -> Iterator[dict[str, Any]]:
    """Specifications of all pods within a manifest."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for below in value.values():
            yield from pods(below)
    elif isinstance(value, list):
        for below in value:
            yield from pods(below)


@pytest.mark.parametrize(("kind", "ports"), [("job", {8265}), ("serve", {8265, 8000})])
def test_rays_ports_are_for_its_own_pods_and_its_operator(kind: str, ports: set[int]) -> None:
    found = files(kind)
    policy = found["base/network.yaml"]["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    own, *others = policy["ingress"]
    assert own == {"from": [{"podSelector": {"matchLabels": policy["podSelector"]["matchLabels"]}}]}
    assert {port["port"] for rule in others for port in rule["ports"]} == ports
    assert all(rule["from"] for rule in others)
    selected = policy["podSelector"]["matchLabels"].items()
    for path, manifest in found.items():
        if path.startswith("overlays/"):
            for template in templates(manifest):
                assert selected <= template["metadata"]["labels"].items()


def templates(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if isinstance(value.get("spec"), dict) and "containers" in value["spec"]:
            yield value
        for below in value.values():
            yield from templates(below)
    elif isinstance(value, list):
        for below in value:
            yield from templates(below)


def test_the_pools_machines_are_apart() -> None:
    manifest = ray_objects("job")["overlays/gpu/rayjob.yaml"]
    small, large = (group["template"]["spec"] for group in cluster_of(manifest)["workerGroupSpecs"])
    assert small["nodeSelector"] == {"karpenter.sh/capacity-type": "spot"}
    assert large["nodeSelector"] == {"karpenter.sh/capacity-type": "on-demand"}
    taints = [{t["key"]: t.get("value") for t in pod["tolerations"]} for pod in (small, large)]
    assert taints == [
        {"sgl-pool": "small", "nvidia.com/gpu": None, "karpenter.sh/capacity-type": "spot"},
        {"sgl-pool": "large", "nvidia.com/gpu": None},
    ]


def test_a_job_whose_machines_do_not_come_gives_the_others_back() -> None:
    """KubeRay hands it to Ray when all of them are there."""
    for wait_s, least in ((7200, 7200), (0, 1800)):
        jobs = ray_objects("job", f"ray.nodes_wait_s={wait_s}")
        limits = {path: job["spec"]["preRunningDeadlineSeconds"] for path, job in jobs.items()}
        # Where models are downloaded first, that has its time too.
        assert limits == {
            "overlays/gpu/rayjob.yaml": least + 3600,
            "overlays/cpu-demo/rayjob.yaml": least,
        }


@pytest.mark.parametrize("kind", KINDS)
def test_only_an_autoscaler_may_ask_kubernetes(kind: str) -> None:
    for path, manifest in files(kind).items():
        scaled = kind == "serve" and path == "overlays/gpu/rayservice.yaml"
        may = [pod["automountServiceAccountToken"] for pod in pods(manifest)]
        assert may == ([True] + [False] * (len(may) - 1) if scaled else [False] * len(may))


@pytest.mark.parametrize("kind", KINDS)
def test_a_budget_keeps_the_head_of_its_own_overlay(kind: str) -> None:
    found = files(kind)
    for path, manifest in found.items():
        if manifest["kind"] == "PodDisruptionBudget":
            assert manifest["spec"]["minAvailable"] == 1
            selected = manifest["spec"]["selector"]["matchLabels"].items()
            kept = {
                other
                for other, one in found.items()
                for template in templates(one)
                if selected <= template["metadata"]["labels"].items()
            }
            assert {other.rpartition("/")[0] for other in kept} == {path.rpartition("/")[0]}


def test_what_changes_has_another_name_and_the_rest_has_not() -> None:
    def names(*assignments: str) -> dict[str, str]:
        found = files("job", "kuberay", *assignments)
        return {path: one["metadata"]["name"] for path, one in found.items() if "metadata" in one}

    def changed(*assignments: str) -> set[str]:
        return {path for path, name in names(*assignments).items() if name != names()[path]}

    gpu, demo = ("overlays/gpu/", "overlays/cpu-demo/")
    assert changed("threshold=0.7") == {f"{gpu}settings.yaml", f"{demo}settings.yaml"}
    assert changed("models.large.revision=main") == {f"{gpu}settings.yaml", f"{gpu}weights.yaml"}
    assert changed("deploy.image=registry.example/sgl:2") == {f"{gpu}weights.yaml"}
    for path, job in ray_objects("job").items():
        (mounted,) = {
            volume["configMap"]["name"]
            for pod in pods(job)
            for volume in pod.get("volumes", [])
            if "configMap" in volume
        }
        assert mounted == names()[f"{path.rpartition('/')[0]}/settings.yaml"]


def test_metrics_are_for_whom_they_are_opened_and_nobody_else() -> None:
    with_port = ("metrics={port: 9400}",)
    opened = ("deploy.metrics_namespace=monitoring", *with_port)
    found = files("job", "kuberay", *opened)
    (rule,) = found["base/network.yaml"]["spec"]["ingress"][2:]
    assert [port["port"] for port in rule["ports"]] == [8080, 9400]
    assert "monitoring" in str(rule["from"])
    text = found["overlays/gpu/settings.yaml"]["data"]["job.yaml"]
    assert yaml.safe_load(text)["metrics"] == {"port": 9400, "host": "0.0.0.0"}
    assert len(files("job", "kuberay", *with_port)["base/network.yaml"]["spec"]["ingress"]) == 2


def test_an_endpoint_grows_between_its_replicas_and_a_job_stays() -> None:
    job = cluster_of(ray_objects("job")["overlays/gpu/rayjob.yaml"])
    assert "enableInTreeAutoscaling" not in job
    assert all(g["minReplicas"] == g["maxReplicas"] for g in job["workerGroupSpecs"])
    endpoint = cluster_of(ray_objects("serve")["overlays/gpu/rayservice.yaml"])
    assert endpoint["enableInTreeAutoscaling"] is True
    bounds = [(g["minReplicas"], g["maxReplicas"]) for g in endpoint["workerGroupSpecs"]]
    assert bounds == [(1, 4), (1, 4)]


def test_proxies_have_their_bounds_on_every_node() -> None:
    for pod in pods(ray_objects("serve")["overlays/gpu/rayservice.yaml"]):
        names = {one["name"]: one.get("value") for one in pod["containers"][0].get("env", [])}
        assert names["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] == "serving.proxy:middlewares"
        assert names["SGL_SERVE_MAX_BODY_BYTES"] == str(32 << 20)
        assert names["FORWARDED_ALLOW_IPS"] == ""
        assert names["RAY_SERVE_USE_GRPC_BY_DEFAULT"] == "1"
        assert names["RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH"] == "2147483647"


def test_pods_wait_for_exactly_the_weights_that_are_downloaded() -> None:
    found = files("job", "kuberay", "models.large.revision=main")
    weights = found["overlays/gpu/weights.yaml"]["spec"]["template"]["spec"]["containers"]
    written = {one["command"][2].rpartition(" ")[2] for one in weights}
    assert len(written) == 2
    for pod in pods(cluster_of(found["overlays/gpu/rayjob.yaml"])):
        (waiting,) = pod["initContainers"]
        assert set(waiting["command"][2].split()) & written == written
        assert pod["containers"][0]["env"][-1] == {"name": "HF_HUB_OFFLINE", "value": "1"}


@pytest.mark.parametrize("kind", KINDS)
def test_kustomizations_name_every_file_and_no_other(kind: str) -> None:
    found = files(kind)
    folders = {path.rpartition("/")[0] for path in found}
    assert folders >= {"base"}
    for folder in folders:
        names = {p.rpartition("/")[2] for p in found if p.rpartition("/")[0] == folder}
        resources = set(found[f"{folder}/kustomization.yaml"]["resources"])
        above = set() if folder == "base" else {"../../base"}
        assert resources == names - {"kustomization.yaml"} | above


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_kustomize_builds_every_overlay(tmp_path: Path) -> None:
    write(rendered(deployment("job"), "kuberay"), tmp_path)
    for overlay in ("gpu", "cpu-demo"):
        command = ["kubectl", "kustomize", str(tmp_path / "overlays" / overlay)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        kinds = [one["kind"] for one in yaml.safe_load_all(done.stdout)]
        assert kinds.count("RayJob") == 1
        assert {"Namespace", "NetworkPolicy", "ServiceAccount", "ConfigMap"} <= set(kinds)
