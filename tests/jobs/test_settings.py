from pathlib import Path

import pytest

from actors.config import PruningConfig
from jobs.settings import load_job
from pipeline.config import Mode
from pipeline.policy import write_policy
from sgl.errors import ConfigurationError
from testbed import model_path
from tests.pipeline.test_policy import policy_for

MINIMAL = """
input: {path: in.parquet}
output: {path: out}
threshold: 0.5
models:
  small: {path: a/b}
  large: {path: c/d}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "job.yaml"
    path.write_text(MINIMAL)
    return str(path)


def test_flags_win_over_assignments_which_win_over_the_file(config: str) -> None:
    assert load_job(config).threshold == 0.5
    assert load_job(config, ["threshold=0.6"]).threshold == 0.6
    assert load_job(config, ["threshold=0.6"], {"threshold": 0.7}).threshold == 0.7
    assert load_job(config, ["threshold=0.6"], {"threshold": None}).threshold == 0.6


def test_assigned_values_are_yaml(config: str) -> None:
    job = load_job(config, ["input.drop=[a, b]", "pools.large.num_gpus=2", "input.limit=null"])
    assert job.input.drop == ("a", "b")
    assert job.pools.large.num_gpus == 2
    assert job.input.limit is None


@pytest.fixture
def policy(config: str, tmp_path: Path) -> str:
    path = tmp_path / "policy.yaml"
    write_policy(policy_for(load_job(config)), path)
    return str(path)


def test_a_policy_goes_before_the_file_which_is_told(
    config: str, policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with open(config, "a") as file:
        file.write("mode: large\npruning: {keep_ratio: 0.9}\npromise: {agreement: 0.1}\n")
    job = load_job(config, policy=policy)
    assert (job.mode, job.threshold) == (Mode.CASCADE, 0.7400000000000001)
    assert job.pruning == PruningConfig(prune_layer=0.4, keep_ratio=0.4)
    assert job.promise is not None
    assert job.promise.agreement == 0.9
    (line,) = capsys.readouterr().err.splitlines()
    assert "not looked at, as --policy decides it: mode, promise, pruning, threshold" in line


def test_the_command_line_does_not_contradict_a_policy(config: str, policy: str) -> None:
    with pytest.raises(ConfigurationError, match="--policy: it decides threshold"):
        load_job(config, ["threshold=0.1"], policy=policy)
    with pytest.raises(ConfigurationError, match="--policy: it decides pruning"):
        load_job(config, flags={"pruning.pruner": "random"}, policy=policy)


def test_what_a_calibration_chooses_is_not_asked_of_the_file(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        *("mode=large", "pruning.pruner=random", "probe.share=0.1", "promise.agreement=0.9"),
        *("input.sample=7", "input.sample_seed=3", "input.limit=9"),
    ]
    job = load_job(config, settings, undecided=True)
    assert (job.mode, job.probe, job.promise) == (Mode.CASCADE, None, None)
    assert (job.input.sample, job.input.sample_seed, job.input.limit) == (None, 0, 9)
    (line,) = capsys.readouterr().err.splitlines()
    names = "mode, threshold, pruning, probe, promise, input.sample, input.sample_seed"
    assert line.endswith(names)
    with pytest.raises(ConfigurationError, match=r"models\.small"):
        load_job(config, ["mode=large", "models={large: {path: a}}"], undecided=True)


def test_flags_alone_make_a_job() -> None:
    flags = {
        "input.path": "in.csv",
        "output.path": "out",
        "models.small.path": "a/b",
        "models.large.path": "c/d",
        "threshold": 0.5,
        "pruning.keep_ratio": 0.3,
    }
    job = load_job(None, (), flags)
    assert job.pruning.keep_ratio == 0.3
    assert Path(job.input.path).is_absolute()


def test_testbed_means_the_shipped_pair(config: str) -> None:
    job = load_job(config, ["models.small.path=testbed", "models.large.path=testbed"])
    assert job.model("small").path == str(model_path("small"))
    assert job.model("large").path == str(model_path("large"))


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("treshold=1", "treshold: there is no such setting; did you mean threshold"),
        ("pools.large.replica=1", "pools.large.replica: .*did you mean replicas"),
        ("models.small.batchsize=1", "models.small.batchsize: .*did you mean batch_size"),
        ("pruning.keep_ratio=2", "pruning.keep_ratio: .*less than or equal to 1, not 2"),
        ("mode=both", "mode: .*'cascade', 'small' or 'large'"),
        ("threshold=null", "threshold: the cascade needs it"),
        ("models.large=null", "models.large: mode 'cascade' needs it"),
        ("input=null", "input: "),
        ("threshold.x=1", "threshold is a value"),
        ("threshold", "write name=value"),
        ("threshold=[", "not YAML"),
    ],
)
def test_mistakes_are_explained(config: str, assignment: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load_job(config, [assignment])


def test_a_url_that_is_refused_is_not_repeated(config: str) -> None:
    with pytest.raises(ConfigurationError, match=r"storage\.endpoint_url") as caught:
        load_job(config, ["storage.endpoint_url=https://AKIA:TOPSECRET@minio.example"])
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("number", [".inf", ".nan"])
def test_numbers_are_finite(config: str, number: str) -> None:
    with pytest.raises(ConfigurationError, match="finite"):
        load_job(config, [f"pools.small.deadline_s={number}"])


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(ConfigurationError, match="input: must be written; output: must be written"):
        load_job(None)


def test_a_missing_or_empty_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none.yaml: cannot be read"):
        load_job(str(tmp_path / "none.yaml"))
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(ConfigurationError, match="holds no settings"):
        load_job(str(tmp_path / "empty.yaml"))


def test_credentials_in_the_environments_endpoint_are_refused_and_not_repeated(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://key:secret@host")
    with pytest.raises(ConfigurationError, match=r"storage\.endpoint_url: holds cred") as refused:
        load_job(config)
    assert "secret" not in str(refused.value)


def test_the_storage_of_a_job_that_runs_elsewhere_stays_as_it_is_written(
    config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://here:9000")
    assert load_job(config).storage.endpoint_url == "http://here:9000"
    there = load_job(config, ["storage.max_attempts=3"], elsewhere=True).storage
    assert there.model_dump(exclude_unset=True) == {"max_attempts": 3}
