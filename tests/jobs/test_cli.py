import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.cli import main
from sgl.errors import AuditError, ConfigurationError, OutputBusyError
from tests.pipeline.inputs import png, records, write_jsonl, write_parquet
from tests.tiny_models import internvl

ROOT = Path(__file__).parents[2]


def sgl(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jobs.cli", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    vlm = internvl()
    for part in (vlm.model, vlm.tokenizer, vlm.family.image_processor):
        part.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("command", [(), ("run",), ("status",), ("demo",)])
def test_help_is_there(command: tuple[str, ...]) -> None:
    done = sgl(*command, "--help")
    assert done.returncode == 0
    assert "usage: sgl" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "--input", "in", "--output", "out"), "models.small: mode 'cascade' needs it"),
        (("run", "--config", "none.yaml"), "none.yaml: cannot be read"),
        (("run", "--set", "nothing=1"), "nothing: there is no such setting"),
    ],
)
def test_bad_configuration_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], says: str
) -> None:
    done = sgl(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_duplicate_ids_are_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", records(2) | {"id": ["same", "same"]})
    models = ("--small", "x/y", "--large", "x/y", "--threshold", "0.5")
    done = sgl("run", "--input", str(path), "--output", str(tmp_path / "out"), *models)
    assert done.returncode == 2
    assert "more than once: same" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigurationError, 2), (OutputBusyError, 3), (AuditError, 4)],
)
def test_each_refusal_has_its_exit_code(
    error: type[Exception],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error("why")

    monkeypatch.setattr("jobs.status.show_status", refuse)
    assert main(["status", "out"]) == code
    assert capsys.readouterr().err == "sgl: why\n"


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (OSError(28, "No space left on device"), 1, "No space left on device; the same command"),
        (KeyboardInterrupt(), 130, "stopped; the same command goes on"),
    ],
)
def test_what_is_no_fault_of_the_program_is_one_line(
    error: BaseException,
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("jobs.status.show_status", fail)
    assert main(["status", "out"]) == code
    told = capsys.readouterr().err
    assert says in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize("path", ["base.jsonl", "s3://key:secret@bucket/out", "/proc/none/out"])
def test_the_status_of_what_is_no_output_is_one_line(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", path]) == 2
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1
    assert "secret" not in told


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_end_to_end_from_another_folder(
    ray_cluster: str, checkpoint: Path, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(12):
        (pictures / f"{i}.png").write_bytes(png(i, 16, 32))
    rows = [{"id": f"r{i}", "image": f"pictures/{i}.png", "question": "w1 w2"} for i in range(12)]
    write_jsonl(tmp_path / "in.jsonl", rows)
    command = [
        *("run", "--input", "in.jsonl", "--output", "out", "--limit", "9", "--threshold", "0.5"),
        *("--small", str(checkpoint), "--large", str(checkpoint), "--prune-layer", "0.2"),
        *("--pruner", "uniform"),
        *("--keep-ratio", "0.5", "--set", f"ray.address={ray_cluster}"),
        *("--set", "decoding.max_new_tokens=3"),
    ]
    done = sgl(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "9 of 9 records" in done.stdout
    table = pq.read_table(tmp_path / "out" / "rows")
    pruners = {(row["route"], row["pruner"]) for row in table.to_pylist()}
    assert pruners <= {("small", None), ("large", "uniform")}
    assert sorted(table["id"].to_pylist()) == [f"r{i}" for i in range(9)]
    assert set(table["route"].to_pylist()) <= {"small", "large"}

    told = sgl("status", "out", "--json", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert (found["state"], found["records"], found["missing"]) == ("complete", 9, 0)
    assert sum(found["done"].values()) == 9

    again = sgl(*command, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "nothing left to do" in again.stdout
    assert pq.read_table(tmp_path / "out" / "rows").num_rows == 9


@pytest.mark.ray
@pytest.mark.slow
def test_logs_for_programs_are_an_object_per_line(
    ray_cluster: str, checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "0.png").write_bytes(png(0, 16, 32))
    write_jsonl(tmp_path / "in.jsonl", [{"id": "r", "image": "0.png", "question": "w1 w2"}])
    done = sgl(
        *("run", "--input", "in.jsonl", "--output", "out", "--mode", "small"),
        *("--small", str(checkpoint), "--set", f"ray.address={ray_cluster}"),
        *("--set", "decoding.max_new_tokens=3", "--log-format", "json"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    (record,) = (tmp_path / "out" / "runs").glob("*.json")
    assert {line["run_id"] for line in told} == {record.stem}
    assert any("1 of 1 records" in line["message"] for line in told)
