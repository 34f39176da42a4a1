from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from infra.s3 import StorageConfig
from infra.storage import write_bytes
from pipeline.config import FaultsConfig
from pipeline.fetch import WRITES
from pipeline.handover import questions
from pipeline.journal import Event
from pipeline.ledger import Ledger
from pipeline.references import Fetcher
from pipeline.schema import IMAGES, OUTPUT
from pipeline.stage import replace_columns
from sgl.errors import StorageError
from tests.pipeline.fakes import NoJournal, guard_of
from tests.pipeline.inputs import picture, png, records
from tests.pipeline.tables import fetch_stage, read, read_table
from tests.s3 import CUT, RESET, SLOW_DOWN, Faults, Server


def test_pictures_become_pixels(tmp_path: Path) -> None:
    fetched = fetch_stage()(read_table(tmp_path, 3))
    assert set(WRITES) <= set(fetched.column_names)
    assert "image" not in fetched.column_names
    for row, record in enumerate(questions(fetched, [0, 1, 2])):
        assert np.array_equal(record.images[0], picture(row))
        assert record.question == f"what is {row}?"


def test_every_output_column_is_there_with_its_type(tmp_path: Path) -> None:
    fetched = fetch_stage()(read_table(tmp_path, 2))
    for field in OUTPUT:
        assert fetched.schema.field(field.name).type == field.type
    assert fetched.schema.field("images").type == IMAGES.type
    assert fetched["threshold"].to_pylist() == [0.6, 0.6]
    assert fetched["run_id"].to_pylist() == ["run", "run"]
    assert fetched["route"].null_count == 2


def test_bad_rows_fail_alone(tmp_path: Path) -> None:
    table = read_table(tmp_path, 6, questions=["", None, "  "])
    images = table["image"].to_pylist()
    images[3] = [{"bytes": b"junk", "uri": None, "base": None}]
    images[4] = None
    table = replace_columns(table, {"image": pa.array(images, table.schema.field("image").type)})
    stage = fetch_stage()
    rows = stage(table).to_pylist()
    assert [row["route"] for row in rows] == ["failed"] * 5 + [None]
    kinds = [row["error"]["type"] for row in rows[:5]]
    assert kinds == ["EmptyQuestionError"] * 3 + ["ImageError"] * 2
    assert {row["error"]["stage"] for row in rows[:5]} == {"fetch"}
    assert [row["images"] is None for row in rows] == [True] * 5 + [False]
    counts = stage.stage.reporter.board.counts()["fetch"]  # type: ignore[attr-defined]
    assert (counts.rows, counts.failed) == (6, 5)


def test_a_record_without_an_image_passes_where_that_is_allowed(tmp_path: Path) -> None:
    table = read_table(tmp_path, 2)
    without = pa.array([None, *table["image"].to_pylist()[1:]], table["image"].type)
    table = replace_columns(table, {"image": without})
    refused, allowed = fetch_stage()(table), fetch_stage(text_only=True)(table)
    assert refused["route"].to_pylist() == ["failed", None]
    assert refused["error"][0].as_py()["message"] == "the record has no image"
    assert allowed["route"].to_pylist() == [None, None]
    first, second = questions(allowed, [0, 1])
    assert first.images == ()
    assert len(second.images) == 1


@pytest.mark.parametrize("without", [None, [], [None], [{"bytes": None, "path": ""}] * 2])
def test_so_does_one_whose_list_of_images_holds_none(
    without: list[Any] | None, tmp_path: Path
) -> None:
    columns = records(3)
    columns["image"] = [without, [columns["image"][1]], [columns["image"][2], None]]
    refused, allowed = (
        fetch_stage(text_only=text_only)(read(tmp_path, columns)).to_pylist()
        for text_only in (False, True)
    )
    assert refused[0]["error"]["message"] == "the record has no image"
    assert (allowed[0]["route"], allowed[0]["images"]) == (None, [])
    assert [len(rows[1]["images"]) for rows in (refused, allowed)] == [1, 1]
    # A list with a hole is a fault of the data and no record without an image.
    assert {rows[2]["error"]["type"] for rows in (refused, allowed)} == {"ImageError"}
    assert "image 2 of 2" in allowed[2]["error"]["message"]


def test_suspects_are_fetched_alone_and_those_given_up_not_at_all(tmp_path: Path) -> None:
    batches: list[tuple[str, ...]] = []

    class Watched(Ledger):
        def begin(self, owner: str, stage: str, ids: Sequence[str], deadline_s: float) -> None:
            batches.append(tuple(ids))
            super().begin(owner, stage, ids, deadline_s)

    deaths = [["r0002", "r0004"], ["r0004"]]
    events = [Event(kind="death", ids=tuple(ids), stage="fetch") for ids in deaths]
    ledger = Watched(FaultsConfig(max_deaths=1), NoJournal(events))
    table = read_table(tmp_path, 6)
    rows = fetch_stage(guard=guard_of("fetch", ledger))(table)
    assert rows["id"].equals(table["id"])
    assert batches == [("r0000", "r0001"), ("r0002",), ("r0003",), ("r0005",)]
    assert [error and error["type"] for error in rows["error"].to_pylist()] == [
        *[None] * 4,
        "CrashError",
        None,
    ]


