"""`sgl deploy render`, from settings to files."""

from pathlib import Path

import pytest
import yaml

from infra.deploy.workload import groups_of
from jobs.cli import main
from jobs.deploy import told
from jobs.deploy_settings import deployment_of
from jobs.settings import checked
from pipeline.config import JobConfig
from sgl.errors import ConfigurationError
from tests.infra.deploy.rendering import FOLDER, deployment, files

JOB = str(FOLDER / "job.yaml")
SERVE = str(FOLDER / "serve.yaml")


def test_the_command_writes_and_says_what_it_costs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = ["--set", "pools.small.usd_per_hour=0.4", "--set", "pools.large.usd_per_hour=1.5"]
    command = ["deploy", "render", "--config", JOB, "--target", "kuberay", *prices]
    output = tmp_path / "out"
    assert main([*command, "--output", str(output)]) == 0
    says = capsys.readouterr().err
    assert "small: 2 nodes with 1 GPUs each, spot\n" in says
    assert "large: 2 nodes with 4 GPUs each\n" in says
    assert "USD 12.80 per hour" in says  # 2 x 1 x 0.4 and 2 x 4 x 1.5
    assert (output / "overlays" / "gpu" / "rayjob.yaml").is_file()
    assert main([*command, "--output", str(output)]) == 0
    (output / "older.yaml").write_text("")
    assert main([*command, "--output", str(output)]) == 2
    assert "holds older.yaml" in capsys.readouterr().err


def test_what_runs_there_is_the_job_as_written_and_its_pools_settled() -> None:
    found = files("job", "kuberay", "threshold=0.7", "input.columns.id=key")
    text = found["overlays/gpu/settings.yaml"]["data"]["job.yaml"]
    job = JobConfig.model_validate(yaml.safe_load(text))
    source = deployment("job", "threshold=0.7", "input.columns.id=key").source
    assert isinstance(source, JobConfig)
    settled = {"deploy", "pools", "ray"}
    assert job.model_dump(exclude=settled) == source.model_dump(exclude=settled)
    assert job.pools.small.num_gpus == 0.25
    assert job.pools.small.node_labels == {"sgl-pool": "small"}
    assert job.ray.address == "auto"
    assert job.deploy is None


@pytest.mark.parametrize("kind", ["job", "demo"])
def test_the_rendered_settings_of_a_job_are_taken_where_it_runs(kind: str) -> None:
    found = files(kind, "kuberay", "threshold=0.7")
    texts = [one["data"]["job.yaml"] for path, one in found.items() if "settings" in path]
    assert texts
    for text in texts:
        assert checked(yaml.safe_load(text)).pools.large.node_labels == {"sgl-pool": "large"}


def test_the_demo_needs_neither_gpus_nor_the_hub() -> None:
    found = files("job")
    assert "overlays/cpu-demo/weights.yaml" not in found
    text = found["overlays/cpu-demo/settings.yaml"]["data"]["job.yaml"]
    job = JobConfig.model_validate(yaml.safe_load(text))
    assert (job.model("small").path, job.pools.large.num_gpus) == ("testbed", 0)
    assert job.output.path == "s3://my-bucket/answers-cpu-demo"
    assert "nvidia" not in str(found["overlays/cpu-demo/rayjob.yaml"]["spec"]["rayClusterSpec"])
    assert "overlays/cpu-demo/rayjob.yaml" not in files("demo")


