"""Damaged files, and the folders that Hugging Face's libraries write, without those libraries."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra.s3 import StorageConfig
from infra.storage import write_bytes
from pipeline.config import InputConfig
from pipeline.source import Source, open_source
from sgl.errors import ConfigurationError
from tests.pipeline.inputs import checked_ids, png, records, write_jsonl, write_parquet
from tests.pipeline.test_webdataset import sample, write_shard
from tests.s3 import Faults, Server

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def source_of(path: Path, **settings: Any) -> Source:
    return open_source(InputConfig.model_validate({"path": str(path), **settings}))


def rows_of(source: Source) -> list[dict[str, Any]]:
    tables = [table for part in source.parts for table in source.tables(part)]
    rows = pa.concat_tables(tables).to_pylist()
    assert checked_ids(source) == [row["id"] for row in rows]
    return rows


def table_of(count: int, first: int = 0) -> pa.Table:
    """As Hugging Face's library stores an image feature; without ids."""
    table = pa.table(
        {
            "image": pa.array(
                [{"bytes": png(first + i), "path": None} for i in range(count)], IMAGE
            ),
            "question": [f"what is {first + i}?" for i in range(count)],
            "label": pa.array(range(count), pa.int64()),
        }
    )
    info = {"info": {"features": {"image": {"_type": "Image"}}}}
    return table.replace_schema_metadata({"huggingface": json.dumps(info)})


