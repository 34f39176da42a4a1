"""Tables as they stand between the stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.config import InputConfig
from pipeline.fetch import FetchStage
from pipeline.references import Fetcher
from pipeline.source import open_source
from sgl.types import ImageQuestion
from tests.pipeline.fakes import LocalReporter, guard_of
from tests.pipeline.inputs import picture, records, write_parquet


@dataclass(frozen=True)
class Fetched:
    """The fetch stage with its tables put together."""

    stage: FetchStage

    def __call__(self, table: pa.Table) -> pa.Table:
        return pa.concat_tables(self.stage(table))


def fetch_stage(threshold: float | None = 0.6, **settings: Any) -> Fetched:
    given: dict[str, Any] = {
        "run_id": "run",
        "threshold": threshold,
        "max_image_pixels": 1000,
        "text_only": False,
        "threads": 2,
        "fetcher": Fetcher(max_bytes=1 << 20),
        "reporter": LocalReporter(),
        "guard": guard_of("fetch"),
    }
    return Fetched(FetchStage(**given | settings))


def read_table(folder: Path, count: int = 12, questions: Sequence[str | None] = ()) -> pa.Table:
    """Rows behind the reader; the first questions may be given."""
    columns = records(count, kind=["k"] * count)
    columns["question"] = [*questions, *columns["question"][len(questions) :]]
    return read(folder, columns)


def read(folder: Path, columns: dict[str, Any]) -> pa.Table:
    """Columns of a Parquet file behind the reader."""
    source = open_source(InputConfig(path=str(write_parquet(folder / "in.parquet", columns))))
    return pa.concat_tables(t for part in source.parts for t in source.tables(part))


def question_of(table: pa.Table, row: int) -> ImageQuestion:
    """The record that the models must have seen."""
    name = table["id"][row].as_py()
    return ImageQuestion(name, table["question"][row].as_py(), (picture(int(name[1:])),))


def picture_question(number: int) -> ImageQuestion:
    """The record of that number in `inputs.records`."""
    return ImageQuestion(f"r{number:04d}", f"what is {number}?", (picture(number),))
