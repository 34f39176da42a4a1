import json
from pathlib import Path

import pytest

from infra.s3 import StorageConfig
from pipeline.output import JobRecord, Success, check_apart, check_output, open_output
from sgl.errors import ConfigurationError
from tests.pipeline.outputs import FINGERPRINT, output_at, put, rows_of, write_task
from tests.s3 import Server

IDENTITY = {"threshold": "0.7", "mode": "cascade"}


def record(fingerprint: str, identity: dict[str, str]) -> JobRecord:
    return JobRecord(
        fingerprint=fingerprint,
        run_id="r",
        records=1,
        identity=identity,
        precision={},
        versions={},
        job={},
    )


def test_an_output_of_other_settings_is_refused_and_says_which(tmp_path: Path) -> None:
    output = output_at(tmp_path)
    check_output(output, IDENTITY)
    write_task(output, 0, ["a"])
    check_output(output, IDENTITY)
    other = output_at(tmp_path).__class__(str(tmp_path), "other", output.storage)
    with pytest.raises(ConfigurationError, match="other settings and is never overwritten"):
        check_output(other, IDENTITY)
    output.tell(record(FINGERPRINT, {**IDENTITY, "threshold": "0.6"}))
    with pytest.raises(ConfigurationError, match=r"\(threshold 0.6 there, 0.7 here\)"):
        check_output(other, IDENTITY)


def test_settings_under_which_nothing_was_committed_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "checkpoint" / "other").mkdir(parents=True)
    check_output(output_at(tmp_path), IDENTITY)


def test_rows_of_unknown_origin_are_refused(tmp_path: Path) -> None:
    output = output_at(tmp_path)
    put(output, output.rows, "x.parquet", rows_of(["a"]))
    with pytest.raises(ConfigurationError, match="without their checkpoint"):
        check_output(output, IDENTITY)


def test_the_checkpoint_is_not_below_the_rows(tmp_path: Path) -> None:
    # Ray's clean-up deletes by prefix everything below the rows' folder.
    output = output_at(tmp_path)
    assert Path(output.rows) not in Path(output.checkpoint).parents


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("nowhere://bucket/out", "nowhere"),
        ("s3://key:secret@bucket/out", "no credentials"),
        ("s3://no-such-bucket-here/out", "NoSuchBucket"),
    ],
)
def test_a_place_that_cannot_be_reached_is_refused(path: str, says: str, s3_server: Server) -> None:
    storage = StorageConfig(endpoint_url=s3_server.url, region="us-east-1", max_attempts=1)
    with pytest.raises(ConfigurationError, match=f"output.path: it cannot be reached: .*{says}"):
        open_output(path, FINGERPRINT, storage)


def test_the_small_files_are_told_and_read_back(tmp_path: Path) -> None:
    output = output_at(tmp_path)
    assert output.record() is None
    assert output.success() is None
    success = Success(
        run_id="r", fingerprint="f", finished_at="now", records=3, routes={"small": 3}, files="f"
    )
    output.tell(success)
    output.tell(record("f", IDENTITY))
    assert output.success() == success
    assert output.record() == record("f", IDENTITY)
    output.reopen()
    output.reopen()
    assert output.success() is None


def test_a_small_file_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "_job.json").write_text(json.dumps({"version": 9}))
    with pytest.raises(ConfigurationError, match=r"_job.json in .* is not of this version"):
        output_at(tmp_path).record()


@pytest.mark.parametrize(
    ("source", "output", "apart"),
    [
        ("/data", "/data/out", False),
        ("/data/", "/data/deep/out", False),
        ("s3://bucket/data", "s3://bucket/data/out", False),
        ("/data", "/data-out", True),
        ("/data/in.jsonl", "/data/out", True),
        ("/data/*.jsonl", "/data/out", True),
        ("/bucket/data", "s3://bucket/data/out", True),
        ("nowhere://data", "nowhere://data/out", True),
    ],
)
def test_an_output_below_its_input_is_refused(source: str, output: str, apart: bool) -> None:
    if apart:
        check_apart(source, output, StorageConfig(region="us-east-1"))
    else:
        with pytest.raises(ConfigurationError, match=r"lies below input\.path"):
            check_apart(source, output, StorageConfig(region="us-east-1"))
