"""Ids that are made: apart for different records, the same wherever the input lies."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import InputConfig
from pipeline.source import open_source
from tests.pipeline.inputs import checked_ids, png, write_jsonl, write_parquet


def ids_of(path: Path | str, **settings: Any) -> list[str]:
    source = open_source(InputConfig.model_validate({"path": str(path), **settings}))
    ids = checked_ids(source)
    tables = [table for part in source.parts for table in source.tables(part)]
    assert pa.concat_tables(tables)["id"].to_pylist() == ids
    return ids


def embedded(folder: Path, name: str = "in.parquet", first: int = 0) -> Path:
    columns = {
        "image": [{"bytes": png(first + i), "path": None} for i in range(6)],
        "question": ["what?"] * 6,
    }
    return write_parquet(folder / name, columns, row_group_size=2)


def two_folders(root: Path) -> Path:
    for folder in ("a", "b"):
        (root / folder).mkdir(parents=True)
        rows = [{"image": "1.png", "question": "q"}, {"image": "2.png", "question": "q"}]
        write_jsonl(root / folder / "in.jsonl", rows)
    return root


def test_the_same_name_in_two_folders_is_two_records(tmp_path: Path) -> None:
    assert len(set(ids_of(two_folders(tmp_path)))) == 4


def test_ids_are_the_same_at_another_mount_point(tmp_path: Path) -> None:
    here = two_folders(tmp_path / "here")
    embedded(here / "a")
    shutil.copytree(here, tmp_path / "deep" / "there")
    for name in ("jsonl", "parquet"):
        there = ids_of(tmp_path / "deep" / "there", format=name)
        assert ids_of(here, format=name) == there
        # A glob names its files below its fixed part, as the folder itself does.
        assert ids_of(f"{here}/*/*.{name}") == there


def test_with_an_image_root_the_manifests_folder_is_no_matter(tmp_path: Path) -> None:
    root = two_folders(tmp_path)
    shutil.copy(root / "a" / "in.jsonl", root / "again.jsonl")
    shutil.rmtree(root / "b")
    shutil.rmtree(root / "a")
    one = ids_of(root / "again.jsonl", image_root="/pictures")
    (root / "sub").mkdir()
    shutil.move(root / "again.jsonl", root / "sub" / "again.jsonl")
    assert ids_of(root, image_root="/elsewhere") == one


def test_spellings_of_one_reference_are_one_record(tmp_path: Path) -> None:
    rows = [{"image": "./x/../1.png", "question": "q"}]
    (one,) = ids_of(write_jsonl(tmp_path / "one.jsonl", rows))
    rows = [{"image": "1.png", "question": "q"}]
    assert ids_of(write_jsonl(tmp_path / "two.jsonl", rows)) == [one]


def test_embedded_pictures_are_told_apart_by_place_and_content(tmp_path: Path) -> None:
    ids = ids_of(embedded(tmp_path))
    assert len(set(ids)) == 6
    assert ids_of(embedded(tmp_path, first=50)) != ids
    assert ids_of(embedded(tmp_path)) == ids


def test_records_that_cannot_be_told_apart_have_the_name_of_their_place(tmp_path: Path) -> None:
    rows = [{"image": "1.png", "question": None}] * 2 + [{"image": None, "question": "q"}] * 2
    path = write_jsonl(tmp_path / "in.jsonl", [*rows, {"image": "1.png", "question": "q"}])
    ids = ids_of(path)
    assert ids[:4] == [f"in.jsonl:{line}" for line in (1, 2, 3, 4)]
    assert len(ids[4]) == 32


@pytest.mark.parametrize("given", [False, True])
def test_the_check_of_ids_reads_no_pictures(given: bool, tmp_path: Path) -> None:
    columns: dict[str, Any] = {
        "image": [{"bytes": bytes([i]) * 9, "path": "p"} for i in range(4)],
        "question": ["q"] * 4,
    }
    path = write_parquet(tmp_path / "in.parquet", columns | ({"id": list("abcd")} if given else {}))
    before = ids_of(path)
    pictures = pq.ParquetFile(path).metadata.row_group(0).column(0)
    assert pictures.path_in_schema == "image.bytes"
    start = pictures.dictionary_page_offset or pictures.data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + pictures.total_compressed_size] = b"\xff" * pictures.total_compressed_size
    path.write_bytes(data)
    source = open_source(InputConfig(path=str(path)))
    assert checked_ids(source) == before
    # And the reader, which finds the damage, gives the same ids.
    rows = [row for part in source.parts for t in source.tables(part) for row in t.to_pylist()]
    assert [row["id"] for row in rows] == before
    assert {row["read_error"] for row in rows} == {"the file is damaged here"}