@pytest.mark.parametrize(
    ("assignments", "says"),
    [
        (
            ("input.path=photos.jsonl",),
            "input.path: photos.jsonl is not on every node",
        ),
        (("output.path=/models/out",), "output.path: /models/out would be lost"),
        (("models.small.path=/data/small",), "models.small.path: /data/small is not on every"),
        (("models.small.path=s3://b/small",), "models.small.path: s3://b/small is no hub's id"),
        (("models.small.path=testbed/weights",), "models.small.path: testbed/weights is no hub's"),
        (("models.small.path=InternVL3-1B",), "models.small.path: InternVL3-1B is no hub's id"),
        (("pools.large.num_gpus=2.5",), "pools.large.num_gpus: 2.5 is no whole number"),
        (("models.large.device=cpu",), "models.large.device: 'cpu' leaves the 4 GPUs"),
        (("models.large.tensor_parallel=2",), "models.large.tensor_parallel: 2 processes need"),
        (("pools.small.node_labels={a: b}",), "pools.small.node_labels: each pool gets nodes"),
        (("pools.balance=true",), "pools.balance: pools of a rendered cluster have nodes of their"),
        (("deploy=null",), "deploy: there is none; write deploy.image"),
        (("deploy.imag=x:1",), "deploy.imag: there is no such setting"),
        (("deploy.small.gpu=1",), "deploy.small.gpu: there is no such setting"),
        (("deploy.image=sgl:latest",), "deploy.image"),
        (("deploy.large.gpus=2",), "deploy.large.gpus: a replica takes 4 of one node"),
        (
            ("deploy.metrics_namespace=monitoring", "metrics={port: 0}"),
            "metrics.port: 0 is any; write one",
        ),
    ],
)
def test_an_impossible_wish_is_one_line(
    assignments: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["deploy", "render", "--config", JOB, "--target", "kuberay"]
    sets = [part for one in assignments for part in ("--set", one)]
    assert main([*command, *sets, "--output", str(tmp_path / "out")]) == 2
    told_to = capsys.readouterr().err
    assert says in told_to
    assert len(told_to.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [([JOB, "--endpoint"], "job.yaml is a job's"), ([SERVE], "serve.yaml is an endpoint's")],
)
def test_settings_of_the_other_kind_are_one_line(
    given: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["deploy", "render", "--target", "kuberay", "--output", str(tmp_path / "out")]
    assert main([*command, "--config", *given]) == 2
    told_to = capsys.readouterr().err
    assert says in told_to
    assert len(told_to.splitlines()) == 1


def test_a_policy_goes_along_and_decides(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("threshold: 0.5\n")
    found = deployment_of(JOB, ["threshold=null"], str(policy), endpoint=False)
    assert found.workload.files == {"policy.yaml": "threshold: 0.5\n"}
    assert "threshold" not in found.workload.settings
    with pytest.raises(ConfigurationError, match=r"--policy: .* cannot be read"):
        deployment_of(JOB, [], str(tmp_path / "none"), endpoint=False)


def test_an_endpoints_files_are_where_its_pods_have_them(tmp_path: Path) -> None:
    policy = tmp_path / "careful.yaml"
    policy.write_text("threshold: 0.5\n")
    found = deployment_of(SERVE, [f"policies.careful={policy}"], None, endpoint=True)
    assert found.workload.settings["policies"] == {"careful": "/etc/sgl/policy-careful.yaml"}
    assert found.workload.files == {"policy-careful.yaml": "threshold: 0.5\n"}
    assert found.workload.settings["keys"] == "/etc/sgl-keys/keys.yaml"


def test_prices_are_of_the_accelerators_unless_they_are_written() -> None:
    pools = deployment("job", "deploy.small.spot=false").workload.settings["pools"]
    assert 0 < pools["small"]["usd_per_hour"] < pools["large"]["usd_per_hour"]
    written = ("pools.small.usd_per_hour=1", "pools.large.usd_per_hour=9")
    pools = deployment("job", *written).workload.settings["pools"]
    assert (pools["small"]["usd_per_hour"], pools["large"]["usd_per_hour"]) == (1, 9)


def test_an_unknown_price_leaves_none_and_is_told() -> None:
    found = deployment("job", "deploy.small.accelerator=null")
    assert "usd_per_hour" not in found.workload.settings["pools"]["large"]
    assert any("no price" in line for line in told(found))
    assert len(groups_of(found.workload, found.config)) == 2


def test_how_long_nodes_may_take_is_as_written() -> None:
    for more, wait_s in (((), 1800), (("ray.nodes_wait_s=0",), 0), (("ray.nodes_wait_s=9",), 9)):
        assert deployment("job", *more).workload.settings["ray"] == {
            "address": "auto",
            "nodes_wait_s": wait_s,
        }


def test_settings_of_another_ray_are_told() -> None:
    (line,) = [one for one in told(deployment("job", "ray.num_cpus=8")) if "not looked at" in one]
    assert line.endswith(": ray.num_cpus")
    assert not any("not looked at" in one for one in told(deployment("job")))


def test_an_endpoint_without_keys_is_told() -> None:
    assert any("has no keys" in line for line in told(deployment("serve", "keys=null")))
    assert not any("keys" in line for line in told(deployment("serve")))
