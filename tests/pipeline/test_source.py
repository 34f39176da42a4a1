import errno
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.config import InputConfig
from pipeline.ids import Hashes, hashes_of
from pipeline.references import Fetcher
from pipeline.schema import READ
from pipeline.source import Source, open_source
from sgl.errors import ConfigurationError
from tests.pipeline.inputs import checked_ids, png, records, write_jsonl, write_parquet


def source_of(path: Path, **settings: Any) -> Source:
    return open_source(InputConfig.model_validate({"path": str(path), **settings}))


def rows_of(source: Source) -> list[dict[str, Any]]:
    tables = [table for part in source.parts for table in source.tables(part)]
    assert all(table.schema.equals(source.shape.schema) for table in tables)
    return pa.concat_tables(tables).to_pylist()


def hf_parquet(folder: Path) -> Path:
    return write_parquet(
        folder / "in.parquet",
        {
            "id": ["a", "b"],
            "image": [{"bytes": png(1), "path": None}, {"bytes": None, "path": "two.png"}],
            "question": ["one?", "two?"],
            "answers": [["1"], ["2"]],
            "kind": ["x", "y"],
        },
    )


def bytes_parquet(folder: Path) -> Path:
    return write_parquet(
        folder / "in.parquet",
        {"id": ["a", "b"], "image": [png(1), png(2)], "question": ["one?", "two?"]},
    )


def path_parquet(folder: Path) -> Path:
    return write_parquet(
        folder / "in.parquet",
        {"id": ["a", "b"], "image": ["one.png", "two.png"], "question": ["one?", "two?"]},
    )


def jsonl(folder: Path) -> Path:
    return write_jsonl(
        folder / "in.jsonl",
        [
            {"id": "a", "image": "one.png", "question": "one?", "answers": ["1"], "kind": "x"},
            {"id": "b", "image": "two.png", "question": "two?", "answers": ["2"], "more": 3},
        ],
    )


def csv(folder: Path) -> Path:
    path = folder / "in.csv"
    path.write_text('id,image,question,answers,kind\na,one.png,"one?",1,x\nb,two.png,two?,2,y\n')
    return path


def llava(folder: Path) -> Path:
    path = folder / "in.json"
    turn = lambda who, text: {"from": who, "value": text}  # noqa: E731
    path.write_text(
        json.dumps(
            [
                {
                    "id": name,
                    "image": f"{word}.png",
                    "conversations": [
                        turn("human", f"<image>\n{word}?"),
                        turn("gpt", number),
                        turn("human", "and then?"),
                        turn("gpt", "nothing"),
                    ],
                }
                for name, word, number in (("a", "one", "1"), ("b", "two", "2"))
            ]
        )
    )
    return path


ALL = [hf_parquet, bytes_parquet, path_parquet, jsonl, csv, llava]


