import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pipeline import fingerprint
from pipeline.config import JobConfig
from pipeline.fingerprint import (
    checkpoint_digest,
    continues,
    fingerprint_of,
    identity_of,
    unpinned,
)
from pipeline.output import JobRecord
from sgl.errors import ConfigurationError
from tests.pipeline.inputs import job_of


def job(**settings: Any) -> JobConfig:
    return job_of("in", "out", **settings)


def of(job: JobConfig) -> str:
    return fingerprint_of(identity_of(job))


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 0.7},
        {"pruning": {"keep_ratio": 0.5}},
        {"pruning": {"prune_layer": 0.5}},
        {"pruning": {"pruner": "uniform"}},
        {"guidance": {"consistency": "geometric"}},
        {"guidance": {"criterion": "confidence"}},
        {"guidance": {"all_criteria": True}},
        {"decoding": {"max_new_tokens": 3}},
        {"models": {"small": {"path": "other"}, "large": {"path": "large"}}},
        {"models": {"small": {"path": "small", "revision": "v2"}, "large": {"path": "large"}}},
        {"models": {"small": {"path": "small"}, "large": {"path": "large", "dtype": "float32"}}},
        {"mode": "small"},
        {"input": {"max_image_pixels": 5}},
        {"input": {"max_image_bytes": 5}},
        {"input": {"text_only": True}},
        {"input": {"columns": {"question": "text"}}},
        {"input": {"image_root": "/pictures"}},
        {"input": {"drop": ["kind"]}},
        {"output": {"write_importance": True}},
    ],
)
def test_the_fingerprint_changes_with_what_changes_a_row(change: dict[str, Any]) -> None:
    assert of(job(**change)) != of(job())


@pytest.mark.parametrize(
    "change",
    [
        {"rows_per_block": 3},
        {"models": {"small": {"path": "small", "batch_size": 2}, "large": {"path": "large"}}},
        {"pools": {"large": {"replicas": 3, "linger_s": 1}}},
        {"pools": {"small": {"deadline_s": 1, "start_deadline_s": 1}}},
        {"faults": {"max_deaths": 1, "max_restarts": 1}},
        {"input": {"fetch_deadline_s": 1, "http": {"allow_hosts": ["images.example.org"]}}},
        {"input": {"limit": 5}},
        {"storage": {"max_attempts": 2}},
    ],
)
def test_the_fingerprint_outlives_a_change_of_devices(change: dict[str, Any]) -> None:
    assert of(job(**change)) == of(job())


def test_what_was_added_since_changes_no_identity_by_its_default() -> None:
    """Outputs that were begun before go on: these are the names that there were."""
    assert sorted(identity_of(job())) == [
        "decoding.max_new_tokens",
        "decoding.min_new_tokens",
        "engine",
        "guidance.consistency",
        "guidance.consistency_keep_ratio",
        "guidance.include_last_visual_row",
        "input.columns.answers",
        "input.columns.id",
        "input.columns.image",
        "input.columns.max_new_tokens",
        "input.columns.question",
        "input.drop",
        "input.image_root",
        "input.max_image_bytes",
        "input.max_image_pixels",
        "input.text_only",
        "mode",
        "models.large.dtype",
        "models.large.path",
        "models.large.revision",
        "models.small.dtype",
        "models.small.path",
        "models.small.revision",
        "output.write_importance",
        "pruning.keep_ratio",
        "pruning.prune_layer",
        "threshold",
    ]
    assert of(job()) == "0227a95029c5"
    changed = job(input={"options": ["A"]}, guidance={"criterion": "margin", "all_criteria": True})
    assert {"input.options", "guidance.criterion", "guidance.all_criteria"} < {
        *identity_of(changed)
    }


def test_outputs_from_before_pruners_could_be_chosen_go_on() -> None:
    assert of(job(pruning={"pruner": "guided"})) == of(job())
    probe = {"share": 0.1, "prunings": [{"keep_ratio": 0.5}]}
    identity = identity_of(job(probe=probe))
    assert not any("pruner" in text for item in identity.items() for text in item)
    probe["prunings"] = [{"keep_ratio": 0.5, "pruner": "own"}]
    assert of(job(probe=probe)) != fingerprint_of(identity)


