import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.config import InputConfig
from pipeline.source import Source, open_source
from sgl.errors import ConfigurationError
from tests.pipeline.inputs import checked_ids, png


def member(name: str, data: bytes, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def sample(key: str, shade: int, **cells: Any) -> list[tuple[tarfile.TarInfo, bytes]]:
    text = {"question": f"what is {key}?", **cells}
    return [member(f"{key}.png", png(shade)), member(f"{key}.json", json.dumps(text).encode())]


def write_shard(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def source_of(path: Path, **settings: Any) -> Source:
    return open_source(InputConfig.model_validate({"path": str(path), **settings}))


def rows_of(source: Source) -> list[dict[str, Any]]:
    tables = [table for part in source.parts for table in source.tables(part)]
    rows = pa.concat_tables(tables).to_pylist()
    assert checked_ids(source) == [row["id"] for row in rows]
    return rows


def images(row: dict[str, Any]) -> list[bytes]:
    return [one["bytes"] for one in row["image"] or []]


def test_shards_are_read_in_order_with_ids_of_shard_and_key(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for shard in (0, 1):
        members = [part for i in range(70) for part in sample(f"{i:03d}", i, place=i)]
        write_shard(tmp_path / "train" / f"s-{shard}.tar", *members)
    source = source_of(tmp_path)
    rows = rows_of(source)
    assert [len(list(source.tables(part))) for part in source.parts] == [2, 2]
    assert [r["id"] for r in rows] == [f"train/s-{s}/{i:03d}" for s in (0, 1) for i in range(70)]
    assert [images(r) for r in rows] == [[png(i)] for _ in (0, 1) for i in range(70)]
    assert [r["place"] for r in rows] == [*range(70), *range(70)]
    assert rows[3]["question"] == "what is 003?"
    assert {r["read_error"] for r in rows} == {None}


def test_members_mean_what_their_endings_say(tmp_path: Path) -> None:
    write_shard(
        tmp_path / "s.tar",
        member("./folder/a.b/one.left.PNG", png(1)),
        member("./folder/a.b/one.right.png", png(2)),
        member("./folder/a.b/one.txt", "wörter".encode()),
        member("./folder/a.b/one.cls", b"7\n"),
        member("./folder/a.b/one.npy", b"passed over"),
        member("./folder/a.b/._one.png", b"passed over"),
        member("./folder", b"", type=tarfile.DIRTYPE),
        member("./folder/link.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("two.png", png(3)),
        member("two.txt", b"other"),
    )
    one, two = rows_of(source_of(tmp_path, columns={"question": "txt"}))
    assert (one["id"], two["id"]) == ("s/folder/a.b/one", "s/two")
    assert images(one) == [png(1), png(2)]
    assert (one["question"], one["cls"]) == ("wörter", 7)
    assert (two["question"], two["cls"]) == ("other", None)


def test_a_bad_member_fails_its_sample_alone(tmp_path: Path) -> None:
    write_shard(
        tmp_path / "s.tar",
        *sample("good", 1),
        *[member("json.png", png(1)), member("json.json", b"{")],
        *[member("list.png", png(1)), member("list.json", b"[]")],
        *[*sample("cls", 1), member("cls.cls", b"seven")],
        *[*sample("txt", 1), member("txt.txt", b"\xff")],
        *sample("large", 1),
        member("large.jpg", bytes(5000)),
        *sample("last", 2),
    )
    rows = rows_of(source_of(tmp_path, max_image_bytes=4000))
    errors = {row["id"]: row["read_error"] for row in rows}
    assert {name for name, error in errors.items() if error is None} == {"s/good", "s/last"}
    assert "not JSON" in errors["s/json"]
    assert "not a JSON object" in errors["s/list"]
    assert "no integer" in errors["s/cls"]
    assert "no valid UTF-8" in errors["s/txt"]
    assert "max_image_bytes" in errors["s/large"]


def shard_bytes(folder: Path) -> bytes:
    members = [part for i in range(5) for part in sample(f"{i}", i)]
    return write_shard(folder / "whole.tar", *members).read_bytes()


def test_wherever_a_shard_is_cut_nothing_is_lost_in_silence(tmp_path: Path) -> None:
    whole = shard_bytes(tmp_path)
    (tmp_path / "whole.tar").unlink()
    path = tmp_path / "s.tar"
    ends = (2 * 5 * 1024) + 512
    # The first text member tells the columns; a shard that is cut before it holds no question.
    path.write_bytes(whole[:1400])
    with pytest.raises(ConfigurationError, match="no column 'question'"):
        source_of(path)
    for cut in range(2048, ends, 487):
        path.write_bytes(whole[:cut])
        rows = rows_of(source_of(path))
        assert rows[-1]["read_error"] is not None, cut
        assert [row["read_error"] for row in rows[:-1]] == [None] * (len(rows) - 1), cut
        assert [images(row) for row in rows[:-1]] == [[png(i)] for i in range(len(rows) - 1)]


def test_damage_within_a_shard_is_a_failed_record_not_its_end(tmp_path: Path) -> None:
    whole = bytearray(shard_bytes(tmp_path))
    (tmp_path / "whole.tar").unlink()
    whole[4 * 1024 : 4 * 1024 + 512] = b"\xaa" * 512
    (tmp_path / "s.tar").write_bytes(whole)
    rows = rows_of(source_of(tmp_path))
    assert [row["id"] for row in rows] == ["s/0", "s/1", "s/(end)"]
    assert [row["read_error"] is None for row in rows] == [True, True, False]
    assert "what follows here is lost" in rows[-1]["read_error"]


def test_a_key_that_comes_back_is_refused(tmp_path: Path) -> None:
    write_shard(tmp_path / "s.tar", *sample("a", 1), *sample("b", 2), *sample("a", 3))
    with pytest.raises(ConfigurationError, match="more than once: s/a"):
        checked_ids(source_of(tmp_path))


KEYS = ("caf\udce9", "caf\udcea", "ü", "a b")


def test_keys_of_any_bytes_are_ids(tmp_path: Path) -> None:
    write_shard(tmp_path / "s.tar", *(p for k in KEYS for p in sample(k, 1, question="q")))
    assert len({row["id"] for row in rows_of(source_of(tmp_path))}) == len(KEYS)


def test_columns_may_differ_between_samples_and_shards(tmp_path: Path) -> None:
    many = [part for i in range(80) for part in sample(f"{i}", 1, score=i if i < 70 else 0.5)]
    write_shard(tmp_path / "a.tar", *many)
    write_shard(tmp_path / "b.tar", *sample("x", 1, meta={"w": 1}), *sample("y", 1, meta={"h": 2}))
    rows = rows_of(source_of(tmp_path))
    assert [row["score"] for row in rows[:71]] == [*map(float, range(70)), 0.5]
    assert [row["meta"] for row in rows[-2:]] == [{"w": 1, "h": None}, {"w": None, "h": 2}]


def test_the_check_of_ids_reads_no_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shard(tmp_path / "s.tar", *sample("a", 1), *sample("b", 2))
    opened: list[str] = []
    extract = tarfile.TarFile.extractfile

    def watched(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Any:
        opened.append(info.name)
        return extract(tar, info)

    monkeypatch.setattr(tarfile.TarFile, "extractfile", watched)
    checked_ids(source_of(tmp_path))
    assert opened
    assert not [name for name in opened if name.endswith(".png")]
