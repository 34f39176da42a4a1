import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from jobs.status import show_status, status_table
from pipeline.lease import Lease
from pipeline.output import Alarm, JobRecord
from pipeline.probe import Promise
from pipeline.status import status
from sgl.errors import ConfigurationError
from tests.pipeline.outputs import FINGERPRINT, output_at, write_task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    output = output_at(tmp_path)
    record = JobRecord(
        fingerprint=FINGERPRINT,
        run_id="r",
        records=1000,
        identity={},
        precision={},
        versions={},
        job={"mode": "small"},
    )
    output.tell(record)
    write_task(output, 0, ["a", "b", "c"], failed=["b"])
    write_task(output, 1, ["d"], committed=False, pending=True)
    return tmp_path


def test_the_table_tells_done_failed_and_missing_by_stage(folder: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    with Lease(output_at(folder), "r"):
        found = status(str(folder), 0.0)
        assert found.writer is not None
        console.print(status_table(found, found.writer.beat_at + 7))
    assert isinstance(console.file, io.StringIO)
    text = " ".join(console.file.getvalue().split())
    assert "state running run r, mode small" in text
    assert "records 1,000 done 2 (0.2%) by the small model 2 (0.2%)" in text
    assert "failed 1 (0.1%) in the fetch stage 1 ImageError missing 997 (99.7%)" in text
    assert "not committed 1 data files" in text
    assert "last heard of 7 s ago" in text


def test_programs_get_the_same_and_no_token(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Lease(output_at(folder), "writing"):
        show_status(str(folder), as_json=True)
    text = capsys.readouterr().out
    found = json.loads(text)
    assert found["failed"] == {"fetch": {"ImageError": 1}}
    assert found["writer"]["run_id"] == "writing"
    assert "token" not in text


def test_an_endpoint_is_checked(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--endpoint-url: .*http"):
        show_status(str(folder), as_json=True, endpoint_url="host:9000")


def test_an_alarm_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alarm = Alarm(
        fingerprint=FINGERPRINT,
        run_id="r",
        raised_at="2026-01-01T00:00:00+00:00",
        promise=Promise(agreement=0.9),
        records=120,
        latest=40,
        agreement=0.7,
        p=0.04,
    )
    output_at(folder).tell(alarm)
    console = Console(file=io.StringIO(), width=200)
    console.print(status_table(status(str(folder), 0.0), 0.0))
    assert isinstance(console.file, io.StringIO)
    assert (
        "agreement 0.9 was promised, and of the latest 40 of 120 probed records 70.0%"
        in console.file.getvalue()
    )
    show_status(str(folder), as_json=True)
    told = json.loads(capsys.readouterr().out)["alarm"]
    assert (told["records"], told["promise"]["agreement"]) == (120, 0.9)
