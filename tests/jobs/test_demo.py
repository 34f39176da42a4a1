import io
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from jobs.demo import SETTINGS, demo_job, run_demo
from pipeline.config import Mode


def test_both_runs_are_of_the_same_records_and_models(tmp_path: Path) -> None:
    records = tmp_path / "records.parquet"
    cascade, large = (demo_job(mode, tmp_path, records) for mode in (Mode.CASCADE, Mode.LARGE))
    assert cascade.input == large.input
    assert cascade.input.path == str(records)
    assert cascade.models == large.models
    assert cascade.decoding == large.decoding
    assert cascade.output.path != large.output.path
    assert large.ignored() == ()


def test_the_preset_states_its_threshold_and_pruning() -> None:
    settings = yaml.safe_load(SETTINGS.read_text())
    assert 0 < settings["threshold"] <= 1
    assert set(settings["pruning"]) == {"prune_layer", "keep_ratio"}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_the_demo_compares_three_ways_to_answer(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=160)
    demo = run_demo(console, output=str(tmp_path), limit=24)
    cascade, large = demo.cascade.summary, demo.large.summary
    assert cascade.records == large.records == large.escalated == 24
    assert cascade.escalated == cascade.doubtful
    assert 0 < cascade.escalated < 24
    assert not cascade.failed
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for said in ("small only", "large only", "cascade", "escalation rate", "average retention"):
        assert said in text
