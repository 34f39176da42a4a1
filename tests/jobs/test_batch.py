"""A run over requests leaves OpenAI's files, and only where it is complete."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from openai.types.chat import ChatCompletion
from rich.console import Console

from infra.s3 import DEFAULT, StorageConfig
from infra.storage import names_in, read_bytes, write_bytes
from jobs.run import Outcome, report, run_job
from jobs.stream import Task
from pipeline.build import Loaders
from pipeline.config import JobConfig
from tests.pipeline.fakes import (
    POISON,
    FakeLarge,
    FakeSmall,
    Load,
    calls,
    ended_of,
    score_of,
)
from tests.pipeline.inputs import data_uri, job_of, records, write_parquet
from tests.pipeline.test_openai_batch import image, request, text, user
from tests.s3 import Server

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

COUNT = 24


def good(number: int) -> dict[str, Any]:
    asked = text(f"what is {number}?")
    return request(f"r{number:04d}", user([image(data_uri(number)), asked]), temperature=0)


BAD: dict[str, tuple[str | dict[str, Any], str]] = {
    "in.jsonl:3": ("{not json", "MalformedRecordError"),
    "in.jsonl:6": ({"body": {"messages": [user("q")]}}, "MalformedRecordError"),
    "tools": (request("tools", user("q"), tools=[{}]), "MalformedRecordError"),
    "body": ({"custom_id": "body", "body": 5}, "MalformedRecordError"),
    "file": (request("file", user([image("/etc/passwd"), text("q")])), "MalformedRecordError"),
    "none": (request("none", user("no picture")), "ImageError"),
    "broken": (
        request("broken", user([image("data:image/png;base64,AAAA"), text("q")])),
        "ImageError",
    ),
    "web": (
        request("web", user([image("https://a.example.org/a.png"), text("q")])),
        "ImageFetchError",
    ),
    "limit": (
        request("limit", user([image(data_uri(1)), text("q")]), max_tokens=0),
        "MalformedRecordError",
    ),
    "long": (request("long", user([image(data_uri(1)), text(POISON)])), "PromptTooLongError"),
}
"""By custom_id or, where a line has none, by its place: the line, and what is wrong with it."""


def all_lines() -> list[tuple[str, str]]:
    """Ids and lines; bad ones stand in every third place first."""
    lines = [(f"r{number:04d}", json.dumps(good(number))) for number in range(COUNT)]
    for place, (name, (line, _)) in enumerate(BAD.items()):
        shown = line if isinstance(line, str) else json.dumps(line)
        lines.insert(3 * place + 2, (name, shown))
    return lines


def written(lines: list[str]) -> bytes:
    return "\n".join(lines).encode()


def run(job: JobConfig, folder: Path, **options: Any) -> tuple[Outcome, str]:
    log = folder / "log"
    log.mkdir(exist_ok=True)
    console = Console(file=io.StringIO(), width=300)
    loaders = Loaders(Load(FakeSmall, log), Load(FakeLarge, log))  # type: ignore[arg-type]
    outcome = run_job(job, console, loaders, **options)
    report(outcome, console)
    assert isinstance(console.file, io.StringIO)
    return outcome, console.file.getvalue()


def lines_of(folder: str, name: str, storage: StorageConfig = DEFAULT) -> list[dict[str, Any]]:
    data = read_bytes(f"{folder}/batch/{name}.jsonl", storage)
    return [json.loads(line) for line in data.decode().splitlines()]


def check(folder: str, expected: list[str], storage: StorageConfig = DEFAULT) -> None:
    """Every request once, in order, as the models answer it or with what is wrong with it."""
    results, errors = (lines_of(folder, name, storage) for name in ("results", "errors"))
    assert [line["custom_id"] for line in results] == [name for name in expected if name not in BAD]
    assert [line["custom_id"] for line in errors] == [name for name in expected if name in BAD]
    for line in errors:
        assert line["error"]["code"] == BAD[line["custom_id"]][1]
        assert line["response"]["status_code"] == 400
        assert "passwd" not in line["error"]["message"]
    for line in results:
        name = line["custom_id"]
        completion = ChatCompletion.model_validate(line["response"]["body"])
        route = "small" if score_of(name) >= 0.6 else "large"
        (choice,) = completion.choices
        assert (choice.message.content or "").startswith(f"{route} {72 * int(name[1:])}")
        assert choice.finish_reason == ("stop" if ended_of(route, name) else "length")
        assert completion.model == route
        assert line["response"]["body"]["sgl"]["exit_score"] == score_of(name)


def test_results_and_errors_of_every_kind_in_the_order_of_the_requests(tmp_path: Path) -> None:
    path, target = tmp_path / "in.jsonl", str(tmp_path / "out")
    lines = all_lines()
    path.write_bytes(written([line for _, line in lines[:20]]))
    job = job_of(path, target, output={"rows_per_file": 8})
    _, said = run(job, tmp_path)
    assert f"batch: {target}/batch, " in said
    check(target, [name for name, _ in lines[:20]])

    path.write_bytes(written([line for _, line in lines]))
    run(job, tmp_path)
    check(target, [name for name, _ in lines])

    asked = len(calls(tmp_path / "log", "small"))
    for name in names_in(f"{target}/batch"):
        (tmp_path / "out" / "batch" / name).unlink()
    _, said = run(job, tmp_path)
    assert "nothing left to do" in said
    assert len(calls(tmp_path / "log", "small")) == asked
    check(target, [name for name, _ in lines])


def test_a_mended_request_moves_to_the_results(tmp_path: Path) -> None:
    path, target = tmp_path / "in.jsonl", str(tmp_path / "out")
    broken = request("r0001", user([image("data:image/png;base64,AAAA"), text("q")]))
    path.write_bytes(written([json.dumps(good(0)), json.dumps(broken)]))
    outcome, _ = run(job_of(path, target), tmp_path)
    assert outcome.batch
    assert (outcome.batch.results, outcome.batch.errors) == (1, 1)
    path.write_bytes(written([json.dumps(good(0)), json.dumps(good(1))]))
    run(job_of(path, target), tmp_path, retry_errors=True)
    check(target, ["r0000", "r0001"])


def test_a_run_that_is_not_complete_has_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target = tmp_path / "in.jsonl", str(tmp_path / "out")
    path.write_bytes(written([json.dumps(good(number)) for number in range(4)]))
    pools = {role: {"usd_per_hour": 1.0} for role in ("small", "large")}
    run(job_of(path, target, pools=pools), tmp_path)
    assert len(names_in(f"{target}/batch")) == 2

    def spent(_: JobConfig, task: Task, *__: object) -> bool:
        task.output.reopen()
        return True

    monkeypatch.setattr("jobs.run.stream", spent)
    path.write_bytes(written([json.dumps(good(number)) for number in range(6)]))
    outcome, said = run(job_of(path, target, pools=pools), tmp_path)
    assert (outcome.over_budget is None, outcome.batch) == (False, None)
    assert "batch:" not in said
    assert names_in(f"{target}/batch") == {}


def test_other_inputs_have_none(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", records(4))
    outcome, said = run(job_of(path, tmp_path / "out"), tmp_path)
    assert outcome.batch is None
    assert "batch:" not in said
    assert not (tmp_path / "out" / "batch").exists()


def test_a_batch_on_s3(bucket: str, s3_server: Server, tmp_path: Path) -> None:
    storage = StorageConfig(endpoint_url=s3_server.url, region="us-east-1")
    lines = all_lines()
    write_bytes(f"{bucket}/in/in.jsonl", written([line for _, line in lines]), storage)
    job = job_of(
        f"{bucket}/in/in.jsonl",
        f"{bucket}/out",
        storage={"endpoint_url": s3_server.url, "region": "us-east-1"},
    )
    run(job, tmp_path)
    check(f"{bucket}/out", [name for name, _ in lines], storage)
