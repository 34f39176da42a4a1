"""`sgl plan`: what it prints is the plan, and what it cannot know it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.cli import main
from jobs.demo import SETTINGS
from jobs.plan import parsed_count, parsed_gpus
from jobs.plan_samples import ASSUMED
from testbed.generate import write_parquet
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
    low, high = simulated["seconds_range"]
    assert low <= simulated["seconds"] <= high


def test_the_plan_as_a_table(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(place) == 0
    said = capsys.readouterr().out
    assert "devices of each: 2, batches of 16" in said
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
    other = tmp_path / "other.json"
    other.write_text(sample(threshold=0.9).model_dump_json())
    told = plan_json(capsys, str(other), "--policy", str(tmp_path / "p.yaml"), "--no-simulation")
    assert any("of threshold 0.9 and the policy's is 0.5" in line for line in told["remarks"])
    found = plan_json(capsys, place, "--policy", str(tmp_path / "p.yaml"), "--no-simulation")
    assert not any("of threshold" in line for line in found["remarks"])
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


def test_a_kind_may_be_written_as_it_is_met() -> None:
    assert parsed_gpus("H100:8") == ("h100", 8)
    assert parsed_gpus("NVIDIA L4:2") == ("l4", 2)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--records", "many", "write a count, as in 250000 or 10M"),
        ("--records", "0", "write a count"),
        ("--gpus", "h1000:3", "did you mean h100"),
        ("--gpus", "tpu:3", "known are b200"),
        ("--gpus", "h100", "write KIND:N, as in h100:64"),
        ("--gpus", "h100:0", "write KIND:N"),
        ("--speed-up", "fast", "write a number"),
        ("--speed-up", "0", "above 0"),
        ("--startup-s", "-1", "write seconds, 0 or more"),
        ("--rows-per-block", "0", "write a count"),
        ("--mesured", "x.json", "unrecognized arguments: --mesured"),
    ],
)
def test_what_cannot_be_read_is_refused(
    option: str, value: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"--records": "10", "--gpus": "h100:8", option: value}
    with pytest.raises(SystemExit, match="2"):
        main(["plan", *(part for pair in given.items() for part in pair)])
    assert says in capsys.readouterr().err


def test_without_a_measurement_the_demos_is_taken_and_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "--records", "10M", "--gpus", "h100:64", "--no-simulation"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert ASSUMED in said


def test_a_measurement_of_ones_own_is_not_the_demos(
    place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = plan_json(capsys, place, "--no-simulation")
    assert ASSUMED not in found["remarks"]


def test_an_output_that_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sample.txt"
    path.touch()
    assert plan(str(path)) == 2
    assert "an output directory of sgl run, or a .json file" in capsys.readouterr().err


def demo_settings(folder: Path, **more: Any) -> str:
    """The demo's job, as a file."""
    data = yaml.safe_load(SETTINGS.read_text()) | more
    write_parquet("validation", 96, folder / "records.parquet")
    data["input"] = {"path": str(folder / "records.parquet")}
    data["output"] = {"path": str(folder / "out")}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(data))
    return str(path)


def test_only_a_cascade_is_probed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "mode": "large",
                "input": {"path": "records.parquet"},
                "output": {"path": str(tmp_path / "out")},
                "models": {"large": {"path": "testbed"}},
            }
        )
    )
    assert main(["plan", "--records", "9", "--gpus", "cpu:2", "--probe", str(path)]) == 2
    assert "a cascade is planned" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_probe_is_a_run_of_some_records_and_is_done_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = demo_settings(tmp_path, threshold=0.99)
    command = ["plan", "--records", "1K", "--gpus", "cpu:4", "--json", "--no-simulation"]
    command += ["--probe", settings, "--probe-records", "64"]
    assert main(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["sampled"]["records"] == 64
    assert first["sampled"]["escalated"] > 0
    assert first["source"] == f"{tmp_path}/out-probe-64"
    assert main(command) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == first
    assert "nothing left to do" in told.err
