"""The two files of a batch: every request in one of them, in order."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.s3 import DEFAULT, StorageConfig
from infra.storage import names_in, read_bytes
from pipeline.batch_files import Batch, discard_batch, write_batch
from pipeline.config import InputConfig
from pipeline.output import Output
from pipeline.schema import OUTPUT
from pipeline.source import open_source
from sgl.errors import AuditError
from tests.pipeline.inputs import write_jsonl
from tests.pipeline.test_batch_lines import JOB, failed, row
from tests.pipeline.test_openai_batch import request, user
from tests.s3 import Server

COUNT = 20


def name_of(number: int) -> str:
    """Not in the order of the numbers."""
    return f"r{number * 7 % COUNT}"


def cells(number: int) -> dict[str, Any]:
    if number % 5 == 0:
        return failed("ImageError") | {"id": name_of(number)}
    return row(id=name_of(number), answer=f"answer {number} é")


def write_rows(path: str, storage: StorageConfig, *parts: list[int], lacks: str = "") -> Output:
    """An output whose rows lie in several files."""
    output = Output(path, JOB.fingerprint, storage)
    output.tell(JOB)
    filesystem, folder = output.located(output.rows)
    filesystem.create_dir(folder)
    for place, numbers in enumerate(parts):
        table = pa.Table.from_pylist([cells(number) for number in numbers], OUTPUT)
        if lacks:
            table = table.drop_columns([lacks])
        pq.write_table(table, f"{folder}/{place}.parquet", filesystem=filesystem)
    return output


def source_in(folder: Path, count: int = COUNT) -> Any:
    lines = [request(name_of(number), user("q")) for number in range(count)]
    return open_source(InputConfig(path=str(write_jsonl(folder / "in.jsonl", lines))))


def lines_in(output: Output, name: str) -> list[dict[str, Any]]:
    data = read_bytes(f"{output.batch}/{name}.jsonl", output.storage)
    return [json.loads(line) for line in data.decode().splitlines()]


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, StorageConfig]:
    if request.param == "disk":
        return str(tmp_path / "out"), DEFAULT
    server: Server = request.getfixturevalue("s3_server")
    bucket: str = request.getfixturevalue("bucket")
    return f"{bucket}/out", StorageConfig(endpoint_url=server.url, region="us-east-1")


def test_every_request_is_in_one_file_in_order(
    place: tuple[str, StorageConfig], tmp_path: Path
) -> None:
    numbers = sorted(range(COUNT), key=lambda n: n * 11 % COUNT)
    output = write_rows(*place, numbers[:3], numbers[3:15], numbers[15:])
    assert write_batch(output, source_in(tmp_path)) == Batch(output.batch, 16, 4)
    results, errors = lines_in(output, "results"), lines_in(output, "errors")
    wrong = [number for number in range(COUNT) if number % 5 == 0]
    assert [line["custom_id"] for line in errors] == [name_of(number) for number in wrong]
    answers = [line["response"]["body"]["choices"][0]["message"]["content"] for line in results]
    assert answers == [f"answer {number} é" for number in range(COUNT) if number not in wrong]
    assert set(names_in(output.batch, output.storage)) == {"results.jsonl", "errors.jsonl"}

    before = read_bytes(f"{output.batch}/results.jsonl", output.storage)
    write_batch(output, source_in(tmp_path))
    assert read_bytes(f"{output.batch}/results.jsonl", output.storage) == before
    for _ in range(2):
        discard_batch(output)
    assert names_in(output.batch, output.storage) == {}


def test_a_limited_input_has_only_its_own_lines(tmp_path: Path) -> None:
    output = write_rows(str(tmp_path / "out"), DEFAULT, list(range(7)))
    config = source_in(tmp_path).config.model_copy(update={"limit": 7})
    assert write_batch(output, open_source(config)) == Batch(output.batch, 5, 2)


def test_rows_from_before_a_column_still_have_lines(tmp_path: Path) -> None:
    output = write_rows(str(tmp_path / "out"), DEFAULT, list(range(COUNT)), lacks="answer_ended")
    assert write_batch(output, source_in(tmp_path)).results == 16


def test_a_request_without_a_row_leaves_no_file(tmp_path: Path) -> None:
    output = write_rows(str(tmp_path / "out"), DEFAULT, list(range(COUNT - 1)))
    with pytest.raises(AuditError, match="has no row"):
        write_batch(output, source_in(tmp_path))
    assert names_in(output.batch) == {}


def test_a_damaged_file_of_rows_is_said(tmp_path: Path) -> None:
    output = write_rows(str(tmp_path / "out"), DEFAULT, list(range(COUNT)))
    (tmp_path / "out" / "rows" / "0.parquet").write_bytes(b"PAR1")
    with pytest.raises(AuditError, match=r"0\.parquet is damaged"):
        write_batch(output, source_in(tmp_path))