@pytest.mark.parametrize("make", ALL)
def test_every_format_becomes_the_same_records(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    source = source_of(make(tmp_path))
    rows = rows_of(source)
    assert source.shape.schema.names[: len(READ)] == READ.names
    assert [row["id"] for row in rows] == ["a", "b"]
    assert [row["question"] for row in rows] == ["one?", "two?"]
    assert all(one["bytes"] or one["uri"] for row in rows for one in row["image"])
    assert {one["base"] for row in rows for one in row["image"]} == {str(tmp_path)}
    assert checked_ids(source) == ["a", "b"]


@pytest.mark.parametrize("make", [hf_parquet, jsonl, csv, llava])
def test_accepted_answers_are_lists(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert [row["answers"] for row in rows_of(source_of(make(tmp_path)))] == [["1"], ["2"]]


def test_other_columns_are_carried(tmp_path: Path) -> None:
    source = source_of(jsonl(tmp_path))
    assert source.carried == ("answers", "kind", "more")
    assert [(row["kind"], row["more"]) for row in rows_of(source)] == [("x", None), (None, 3)]


def test_columns_have_the_names_that_the_user_tells(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "in.parquet",
        {"key": [7, 8], "photo": ["a.png", "b.png"], "text": ["x", "y"], "answer": ["1", "2"]},
    )
    columns = {"id": "key", "image": "photo", "question": "text", "answers": "answer"}
    rows = rows_of(source_of(path, columns=columns))
    assert [row["id"] for row in rows] == ["7", "8"]
    assert [row["answers"] for row in rows] == [["1"], ["2"]]
    assert [row["image"][0]["uri"] for row in rows] == ["a.png", "b.png"]


def test_an_image_root_replaces_the_manifests_folder(tmp_path: Path) -> None:
    rows = rows_of(source_of(jsonl(tmp_path), image_root="/pictures"))
    assert {one["base"] for row in rows for one in row["image"]} == {"/pictures"}


def test_every_cell_of_a_csv_stays_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("id,image,question,zip,day,on\n007,a.png,12,00501,2024-01-02,true\n")
    (row,) = rows_of(source_of(path))
    assert (row["id"], row["question"]) == ("007", "12")
    assert (row["zip"], row["day"], row["on"]) == ("00501", "2024-01-02", "true")


def test_a_question_that_is_no_utf8_becomes_null_and_a_name_that_is_none_stays_a_name(
    tmp_path: Path,
) -> None:
    broken = pa.array([b"fine", b"\xff\xfe", None]).view(pa.string())
    columns = {"id": ["a", "b", "c"], "image": broken, "question": broken}
    rows = rows_of(source_of(write_parquet(tmp_path / "in.parquet", columns)))
    assert [row["question"] for row in rows] == ["fine", None, None]
    names = [(row["image"][0] or {}).get("uri") for row in rows]
    assert names == ["fine", r"\xff\xfe", None]


@pytest.mark.parametrize("write", [write_parquet, None])
@pytest.mark.parametrize("ids", [True, False])
def test_records_that_need_no_image_need_no_column_of_them(
    write: Callable[..., Path] | None, ids: bool, tmp_path: Path
) -> None:
    columns = {"id": ["a", "b"], "question": ["q", "r"]}
    columns = columns if ids else {"question": columns["question"]}
    if write:
        path = write(tmp_path / "in.parquet", columns)
    else:
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        path = write_jsonl(tmp_path / "in.jsonl", rows)
    with pytest.raises(ConfigurationError, match=r"input\.text_only"):
        source_of(path)
    source = source_of(path, text_only=True)
    rows = rows_of(source)
    assert [(row["question"], row["image"]) for row in rows] == [("q", None), ("r", None)]
    assert checked_ids(source) == [row["id"] for row in rows]
    # A column that was named is missed all the same.
    with pytest.raises(ConfigurationError, match="no column 'photo'"):
        source_of(path, text_only=True, columns={"image": "photo"})


def test_of_records_that_need_no_image_some_files_may_have_no_column(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", {"id": ["a"], "question": ["q"]})
    write_parquet(tmp_path / "b.parquet", records(1))
    with pytest.raises(ConfigurationError, match=r"a\.parquet has no column 'image'"):
        source_of(tmp_path)
    first, second = rows_of(source_of(tmp_path, text_only=True))
    assert (first["image"], len(second["image"])) == (None, 1)


def test_duplicate_ids_are_refused_and_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", records(4) | {"id": ["a", "b", "a", "b"]})
    with pytest.raises(ConfigurationError, match="2 ids occur more than once: a, b"):
        checked_ids(source_of(path))


def test_a_duplicate_id_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    columns = records(2) | {"id": ["a\x1b[2J\n"] * 2}
    with pytest.raises(ConfigurationError, match=r"once: 'a\\x1b\[2J\\n'"):
        checked_ids(source_of(write_parquet(tmp_path / "in.parquet", columns)))


def test_only_some_of_many_duplicates_are_named(tmp_path: Path) -> None:
    many = [f"r{i}" for i in range(40)]
    columns = records(80) | {"id": many + many}
    with pytest.raises(ConfigurationError, match="40 ids occur more than once: ") as caught:
        checked_ids(source_of(write_parquet(tmp_path / "in.parquet", columns)))
    assert len(set(re.findall(r"r\d+", str(caught.value)))) == 5


def test_ids_that_only_share_a_hash_are_no_duplicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def colliding(ids: Iterable[str | None]) -> Hashes:
        return hashes_of("a" if name == "b" else name for name in ids)

    monkeypatch.setattr("pipeline.ids.hashes_of", colliding)
    path = write_parquet(tmp_path / "in.parquet", records(3) | {"id": ["a", "b", "c"]})
    assert checked_ids(source_of(path)) == ["a", "b", "c"]


def test_duplicate_ids_are_found_across_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"id": "a", "image": "x", "question": "q"}])
    with pytest.raises(ConfigurationError, match="more than once: a"):
        checked_ids(source_of(tmp_path))