def save_to_disk(folder: Path, count: int, shards: int = 2) -> Path:
    """What Dataset.save_to_disk leaves."""
    folder.mkdir(parents=True)
    names = [f"data-{shard:05d}-of-{shards:05d}.arrow" for shard in range(shards)]
    for shard, name in enumerate(names):
        table = table_of(count, shard * count)
        with pa.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table, max_chunksize=100)
    state = {"_data_files": [{"filename": name} for name in names], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text('{"features": {}}')
    (folder / "cache-0123456789abcdef.arrow").write_bytes(b"left over")
    return folder


def saved(folder: Path) -> Path:
    return save_to_disk(folder, 3, shards=1)


def shards(folder: Path) -> Path:
    folder.mkdir()
    members = [part for i in range(3) for part in sample(f"{i}", i, question="q")]
    return write_shard(folder / "s.tar", *members)


def parquet(folder: Path) -> Path:
    folder.mkdir()
    return write_parquet(folder / "in.parquet", records(200), row_group_size=80)


def lines(folder: Path) -> Path:
    folder.mkdir()
    rows = [{"image": f"{i}.png", "question": f"what is {i}?"} for i in range(3)]
    return write_jsonl(folder / "in.jsonl", rows)


@pytest.mark.parametrize("make", [parquet, lines, shards, saved])
def test_a_failing_s3_gives_the_records_of_the_disk(
    make: Callable[[Path], Path], tmp_path: Path, bucket: str, faulty_s3: tuple[Server, Faults]
) -> None:
    folder = tmp_path / "in"
    make(folder)
    server, faults = faulty_s3
    storage = StorageConfig(endpoint_url=server.url, region="us-east-1")
    for file in filter(Path.is_file, folder.rglob("*")):
        write_bytes(f"{bucket}/in/{file.relative_to(folder)}", file.read_bytes(), storage)
    faults.every = 5
    far = rows_of(open_source(InputConfig(path=f"{bucket}/in"), storage))
    assert faults.met.total() > 0
    near = rows_of(source_of(folder))
    for base, rows in ((f"{bucket}/in", far), (str(folder), near)):
        assert {one.pop("base") for row in rows for one in row["image"]} == {base}
    assert far == near


def test_a_dataset_saved_to_disk(tmp_path: Path) -> None:
    rows = rows_of(source_of(save_to_disk(tmp_path / "set", 150)))
    assert [row["question"] for row in rows] == [f"what is {i}?" for i in range(300)]
    assert [row["image"][0]["bytes"] for row in rows] == [png(i) for i in range(300)]
    assert [row["label"] for row in rows] == [*range(150), *range(150)]
    assert len({row["id"] for row in rows}) == 300


def test_a_dictionary_of_datasets_saved_to_disk(tmp_path: Path) -> None:
    for split in ("train", "test"):
        save_to_disk(tmp_path / split, 2, shards=1)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert len(rows_of(source_of(tmp_path))) == 4
    assert len(rows_of(source_of(tmp_path / "test"))) == 2


def test_arrow_files_in_their_other_layout(tmp_path: Path) -> None:
    table = table_of(3)
    with pa.ipc.new_file(tmp_path / "x.arrow", table.schema) as writer:
        writer.write_table(table)
    assert len(rows_of(source_of(tmp_path))) == 3


def test_a_damaged_arrow_file_is_refused_by_name(tmp_path: Path) -> None:
    path = save_to_disk(tmp_path / "set", 300, shards=1) / "data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ConfigurationError, match=r"data-00000-of-00001\.arrow is no Arrow file"):
        rows_of(source_of(path.parent))


def test_a_clone_of_a_dataset_repository(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for shard in (0, 1):
        pq.write_table(table_of(3, shard * 3), tmp_path / "data" / f"train-0000{shard}.parquet")
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / ".gitattributes").write_text("*.parquet filter=lfs\n")
    (tmp_path / "dataset_infos.json").write_text("{}")
    rows = rows_of(source_of(tmp_path))
    assert [row["question"] for row in rows] == [f"what is {i}?" for i in range(6)]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_an_image_folder_with_metadata(kind: str, tmp_path: Path) -> None:
    for split in ("train", "test"):
        folder = tmp_path / split
        folder.mkdir()
        for name in ("1.png", "2.png"):
            (folder / name).write_bytes(png(1))
        if kind == "jsonl":
            rows = [{"file_name": f"{i}.png", "question": "q"} for i in (1, 2)]
            write_jsonl(folder / "metadata.jsonl", rows)
        else:
            (folder / "metadata.csv").write_text("file_name,question\n1.png,q\n2.png,q\n")
    rows = rows_of(source_of(tmp_path))
    assert [row["image"][0]["uri"] for row in rows] == ["1.png", "2.png"] * 2
    assert len({row["id"] for row in rows}) == 4
    assert "file_name" not in source_of(tmp_path).carried


def test_an_image_column_that_the_user_names_is_not_replaced(tmp_path: Path) -> None:
    rows = [{"file_name": "1.png", "question": "q"}]
    path = write_jsonl(tmp_path / "metadata.jsonl", rows)
    with pytest.raises(ConfigurationError, match="no column 'picture'"):
        source_of(path, columns={"image": "picture"})
    with pytest.raises(ConfigurationError, match="no column 'image'"):
        source_of(write_jsonl(tmp_path / "other.jsonl", rows))


@pytest.mark.parametrize("cut", [1, 100, 5000])
def test_a_truncated_parquet_file_is_refused_by_name(cut: int, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", records(100))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ConfigurationError, match=r"in\.parquet is no Parquet file"):
        source_of(path)


@pytest.mark.parametrize("column", ["id", "image.bytes", "image.path", "question", "kind"])
def test_a_damaged_page_fails_the_records_behind_it_and_no_others(
    column: str, tmp_path: Path
) -> None:
    path = tmp_path / "in.parquet"
    columns = records(400, kind=[f"k{i}" for i in range(400)])
    pq.write_table(
        pa.table(columns), path, row_group_size=200, data_page_size=64, use_dictionary=False
    )
    group = pq.ParquetFile(path).metadata.row_group(0)
    chunks = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    chunk, data = chunks[column], bytearray(path.read_bytes())
    end = chunk.data_page_offset + chunk.total_compressed_size
    middle = chunk.data_page_offset + chunk.total_compressed_size // 2
    data[middle:end] = b"\xff" * (end - middle)
    path.write_bytes(data)

    rows = rows_of(source_of(path))
    assert len(rows) == 400
    good = [row["read_error"] is None for row in rows]
    first = good.index(False)
    assert 0 <= first < 200
    assert good == [True] * first + [False] * (200 - first) + [True] * 200
    ids = [row["id"] for row in rows]
    expected = [f"r{i:04d}" for i in range(400)]
    if column == "id":
        expected[first:200] = [f"in.parquet:{i}" for i in range(first, 200)]
    assert ids == expected


def test_a_storage_that_fails_is_no_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_parquet(tmp_path / "in.parquet", records(4))
    source = source_of(path)

    def failing(*_: Any, **__: Any) -> Any:
        raise OSError("When reading: AWS Error NETWORK_CONNECTION during GetObject operation")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", failing)
    with pytest.raises(OSError, match="AWS Error"):
        rows_of(source)
