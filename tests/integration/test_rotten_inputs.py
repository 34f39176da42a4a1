"""The corpus of rotten inputs through the whole pipeline, on a local Ray."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.run import run_job
from pipeline.build import Loaders
from pipeline.config import JobConfig
from sgl.types import Route
from tests.integration.test_pipeline_equals_reference import save
from tests.pipeline import rotten
from tests.pipeline.fakes import FakeLarge, FakeSmall, Load
from tests.tiny_models import internvl

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def rows_of(
    path: Path, folder: Path, model: Path, loaders: Loaders | None = None
) -> dict[str, dict[str, Any]]:
    """What the pipeline makes of a file, each record in one row."""
    job = JobConfig.model_validate(
        {
            "input": {
                "path": str(path),
                "max_image_pixels": rotten.MAX_PIXELS,
                "max_image_bytes": rotten.MAX_BYTES,
            },
            "output": {"path": str(folder / path.stem)},
            "mode": "small",
            "models": {"small": {"path": str(model), "batch_size": 8}},
            "decoding": {"max_new_tokens": 2},
            "rows_per_block": 64,
        }
    )
    run_job(job, Console(quiet=True), loaders)
    rows = pq.read_table(folder / path.stem / "rows").to_pylist()
    assert set(Counter(row["id"] for row in rows).values()) == {1}
    return {row["id"]: row for row in rows}


def check(rows: dict[str, dict[str, Any]], expected: dict[str, str | None]) -> None:
    found = {name: row["error"] and row["error"]["type"] for name, row in rows.items()}
    assert found == expected
    for row in rows.values():
        failed = row["error"] is not None
        assert row["route"] == (Route.FAILED if failed else Route.SMALL).value
        assert (row["answer"] is None) == failed
        assert not failed or row["error"]["message"]


def test_every_record_ends_as_its_typed_error_or_a_real_models_answer(tmp_path: Path) -> None:
    model = save(internvl(seed=0), tmp_path / "model")
    corpus = rotten.records(tmp_path)
    rows = rows_of(rotten.write_records(tmp_path, corpus), tmp_path, model)
    check(rows, {record.name: record.error for record in corpus})


def test_every_line_of_a_manifest_ends_likewise(tmp_path: Path) -> None:
    lines = rotten.lines()
    # Their errors are found before any model runs.
    loaders = Loaders(Load(FakeSmall), Load(FakeLarge))  # type: ignore[arg-type]
    rows = rows_of(rotten.write_lines(tmp_path, lines), tmp_path, Path("small"), loaders)
    check(rows, {rotten.line_id(place, line): line.error for place, line in enumerate(lines)})
