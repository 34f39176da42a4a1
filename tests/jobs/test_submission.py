import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.settings import checked, load_job
from jobs.submission import Submission, submission_of
from pipeline.config import JobConfig
from pipeline.policy import write_policy
from sgl.errors import ConfigurationError
from tests.infra.deploy.rendering import FOLDER
from tests.pipeline.test_policy import policy_for

URIS: dict[str, Any] = {
    "input": {"path": "s3://bucket/in.parquet"},
    "output": {"path": "s3://bucket/out"},
    "models": {"small": {"path": "a/b"}, "large": {"path": "c/d"}},
    "threshold": 0.5,
}


def files(submission: Submission) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(submission.package)) as package:
        return {name: package.read(name) for name in package.namelist()}


def settings(submission: Submission) -> JobConfig:
    return JobConfig.model_validate(yaml.safe_load(files(submission)["job.yaml"]))


def test_what_runs_there_is_the_job_as_written() -> None:
    job = checked(URIS | {"rows_per_block": 32, "submit": {"address": "http://head:8265"}})
    sent = submission_of(job)
    assert settings(sent) == job.model_copy(
        update={"submit": JobConfig.model_fields["submit"].default}
    )
    assert sent.entrypoint == "python -m jobs.cli run --config job.yaml"
    assert sent.metadata["sgl.output"] == "s3://bucket/out"
    assert {"jobs/cli.py", "sgl/cascade.py"} <= files(sent).keys()
    assert not [name for name in files(sent) if name.startswith("testbed/weights")]
    assert sent.told[-1].endswith(" MB")


def test_the_testbed_is_named_and_its_weights_travel() -> None:
    models = {"small": {"path": "testbed"}, "large": {"path": "testbed"}}
    sent = submission_of(checked(URIS | {"models": models}))
    assert settings(sent).model("small").path == "testbed"
    assert "testbed/weights/large/model.safetensors" in files(sent)


def test_the_clusters_own_ray_is_run_on() -> None:
    ray = {"num_cpus": 4, "nodes_wait_s": 60.0}
    sent = submission_of(checked(URIS | {"ray": ray}))
    assert settings(sent).ray.model_dump(exclude_unset=True) == {"nodes_wait_s": 60.0}
    assert sent.told[0].startswith("ray.num_cpus: not looked at")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"input": {"path": "in.parquet"}}, "input.path"),
        ({"input": URIS["input"] | {"image_root": "/pictures"}}, "input.image_root"),
        ({"output": {"path": "file:///home/out"}}, "output.path"),
        ({"models": URIS["models"] | {"large": {"path": "/models/large"}}}, "models.large.path"),
    ],
)
def test_what_only_this_machine_has_is_refused(change: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}: .* write a URI.* --shared-path"):
        submission_of(checked(URIS | change))


def test_a_relative_folder_is_not_taken_for_a_hubs_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job = URIS | {"models": {"small": {"path": "checkpoints/small"}, "large": {"path": "c/d"}}}
    assert settings(submission_of(checked(job))).model("small").path == "checkpoints/small"
    (tmp_path / "checkpoints" / "small").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match=r"models\.small\.path: .* is of this machine"):
        submission_of(checked(job))


def test_a_model_that_no_hub_can_have_is_refused() -> None:
    job = URIS | {"models": {"small": {"path": "s3://bucket/small"}, "large": {"path": "c/d"}}}
    with pytest.raises(ConfigurationError, match=r"models\.small\.path: .* is no hub's id"):
        submission_of(checked(job))


def test_shared_folders_are_taken() -> None:
    there = {
        "input": {"path": "/shared/in.parquet", "image_root": "/shared/pictures"},
        "output": {"path": "/shared/out"},
        "models": {"small": {"path": "/shared/small"}, "large": {"path": "c/d"}},
        "submit": {"shared_paths": ["/shared"]},
    }
    assert settings(submission_of(checked(URIS | there))).input.path == "/shared/in.parquet"


def test_the_volume_of_a_deployment_is_shared_for_reading() -> None:
    name = str(FOLDER / "job.yaml")
    models = "models.small.path=/models/small"
    submission_of(load_job(name, [models]))
    with pytest.raises(ConfigurationError, match=r"output\.path"):
        submission_of(load_job(name, ["output.path=/models/out"]))


@pytest.mark.parametrize(
    "path", ["s4://bucket/out", "s3://key:secret@bucket/out", "gs://bucket/out?endpoint=x"]
)
def test_a_uri_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"output\.path: an? ") as refused:
        submission_of(checked(URIS | {"output": {"path": path}}))
    assert "secret" not in str(refused.value)


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(URIS))
    return str(path)


def test_the_policy_travels_and_what_it_decides_is_left_to_it(config: str, tmp_path: Path) -> None:
    path = str(tmp_path / "policy.yaml")
    write_policy(policy_for(load_job(config)), Path(path))
    job = load_job(config, policy=path)
    sent = submission_of(job, path, retry_errors=True)
    assert sent.entrypoint.endswith("run --config job.yaml --policy policy.yaml --retry-errors")
    assert files(sent)["policy.yaml"] == Path(path).read_bytes()
    there = yaml.safe_load(files(sent)["job.yaml"])
    assert not {"threshold", "pruning", "promise", "mode"} & there.keys()
    (tmp_path / "there.yaml").write_bytes(files(sent)["job.yaml"])
    assert load_job(str(tmp_path / "there.yaml"), policy=path) == job


