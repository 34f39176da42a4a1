import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.config import JobConfig, Mode
from pipeline.ray_config import RayConfig
from tests.pipeline.inputs import job_of


def job(**settings: Any) -> JobConfig:
    return job_of("in", "out", **settings)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"models": {"small": {"path": "s"}}}, "models.large"),
        ({"mode": "small", "models": {}}, "models.small"),
        ({"mode": "large", "models": {}}, "models.large"),
        ({"threshold": None}, "threshold"),
        (
            {"mode": "large", "output": {"write_importance": True}},
            "output.write_importance",
        ),
        ({"pools": {"small": {"usd_per_hour": 2}}}, "usd_per_hour"),
        ({"mode": "large", "pruning": {"pruner": "guided"}}, "pruning.pruner.*prune nothing"),
    ],
)
def test_impossible_combinations_name_their_field(settings: dict[str, Any], names: str) -> None:
    with pytest.raises(ValidationError, match=names):
        job(**settings)


def test_a_mode_needs_only_its_own_model() -> None:
    assert job(mode="small", models={"small": {"path": "s"}}).uses("small")
    assert not job(mode="small", models={"small": {"path": "s"}}).uses("large")
    assert job(mode="large", models={"large": {"path": "l"}}, threshold=None).mode is Mode.LARGE


def test_ignored_settings_are_named() -> None:
    assert job().ignored() == ()
    assert set(job(mode="large", pruning={"keep_ratio": 0.5}).ignored()) == {"threshold", "pruning"}
    assert set(job(mode="small", pruning={"pruner": "own"}).ignored()) == {"threshold", "pruning"}


def test_the_large_model_alone_is_pruned_by_what_needs_no_small_one() -> None:
    assert job().prunes
    assert not job(mode="small", pruning={"pruner": "own"}).prunes
    assert not job(mode="large").prunes
    pruned = job(mode="large", pruning={"pruner": "uniform"})
    assert pruned.prunes
    assert pruned.ignored() == ("threshold",)
    assert pruned.absolute().pruning.pruner == "uniform"


def test_relative_paths_become_absolute_and_uris_stay(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    models = {"small": {"path": "weights"}, "large": {"path": "owner/name"}}
    absolute = job_of("in.jsonl", "s3://bucket/out", models=models).absolute()
    assert absolute.input.path == str(tmp_path / "in.jsonl")
    assert absolute.output.path == "s3://bucket/out"
    assert absolute.model("small").path == str(tmp_path / "weights")
    assert absolute.model("large").path == "owner/name"


def test_workers_are_told_the_endpoint_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://from.environment:9000")
    assert job().absolute().storage.endpoint_url == "http://from.environment:9000"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://of.s3:9000")
    assert job().absolute().storage.endpoint_url == "http://of.s3:9000"
    own = job(storage={"endpoint_url": "https://own", "max_attempts": 3}).absolute().storage
    assert (own.endpoint_url, own.max_attempts) == ("https://own", 3)


@pytest.mark.parametrize("url", ["minio:9000", "ftp://host", "http://key:secret@host"])
def test_an_endpoint_is_an_address_and_holds_no_secret(url: str) -> None:
    with pytest.raises(ValidationError, match=r"storage\.endpoint_url"):
        job(storage={"endpoint_url": url})


@pytest.mark.parametrize("module", ["pipeline", "pipeline.config", "jobs.cli"])
def test_importing_is_light(module: str) -> None:
    heavy = "{'torch', 'transformers', 'ray'}"
    code = f"import sys, {module}; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("module", ["actors.batching", "pipeline.build", "jobs.run"])
def test_no_model_library_is_imported_outside_the_models_processes(module: str) -> None:
    """The driver, and every task that fetches pictures, would pay for it."""
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'transformers'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_graphs_are_refused_where_they_cannot_be() -> None:
    def large(**settings: Any) -> dict[str, Any]:
        return {"path": "large", "cuda_graphs": True, **settings}

    small = {"path": "small", "cuda_graphs": True}
    job(models={"small": {"path": "small"}, "large": large()})
    with pytest.raises(ValidationError, match=r"models\.small\.cuda_graphs"):
        job(models={"small": small, "large": {"path": "large"}})
    with pytest.raises(ValidationError, match="a graph is of one GPU"):
        job(models={"small": {"path": "small"}, "large": large(tensor_parallel=2)})
    with pytest.raises(ValidationError, match="a graph is of one GPU"):
        job(
            models={"small": {"path": "small"}, "large": large()},
            pools={"large": {"num_gpus": 2}},
        )


@pytest.mark.parametrize(("batch_size", "blocks"), [(4, 4), (16, 16), (64, 32)])
def test_enough_blocks_wait_to_fill_a_batch(batch_size: int, blocks: int) -> None:
    assert job().pools.large.blocks_for(batch_size) == blocks
    assert job(pools={"large": {"concurrent_blocks": 3}}).pools.large.blocks_for(batch_size) == 3


@pytest.mark.parametrize("name", ["num_cpus", "object_store_bytes"])
def test_sizes_of_a_local_ray_are_refused_beside_an_address(name: str) -> None:
    with pytest.raises(ValidationError, match=f"ray.{name}: the cluster at ray.address"):
        RayConfig.model_validate({"address": "auto", name: 100 << 20})
    assert getattr(RayConfig.model_validate({name: 100 << 20}), name) == 100 << 20