@pytest.mark.parametrize(
    ("settings", "drawn"),
    [
        ({}, None),
        ({"guidance": {"criterion": "random"}}, "guidance"),
        ({"guidance": {"criterion": "random"}, "mode": "large"}, None),
        ({"pruning": {"pruner": "random"}}, "pruning"),
        ({"pruning": {"pruner": "random"}, "mode": "small"}, None),
        ({"probe": {"share": 0.5}}, "probe"),
        ({"probe": {"share": 0.5}, "mode": "large"}, None),
        ({"probe": {"share": 1}}, None),
        ({"probe": {"share": 1, "prunings": [{"pruner": "random"}]}}, "probe"),
    ],
)
def test_rows_that_were_drawn_by_other_numbers_are_not_added_to(
    settings: dict[str, Any], drawn: str | None
) -> None:
    names = [name for name in identity_of(job(**settings)) if name.endswith(".chance")]
    assert names == ([f"{drawn}.chance"] if drawn else [])


def test_the_large_mode_looks_at_pruners_that_need_no_small_model() -> None:
    alone = job(mode="large")
    assert of(job(mode="large", pruning={"keep_ratio": 0.5})) == of(alone)
    pruned = [job(mode="large", pruning={"pruner": name}) for name in ("own", "random")]
    assert len({of(one) for one in (alone, *pruned)}) == 3


def test_the_small_mode_does_not_look_at_the_large_model() -> None:
    one = job(mode="small", models={"small": {"path": "s"}, "large": {"path": "a"}})
    other = job(mode="small", models={"small": {"path": "s"}, "large": {"path": "b"}})
    assert of(one) == of(other)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint whose weights count as a large file."""
    monkeypatch.setattr(fingerprint, "_SMALL_FILE", 10_000)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("template")
    tensors = {f"layer{i}": np.full(20_000, i, np.float32) for i in range(4)}
    save_file(tensors, folder / "model.safetensors")
    return folder


def rewrite_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"layer2": tensors["layer2"] * 1.01}, folder / "model.safetensors")


def rename_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["layer9"] = tensors.pop("layer3")
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "config.json").write_text('{"a": 1}'),
        lambda folder: (folder / "chat_template.jinja").write_text("other one"),
        lambda folder: (folder / "added_tokens.json").write_text("{}"),
        rewrite_tensor,
        rename_tensor,
    ],
)
def test_a_checkpoint_overwritten_in_place_is_another_model(model: Path, change: Any) -> None:
    models = {"small": {"path": str(model)}, "large": {"path": "large"}}
    before, size = of(job(models=models)), (model / "model.safetensors").stat().st_size
    change(model)
    assert (model / "model.safetensors").stat().st_size == size
    assert of(job(models=models)) != before


def test_a_copy_of_a_checkpoint_is_the_same_model(model: Path) -> None:
    copy = model.with_name("copy")
    copy.mkdir()
    for file in model.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "README.md").write_text("a card says nothing to the model")
    assert checkpoint_digest(copy) == checkpoint_digest(model)


def test_large_weights_are_not_read_whole(model: Path) -> None:
    size = (model / "model.safetensors").stat().st_size
    spans = list(fingerprint._spans(model / "model.safetensors", size))
    assert sum(length for _, length in spans) < size / 4


def test_a_model_that_may_move_is_told(model: Path) -> None:
    models = {"small": {"path": str(model)}, "large": {"path": "owner/name"}}
    (line,) = unpinned(job(models=models))
    assert line.startswith("models.large.revision: not pinned")
    pinned = models | {"large": {"path": "owner/name", "revision": "abc"}}
    assert unpinned(job(models=pinned)) == []


def record(**changes: Any) -> JobRecord:
    data = {
        "fingerprint": "f",
        "run_id": "r",
        "records": 1,
        "identity": {},
        "precision": {"small": "bfloat16"},
        "versions": {"transformers": "5.17.0"},
        "job": {},
    }
    return JobRecord.model_validate_json(json.dumps(data | changes))


def test_rows_of_another_precision_are_not_added_to() -> None:
    now = record(precision={"small": "float32"})
    with pytest.raises(ConfigurationError, match=r"models.small.dtype: .*bfloat16.*float32"):
        continues(record(), now)
    assert continues(None, now) == continues(record(fingerprint="other"), now) == []


def test_other_versions_are_told_and_not_refused() -> None:
    assert continues(record(), record()) == []
    (line,) = continues(record(), record(versions={"transformers": "5.23.0", "ray": "2.60.0"}))
    assert line == "transformers 5.23.0 goes on with rows of transformers 5.17.0"


def test_a_run_that_was_warned_may_go_on_in_another_way() -> None:
    probed = {"share": 0.1}
    ways = [job(probe=probed | {"on_alarm": way}) for way in ("warn", "large", "stop")]
    assert len({of(one) for one in [*ways, job(probe=probed)]}) == 1
    assert of(job(probe={"share": 0.2})) != of(ways[0])