def test_duplicate_records_without_ids_are_refused(tmp_path: Path) -> None:
    columns = {"image": ["a.png", "a.png"], "question": ["same", "same"]}
    path = write_parquet(tmp_path / "in.parquet", columns)
    with pytest.raises(ConfigurationError, match="hashes of image and question"):
        checked_ids(source_of(path))


def test_a_record_without_id_is_one_with_an_error_and_the_name_of_its_place(
    tmp_path: Path,
) -> None:
    path = write_parquet(
        tmp_path / "in.parquet", records(4) | {"id": ["a", None, "", "b"]}, row_group_size=2
    )
    rows = rows_of(source_of(path))
    assert [row["id"] for row in rows] == ["a", "in.parquet:1", "in.parquet:2", "b"]
    assert [row["read_error"] is None for row in rows] == [True, False, False, True]
    assert checked_ids(source_of(path)) == [row["id"] for row in rows]


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"image": ["x"], "text": ["q"]}, "input.columns.question.*'question'.*image, text"),
        ({"picture": ["x"], "question": ["q"]}, "input.columns.image"),
        ({"image": [1], "question": ["q"]}, "column 'image' of in.parquet holds int64"),
        ({"image": ["x"], "question": [1.5]}, "column 'question' of in.parquet holds double"),
        (
            {"id": [1.5], "image": ["x"], "question": ["q"]},
            "column 'id' of .* holds double",
        ),
        (
            {"image": ["x"], "question": ["q"], "answer": ["a"], "answers": ["b"]},
            "answer.*output column",
        ),
        ({"image": ["x"], "question": ["q"], "images": ["a"]}, "images.*output column"),
    ],
)
def test_unusable_columns_are_refused(columns: dict[str, Any], names: str, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", columns)
    with pytest.raises(ConfigurationError, match=names):
        source_of(path)


def test_a_dropped_column_is_in_nobodys_way(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", records(2, answer=["a", "b"]))
    assert source_of(path, drop=["answer"]).carried == ()


@pytest.mark.parametrize("limit", [1, 3, 5, 7, 100])
def test_a_limit_takes_the_first_records(limit: int, tmp_path: Path) -> None:
    for name in ("a", "b"):
        ids = [f"{name}{i}" for i in range(4)]
        write_parquet(tmp_path / f"{name}.parquet", records(4) | {"id": ids}, row_group_size=3)
    source = source_of(tmp_path, limit=limit)
    everything = ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"]
    assert [row["id"] for row in rows_of(source)] == everything[:limit]
    assert source.rows == min(limit, 8)
    assert checked_ids(source) == everything[:limit]


def test_files_may_differ_in_their_carried_columns(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", records(1, kind=["x"]))
    write_parquet(tmp_path / "b.parquet", records(1) | {"id": ["other"]})
    assert [row["kind"] for row in rows_of(source_of(tmp_path))] == ["x", None]


def test_files_that_disagree_about_a_type_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", records(1, kind=["x"]))
    write_parquet(tmp_path / "b.parquet", records(1, kind=[1]))
    with pytest.raises(ConfigurationError, match="disagree"):
        source_of(tmp_path)


def write_text(name: str, text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return make


def write_bytes(name: str, data: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return make


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: folder / "none.parquet", "nothing to read"),
        (lambda folder: folder, "no file that can be read"),
        (write_text("in.txt", "x"), "no file that can be read"),
        (write_text("in.parquet", "x"), "in.parquet is no Parquet file"),
        (write_text("in.jsonl", "[1]\n"), "no column 'question'; it has none"),
        (write_bytes("in.jsonl", '{"id": "a"}'.encode("utf-16")), "in.jsonl is UTF-16"),
        (write_text("in.csv", "id,image,image,question\na,b,c,d\n"), "column 'image' twice"),
        (write_bytes("in.csv", b"\xff,image,question\na,b,c\n"), "in.csv is no CSV header"),
        (write_text("in.tar", "no tar"), "in.tar is no tar file"),
        (write_text("in.arrow", "no arrow"), "in.arrow is no Arrow file"),
        (write_text("in.jsonl", ""), "no records"),
        (write_text("in.json", "{"), "in.json cannot be read as llava"),
        (write_text("in.json", "{}"), "JSON list"),
    ],
)
def test_unreadable_input_is_refused(
    make: Callable[[Path], Path], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        source_of(make(tmp_path))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PermissionError(errno.EACCES, "at 10.1.2.3"), "in.jsonl cannot be reached: it may not"),
        (OSError("AWS Error ACCESS_DENIED: 10.1.2.3"), "in.jsonl cannot be reached: it may not"),
        (OSError(errno.ESTALE, "at 10.1.2.3"), "in.jsonl cannot be reached: its storage"),
        (OSError("AWS Error NETWORK_CONNECTION: 10.1.2.3"), "cannot be reached: its storage"),
        (FileNotFoundError(errno.ENOENT, "10.1.2.3"), "nothing to read at .*in.jsonl"),
    ],
)
def test_an_input_that_cannot_be_reached_is_not_called_absent(
    error: OSError, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("infra.storage.locate", fail)
    with pytest.raises(ConfigurationError, match=says) as refused:
        source_of(jsonl(tmp_path))
    assert "10.1.2.3" not in str(refused.value)


def test_an_input_by_an_impossible_uri_is_told_without_its_secrets() -> None:
    config = InputConfig(path="gs://anonymous:hunter2@bucket/a?endpoint_override=hunter2")
    with pytest.raises(ConfigurationError, match="is no place to read from") as refused:
        open_source(config)
    assert "hunter2" not in str(refused.value)


def test_names_below_a_file_uri_may_hold_any_character(tmp_path: Path) -> None:
    folder = tmp_path / "a %20 b"
    folder.mkdir()
    row = {"id": "a", "image": "what? #1 100%25.png", "question": "q"}
    write_jsonl(folder / "why? #1 %41.jsonl", [row])
    (folder / row["image"]).write_bytes(png(1))
    (seen,) = rows_of(open_source(InputConfig(path=folder.as_uri())))
    assert Fetcher(10_000).fetch(seen["image"][0]) == png(1)


def test_several_formats_in_one_folder_need_a_choice(tmp_path: Path) -> None:
    jsonl(tmp_path)
    hf_parquet(tmp_path)
    with pytest.raises(ConfigurationError, match="several formats"):
        source_of(tmp_path)
    assert len(rows_of(source_of(tmp_path, format="jsonl"))) == 2


def test_json_lines_may_hold_any_character_that_json_allows(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    question = "one\u2028two\u0085three"
    line = json.dumps({"id": "a", "image": "a.png", "question": question}, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\n\n")
    (row,) = rows_of(source_of(path))
    assert row["question"] == question


def test_csv_words_like_na_are_text_and_only_empty_fields_are_null(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("id,image,question,answers,note\nNA,a.png,null,N/A,\n")
    (row,) = rows_of(source_of(path))
    assert (row["id"], row["question"], row["answers"]) == ("NA", "null", ["N/A"])
    assert row["note"] is None


def test_settings_that_were_saved_mean_what_they_meant(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "in.parquet", records(2))
    config = InputConfig(path=str(path))
    saved = InputConfig.model_validate_json(config.model_dump_json())
    assert open_source(saved).parts == open_source(config).parts


FUZZ = """
import random, sys
from pathlib import Path
from pipeline.config import InputConfig
from pipeline.ids import Spill
from pipeline.source import check_ids, open_source
from sgl.errors import SglError

path = Path(sys.argv[1])
whole = path.read_bytes()
footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
for seed in range(300):
    random.seed(seed)
    data = bytearray(whole)
    for _ in range(random.randint(1, 3)):
        data[random.randrange(footer, len(data) - 8)] = random.randrange(256)
    path.write_bytes(data)
    try:
        source = open_source(InputConfig(path=str(path)))
        with Spill() as ids:
            check_ids(source, ids)
            read = sum(table.num_rows for part in source.parts for table in source.tables(part))
            assert read == source.rows == ids.count, seed
    except SglError:
        print("refused")
"""


def test_no_damage_of_a_footer_ends_the_process_or_loses_a_row(tmp_path: Path) -> None:
    """In pyarrow's own objects for columns about one such damage in a hundred does."""
    path = write_parquet(tmp_path / "in.parquet", records(20), row_group_size=5)
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "refused" in done.stdout
