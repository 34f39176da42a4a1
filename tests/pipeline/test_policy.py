"""A policy's file, and the jobs that it is refused for."""

from pathlib import Path
from typing import Any

import pytest

from actors.config import GuidanceConfig, ModelConfig, PruningConfig
from pipeline.config import ColumnsConfig, JobConfig, Mode
from pipeline.policy import (
    Guarantee,
    Policy,
    check_policy,
    identity_for,
    read_policy,
    settings_of,
    write_policy,
)
from pipeline.probe import ProbeConfig
from sgl.errors import ConfigurationError
from sgl.types import ConsistencyForm, Criterion
from tests.pipeline.inputs import job_of


@pytest.fixture
def job(tmp_path: Path) -> JobConfig:
    return job_of(tmp_path / "in.parquet", tmp_path / "out")


def policy_for(job: JobConfig, **settings: Any) -> Policy:
    data: dict[str, Any] = {
        "mode": Mode.CASCADE,
        "threshold": 0.7400000000000001,
        "pruning": PruningConfig(prune_layer=0.4, keep_ratio=0.4),
        "guarantees": (Guarantee(target="agreement", value=0.9, estimate=0.93),),
        "delta": 0.1,
        "metric": "exact_match",
        "records": 280,
        "cost": {"policy": 1.0, "large_only": 2.0},
        "cost_unit": "flops",
        "escalation_rate": 0.4,
        "created_at": "2026-01-01T00:00:00+00:00",
        "identity": identity_for(job),
    }
    return Policy.model_validate(data | settings)


def test_a_policy_is_read_as_it_was_written_to_the_last_digit(
    job: JobConfig, tmp_path: Path
) -> None:
    policy = policy_for(job)
    write_policy(policy, tmp_path / "new" / "policy.yaml")
    assert read_policy(tmp_path / "new" / "policy.yaml") == policy
    with pytest.raises(FileExistsError):
        write_policy(policy, tmp_path / "new" / "policy.yaml")


def test_its_pruner_goes_with_it_and_policies_without_one_are_guided(
    job: JobConfig, tmp_path: Path
) -> None:
    path = tmp_path / "policy.yaml"
    write_policy(policy_for(job), path)
    assert "pruner" not in path.read_text()
    assert read_policy(path).pruning.pruner == "guided"
    other = policy_for(job, pruning=PruningConfig(keep_ratio=0.4, pruner="uniform"))
    write_policy(other, tmp_path / "other.yaml")
    found = read_policy(tmp_path / "other.yaml")
    assert found == other
    written = settings_of(found, {"input": {"path": "in"}, "output": {"path": "out"}})
    assert written["pruning"]["pruner"] == "uniform"
    assert identity_for(job) == identity_for(
        job.model_copy(
            update={"pruning": PruningConfig(pruner="random"), "probe": ProbeConfig(share=0.1)}
        )
    )


@pytest.mark.parametrize("text", ["", "a: 1", "version: 1", "["])
def test_what_is_no_policy_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_policy(tmp_path / "policy.yaml")
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match="no policy of this version"):
        read_policy(tmp_path / "policy.yaml")


def test_it_decides_threshold_pruning_and_mode(job: JobConfig) -> None:
    policy = policy_for(job)
    written = {"input": {"path": "in"}, "output": {"path": "out"}}
    assert settings_of(policy, written) == {
        **written,
        "mode": "cascade",
        "threshold": 0.7400000000000001,
        "pruning": {"prune_layer": 0.4, "keep_ratio": 0.4},
        "promise": {"agreement": 0.9, "delta": 0.1, "metric": "exact_match"},
    }
    small = policy_for(job, mode=Mode.SMALL, threshold=0.0)
    promise = settings_of(policy, written)["promise"]
    assert settings_of(small, written) == {**written, "mode": "small", "promise": promise}
    cheap = Guarantee(target="escalation_rate", value=0.3, estimate=0.2)
    own = {**written, "promise": {"agreement": 0.5}}
    assert settings_of(policy_for(job, guarantees=[cheap]), own)["promise"] == own["promise"]
    for name, value in (("threshold", 0.5), ("pruning", {}), ("mode", "large"), ("promise", {})):
        with pytest.raises(ConfigurationError, match=f"decides {name}, which the job writes too"):
            settings_of(policy, {**written, name: value})


def test_it_holds_for_other_data_and_machines_and_not_for_other_models(job: JobConfig) -> None:
    policy = policy_for(job)
    check_policy(policy, job)
    check_policy(policy, job.model_copy(update={"threshold": 0.1, "mode": Mode.SMALL}))
    columns = ColumnsConfig(question="text", id="key")
    elsewhere = {"path": "/other", "limit": 5, "image_root": "/pictures", "columns": columns}
    data = job.input.model_copy(update=elsewhere)
    check_policy(policy, job.model_copy(update={"input": data, "rows_per_block": 3}))
    noted = GuidanceConfig(all_criteria=True)
    check_policy(policy, job.model_copy(update={"guidance": noted}))
    chosen = GuidanceConfig(criterion=Criterion.CONFIDENCE)
    with pytest.raises(ConfigurationError, match=r"guidance\.criterion.*calibrate again"):
        check_policy(policy, job.model_copy(update={"guidance": chosen}))
    other = GuidanceConfig(consistency=ConsistencyForm.GEOMETRIC)
    with pytest.raises(ConfigurationError, match=r"guidance\.consistency.*calibrate again"):
        check_policy(policy, job.model_copy(update={"guidance": other}))
    options = job.input.model_copy(update={"options": ("A", "B")})
    with pytest.raises(ConfigurationError, match=r"input\.options.*calibrate again"):
        check_policy(policy, job.model_copy(update={"input": options}))


def with_models(job: JobConfig, **models: ModelConfig | None) -> JobConfig:
    return job.model_copy(update={"models": job.models.model_copy(update=models)})


@pytest.mark.parametrize("role", ["small", "large"])
@pytest.mark.parametrize(
    ("name", "value"), [("path", "other"), ("revision", "v2"), ("dtype", "float16")]
)
def test_another_model_is_refused_by_name(role: str, name: str, value: str, job: JobConfig) -> None:
    model = job.model(role).model_copy(update={name: value})
    with pytest.raises(ConfigurationError, match=rf"models\.{role}\.{name}.*calibrate again"):
        check_policy(policy_for(job), with_models(job, **{role: model}))
    faster = job.model(role).model_copy(update={"batch_size": 2})
    check_policy(policy_for(job), with_models(job, **{role: faster}))


def test_where_every_record_exits_the_large_model_need_not_be_there(job: JobConfig) -> None:
    policy = policy_for(job, mode=Mode.SMALL, threshold=0.0)
    small = job.model_copy(update={"mode": Mode.SMALL, "threshold": None})
    check_policy(policy, with_models(small, large=None))
    with pytest.raises(ConfigurationError, match=r"models\.small\.path"):
        check_policy(policy, with_models(small, large=None, small=ModelConfig(path="other")))
