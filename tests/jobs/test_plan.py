"""`sgl plan`: what it prints is the plan, and what it cannot know it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import main
from jobs.plan import parsed_count, parsed_gpus
from tests.pipeline.plan.jobs import sample


@pytest.fixture
def place(tmp_path: Path) -> str:
    path = tmp_path / "sample.json"
    path.write_text(sample().model_dump_json())
    return str(path)


def plan(place: str, *more: str, records: str = "100K", gpus: str = "h100:16") -> int:
    return main(["plan", "--records", records, "--gpus", gpus, "--measured", place, *more])


def plan_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert plan(*arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_plan_as_json(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = plan_json(capsys, place, "--price", "h100=2")
    one = found["proposed"]
    assert one["devices"] <= 16
    assert one["usd"] == pytest.approx(one["devices"] * one["seconds"] / 3600 * 2)
    assert found["sampled"] == {"escalated": 180, "records": 600}
    simulated = found["simulation"]
    assert simulated["seconds"] == pytest.approx(simulated["planned_s"], rel=0.3)


def test_the_plan_as_a_table(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(place) == 0
    said = capsys.readouterr().out
    for part in ("small pool", "large pool", "bottleneck", "dollars", "simulated", "2026-10-10"):
        assert part in said


def test_a_policys_escalation_rate_counts(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from actors.config import PruningConfig
    from pipeline.config import Mode
    from pipeline.policy import Policy, write_policy

    policy = Policy(
        mode=Mode.CASCADE,
        threshold=0.5,
        pruning=PruningConfig(),
        guarantees=(),
        delta=0.05,
        metric="exact_match",
        records=1000,
        cost={},
        cost_unit="flops",
        escalation_rate=0.1,
        created_at="2026-01-01T00:00:00Z",
        identity={},
    )
    write_policy(policy, tmp_path / "p.yaml")
    found = plan_json(capsys, place, "--policy", str(tmp_path / "p.yaml"), "--no-simulation")
    assert found["sampled"] == {"escalated": 100, "records": 1000}
    assert found["simulation"] is None


def test_seconds_of_a_gpu_say_nothing_of_a_cpu(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(place, gpus="cpu:16") == 2
    assert "--speed-up" in capsys.readouterr().err
    assert plan(place, "--speed-up", "0.05", "--no-simulation", gpus="cpu:16") == 0


def test_too_few_devices_are_refused(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(place, gpus="h100:1") == 2
    assert "one replica of each pool takes 3 devices" in capsys.readouterr().err


def test_counts_and_devices() -> None:
    assert [parsed_count(text) for text in ("7", "1.5k", "10M", "2B")] == [
        7,
        1500,
        10_000_000,
        2_000_000_000,
    ]
    assert parsed_gpus("h100:64") == ("h100", 64)


@pytest.mark.parametrize(("option", "value"), [("--records", "many"), ("--gpus", "h999:3")])
def test_what_cannot_be_read_is_refused(option: str, value: str, place: str) -> None:
    records, gpus = (value, "h100:8") if option == "--records" else ("10", value)
    with pytest.raises(SystemExit):
        plan(place, records=records, gpus=gpus)