def test_a_deadline_is_never_of_more_than_two_pictures_per_thread(tmp_path: Path) -> None:
    watched: list[int] = []

    class Watched(Ledger):
        def begin(self, owner: str, stage: str, ids: Sequence[str], deadline_s: float) -> None:
            watched.append(len(ids))
            super().begin(owner, stage, ids, deadline_s)

    ledger = Watched(FaultsConfig(), NoJournal([]))
    table = read_table(tmp_path, 11)
    rows = fetch_stage(guard=guard_of("fetch", ledger), threads=2)(table)
    assert watched == [4, 4, 3]
    assert rows["id"].equals(table["id"])


def test_an_impossible_token_limit_fails_its_row(tmp_path: Path) -> None:
    table = read_table(tmp_path, 3)
    limits = pa.array([0, None, 1], pa.int64())
    rows = fetch_stage()(replace_columns(table, {"max_new_tokens": limits})).to_pylist()
    assert [row["route"] for row in rows] == ["failed", None, None]
    assert rows[0]["error"]["type"] == "RecordError"


def test_too_many_pixels_fail_their_row(tmp_path: Path) -> None:
    table = read_table(tmp_path, 1)
    assert fetch_stage(max_image_pixels=23)(table)["route"].to_pylist() == ["failed"]
    assert fetch_stage(max_image_pixels=24)(table)["route"].null_count == 1


def test_large_blocks_go_out_in_parts_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = picture(0).nbytes
    monkeypatch.setattr("pipeline.fetch.IN_FLIGHT_BYTES", 3 * one)
    table = read_table(tmp_path, 10, questions=["", None])
    parts = list(fetch_stage().stage(table))
    assert [part.num_rows for part in parts] == [5, 3, 2]
    assert pa.concat_tables(parts)["id"].equals(table["id"])
    for part in parts:
        (images,) = part["images"].chunks
        assert images.nbytes < 4 * one


def test_an_empty_block_keeps_its_columns(tmp_path: Path) -> None:
    table = read_table(tmp_path, 2)
    assert fetch_stage()(table.slice(2)).schema.equals(fetch_stage()(table).schema)


def test_what_nobody_foresaw_fails_its_row_alone(tmp_path: Path) -> None:
    class Broken(Fetcher):
        def fetch(self, reference: dict[str, Any] | None) -> bytes:
            raise MemoryError("at 0x7f00")

    rows = fetch_stage(fetcher=Broken(1))(read_table(tmp_path, 2)).to_pylist()
    assert {row["error"]["type"] for row in rows} == {"MemoryError"}
    assert not any("0x" in row["error"]["message"] for row in rows)


@dataclass(frozen=True)
class Outage(Fetcher):
    """A storage that fails some times, and then answers as the real one."""

    left: Any = ()

    def fetch(self, reference: dict[str, Any] | None) -> bytes:
        assert reference is not None
        if self.left and reference["uri"] == self.left[0]:
            self.left.pop(0)
            raise StorageError("its storage does not answer")
        return super().fetch(reference)


def test_a_storage_that_fails_is_waited_for_and_blames_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    ledger = Ledger(FaultsConfig(max_deaths=1), NoJournal([]))
    fetcher = Outage(1 << 20, left=["2.png"] * 4)
    table = read_table(tmp_path, 7)
    rows = fetch_stage(fetcher=fetcher, guard=guard_of("fetch", ledger))(table)
    assert rows["id"].equals(table["id"])
    assert rows["error"].null_count == 7
    assert fetcher.left == []
    assert len(pauses) == 4
    assert pauses[2] > pauses[0] / 2
    assert ledger.admit("fetch", table["id"].to_pylist()).alone == ()


def test_one_that_fails_for_good_ends_the_job_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    fetcher = Outage(1 << 20, left=["1.png"] * 1000)
    with pytest.raises(StorageError, match="the same command goes on"):
        fetch_stage(fetcher=fetcher)(read_table(tmp_path, 3))
    assert 1800 / 60 < len(pauses) < 100
    assert max(pauses) <= 60


def test_an_outage_of_s3_fails_no_record_and_one_bad_key_fails_its_own(
    bucket: str, faulty_s3: tuple[Server, Faults], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.fetch._FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("pipeline.fetch._LONGEST_PAUSE_S", 0.01)
    server, faults = faulty_s3
    storage = StorageConfig(endpoint_url=server.url, region="us-east-1", max_attempts=1)
    uris = [f"{bucket}/{i}.png" for i in range(6)]
    for number, uri in enumerate(uris[:5]):
        write_bytes(uri, png(number), storage)
    faults.plan([SLOW_DOWN] * 5, "HEAD", "2.png")
    faults.plan([RESET, CUT], "GET", "3.png")
    rows = fetch_stage(fetcher=Fetcher(1 << 20, storage=storage))(
        read(tmp_path, {"id": list("abcdef"), "image": uris, "question": ["q"] * 6})
    )
    assert faults.met[SLOW_DOWN] == 5
    assert faults.met[RESET] == 1
    errors = [error and error["type"] for error in rows["error"].to_pylist()]
    assert errors == [None] * 5 + ["ImageNotFoundError"]