def test_a_policy_of_a_model_that_is_not_here_is_left_to_the_cluster(
    config: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "policy.yaml")
    write_policy(policy_for(load_job(config)), Path(path))
    elsewhere = ["models.large.path=/shared/large"]
    with pytest.raises(ConfigurationError, match="calibrated with other settings"):
        load_job(config, elsewhere, policy=path)
    load_job(config, elsewhere, policy=path, elsewhere=True)
    with pytest.raises(ConfigurationError, match="calibrated with other settings"):
        load_job(config, ["models.large.path=e/f"], policy=path, elsewhere=True)


def test_a_price_file_travels(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("prices")
    sent = submission_of(checked(URIS | {"pricing": {"file": str(path)}}))
    assert files(sent)["prices.yaml"] == b"prices"
    assert settings(sent).pricing is not None
    assert settings(sent).pricing.file == "prices.yaml"
    path.unlink()
    with pytest.raises(ConfigurationError, match=r"pricing\.file: .* cannot be read"):
        submission_of(checked(URIS | {"pricing": {"file": str(path)}}))


def test_without_code_the_image_is_checked_first() -> None:
    sent = submission_of(
        checked(URIS | {"submit": {"code": False, "python": "/opt/my venv/python"}})
    )
    assert files(sent).keys() == {"job.yaml"}
    version = sent.metadata["sgl.code"]
    check, run = sent.entrypoint.split(" && ")
    assert check == f"'/opt/my venv/python' -m jobs.code_package {version}"
    assert run.startswith("'/opt/my venv/python' -m jobs.cli run")


def test_the_same_job_has_the_same_digest_and_another_has_not() -> None:
    def digest(change: dict[str, Any], **how: Any) -> str:
        return submission_of(checked(URIS | change), **how).metadata["sgl.settings"]

    same = digest({})
    assert digest({"submit": {"address": "http://head:8265"}}, job_id="mine") == same
    others = [
        digest({"threshold": 0.6}),
        digest({}, retry_errors=True),
        digest({"submit": {"environment": {"HF_HOME": "/shared/hub"}}}),
        digest({"submit": {"python": "python3"}}),
        digest({"submit": {"code": False}}),
        digest({"submit": {"driver": {"num_cpus": 1}}}),
    ]
    assert len({same, *others}) == 7


def test_ids_are_made_and_not_twice_the_same() -> None:
    first, second = (submission_of(checked(URIS)).job_id for _ in range(2))
    assert first != second
    assert submission_of(checked(URIS), job_id="mine").job_id == "mine"


def test_variables_of_the_environment_are_sent() -> None:
    variables = {"HF_HOME": "/shared/hub", "COLUMNS": "77"}
    sent = submission_of(checked(URIS | {"submit": {"environment": variables, "stop_wait_s": 9}}))
    assert variables.items() <= sent.environment.items()
    assert sent.environment["RAY_JOB_STOP_SIGNAL"] == "SIGINT"
    assert sent.environment["RAY_JOB_STOP_WAIT_TIME_S"] == "9"
    assert sent.metadata["sgl.stop_wait_s"] == "9"


def test_nothing_of_this_machines_environment_travels(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = submission_of(load_job(config, elsewhere=True))
    secrets = {
        "AWS_ENDPOINT_URL": "http://endpoint-here:9000",
        "AWS_REGION": "region-here",
        "AWS_ACCESS_KEY_ID": "key-here",
        "AWS_SECRET_ACCESS_KEY": "secret-here",
        "AWS_SESSION_TOKEN": "session-here",
        "HF_TOKEN": "hub-here",
        "RAY_AUTH_TOKEN": "token-here",
        "RAY_JOB_HEADERS": '{"a": "header-here"}',
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    sent = submission_of(load_job(config, elsewhere=True))
    text = [sent.entrypoint, *sent.environment.values(), *sent.metadata.values(), *sent.told]
    whole = b"".join([*files(sent).values(), *(one.encode() for one in text)])
    assert [name for name, value in secrets.items() if value.encode() in whole] == []
    assert sent.metadata == before.metadata
    assert sent.package == before.package
    assert sent.told[0].startswith("AWS_ENDPOINT_URL of this machine stays here")


def test_an_endpoint_of_each_node_itself_is_told() -> None:
    here = {"storage": {"endpoint_url": "http://localhost:9000"}}
    sent = submission_of(checked(URIS | here, elsewhere=True))
    assert sent.told[0] == (
        "storage.endpoint_url: http://localhost:9000 is on each node that node itself"
    )
    assert settings(sent).storage.model_dump(exclude_unset=True) == here["storage"]


def test_a_price_file_that_is_no_uri_is_refused() -> None:
    prices = {"pricing": {"file": "s3://key:secret@bucket/prices.yaml"}}
    with pytest.raises(ConfigurationError, match=r"pricing\.file: an s3") as refused:
        submission_of(checked(URIS | prices))
    assert "secret" not in str(refused.value)


def test_a_model_that_the_mode_does_not_use_stays_here(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    models = URIS["models"] | {"large": {"path": str(tmp_path / "large")}}
    job = {name: URIS[name] for name in ("input", "output")}
    sent = submission_of(checked(job | {"mode": "small", "models": models}))
    assert settings(sent).models.large is None
    assert settings(sent).model("small").path == "a/b"
    assert str(tmp_path).encode() not in files(sent)["job.yaml"]
