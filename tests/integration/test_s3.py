"""The whole pipeline on S3: manifest, pictures, rows, with faults. Deaths: tests/chaos."""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.dataset as pa_dataset
import pytest
from rich.console import Console

from infra.s3 import StorageConfig
from infra.storage import rooted_files, write_bytes
from jobs.run import Outcome, run_job
from pipeline.build import Loaders
from pipeline.config import JobConfig
from pipeline.output import Output
from pipeline.status import status
from tests.pipeline.fakes import FakeLarge, FakeSmall, Load, calls, guidance_of, score_of
from tests.pipeline.inputs import job_of, png
from tests.pipeline.tables import picture_question
from tests.s3 import RESET, SLOW_DOWN, Faults, Server

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

COUNT = 40


def through(server: Server) -> StorageConfig:
    return StorageConfig(endpoint_url=server.url, region="us-east-1")


def job_on(bucket: str, server: Server, **settings: Any) -> JobConfig:
    return job_of(
        f"{bucket}/in/records.jsonl",
        f"{bucket}/out",
        output={"rows_per_file": 8},
        storage={"endpoint_url": server.url, "region": "us-east-1"},
        **settings,
    )


def upload(bucket: str, server: Server) -> None:
    """A manifest with relative references, and the pictures beside it; one is missing."""
    lines = []
    for i in range(COUNT):
        record = {"id": f"r{i:04d}", "image": f"pictures/{i}.png", "question": f"what is {i}?"}
        lines.append(json.dumps(record))
        if i != 7:
            write_bytes(f"{bucket}/in/pictures/{i}.png", png(i), through(server))
    write_bytes(f"{bucket}/in/records.jsonl", "\n".join(lines).encode(), through(server))


def run(job: JobConfig, log: Path) -> tuple[Outcome, str]:
    log.mkdir(exist_ok=True)
    console = Console(file=io.StringIO(), width=300)
    loaders = Loaders(Load(FakeSmall, log), Load(FakeLarge, log))  # type: ignore[arg-type]
    outcome = run_job(job, console, loaders)
    assert isinstance(console.file, io.StringIO)
    return outcome, console.file.getvalue()


def check_rows(output: Output) -> None:
    """Each record once, each answered as the models answer it."""
    filesystem, _ = output.located(output.rows)
    files = rooted_files(output.rows, output.storage)[1]
    rows = pa_dataset.dataset(files, filesystem=filesystem).to_table().to_pylist()
    assert Counter(row["id"] for row in rows) == {f"r{i:04d}": 1 for i in range(COUNT)}
    for row in rows:
        number = int(row["id"][1:])
        if number == 7:
            assert row["error"]["message"] == "7.png: no such file"
            continue
        guidance = guidance_of(picture_question(number))
        assert row["route"] == ("small" if score_of(row["id"]) >= 0.6 else "large")
        assert row["small_answer"] == guidance.answer


def test_a_run_on_s3_through_a_storage_that_fails_all_the_time(
    bucket: str, s3_server: Server, faulty_s3: tuple[Server, Faults], tmp_path: Path
) -> None:
    upload(bucket, s3_server)
    proxy, faults = faulty_s3
    faults.every = 9
    outcome, _ = run(job_on(bucket, proxy), tmp_path / "log")
    assert min(faults.met[SLOW_DOWN], faults.met[RESET]) >= 10
    faults.forget()
    check_rows(outcome.output)
    success = outcome.output.success()
    assert success is not None
    assert success.records == COUNT

    direct = job_on(bucket, s3_server)
    _, said = run(direct, tmp_path / "again")
    assert "nothing left to do" in said
    assert calls(tmp_path / "again", "small") == []
    found = status(direct.output.path, 0.0, through(s3_server))
    assert (found.state, found.missing, found.failed) == (
        "complete",
        0,
        {"fetch": {"ImageNotFoundError": 1}},
    )
