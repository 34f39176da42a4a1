from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.checkpoint import check_output, checkpoint_path, ids_done, rows_path
from pipeline.config import JobConfig
from sgl.errors import ConfigurationError
from tests.pipeline.inputs import job_of


def commit(job: JobConfig, name: str, ids: list[str]) -> None:
    folder = Path(checkpoint_path(job))
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": ids}), folder / name)


def test_committed_ids_are_done_and_pending_ones_are_not(tmp_path: Path) -> None:
    job = job_of("in", tmp_path)
    assert ids_done(job).to_pylist() == []
    commit(job, "a.parquet", ["1", "2"])
    commit(job, "b.parquet", ["3"])
    commit(job, "c.pending.parquet", ["4"])
    assert sorted(ids_done(job).to_pylist()) == ["1", "2", "3"]


def test_an_output_of_other_settings_is_refused(tmp_path: Path) -> None:
    job = job_of("in", tmp_path)
    check_output(job)
    commit(job, "a.parquet", ["1"])
    check_output(job)
    with pytest.raises(ConfigurationError, match="other settings"):
        check_output(job_of("in", tmp_path, threshold=0.7))


def test_rows_of_unknown_origin_are_refused(tmp_path: Path) -> None:
    job = job_of("in", tmp_path)
    Path(rows_path(job)).mkdir()
    (Path(rows_path(job)) / "x.parquet").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="without their checkpoint"):
        check_output(job)


def test_the_checkpoint_is_not_below_the_rows(tmp_path: Path) -> None:
    # Ray's clean-up deletes by prefix everything below the rows' folder.
    job = job_of("in", tmp_path)
    assert Path(rows_path(job)) not in Path(checkpoint_path(job)).parents
