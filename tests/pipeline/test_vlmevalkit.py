"""TSV files as VLMEvalKit has them, whole and rotten."""

import base64
import csv
import io
from pathlib import Path
from typing import Any

import pytest

from infra.s3 import StorageConfig
from infra.storage import write_bytes
from pipeline.config import InputConfig
from pipeline.source import open_source
from sgl.errors import ConfigurationError
from tests.pipeline.inputs import png
from tests.pipeline.test_formats import rows_of, source_of
from tests.s3 import Server

COLUMNS = ["index", "image", "question", "A", "B", "C", "answer", "hint", "category"]


def picture(shade: int) -> str:
    return base64.b64encode(png(shade)).decode()


def write_tsv(path: Path, *rows: dict[str, Any], columns: list[str] | None = None) -> Path:
    """As pandas' to_csv(sep="\\t") writes it."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, columns or COLUMNS, delimiter="\t", lineterminator="\n", restval=""
    )
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue())
    return path


def bytes_of(row: dict[str, Any]) -> list[bytes]:
    return [one["bytes"] for one in row["image"] or []]


def test_a_multiple_choice_set(tmp_path: Path) -> None:
    path = write_tsv(
        tmp_path / "bench.tsv",
        {
            "index": 7,
            "image": picture(1),
            "question": 'What is "it"?\nSay.',
            "A": "cat",
            "B": "dog",
            "answer": "B",
            "hint": "Look.",
            "category": "007",
        },
        {"index": 1000007, "image": 7, "question": "And now?", "A": "cat", "answer": "A"},
        {"index": 8, "image": f"['{picture(2)}', '{picture(3)}']", "question": "Both?"},
    )
    first, again, both = rows_of(source_of(path))
    assert [row["id"] for row in (first, again, both)] == ["7", "1000007", "8"]
    assert first["question"].startswith(
        'Hint: Look.\nQuestion: What is "it"?\nSay.\nOptions:\nA. cat'
    )
    assert (first["answers"], first["options"]) == (["B"], ["cat", "dog"])
    assert (first["category"], first["hint"]) == ("007", "Look.")
    assert bytes_of(first) == bytes_of(again) == [png(1)]
    assert bytes_of(both) == [png(2), png(3)]
    assert (both["question"], both["answers"], both["options"]) == ("Both?", None, None)
    assert {"A", "answer", "index"}.isdisjoint(first)


def test_a_picture_may_stand_in_a_later_row(tmp_path: Path) -> None:
    rows = [{"index": f"r{i}", "image": "r99", "question": "q"} for i in range(99)]
    rows.append({"index": "r99", "image": picture(9), "question": "a\nb"})
    source = source_of(write_tsv(tmp_path / "in.tsv", *rows))
    assert len(list(source.tables(source.parts[0]))) == 2
    assert [bytes_of(row) for row in rows_of(source)] == [[png(9)]] * 100


def test_pictures_may_be_files(tmp_path: Path) -> None:
    columns = ["index", "image_path", "question", "answer"]
    path = write_tsv(
        tmp_path / "in.tsv",
        {"index": 1, "image_path": "a.png", "question": "q", "answer": "1"},
        {"index": 2, "image_path": "['a.png', 'b.png']", "question": "q", "answer": "2"},
        columns=columns,
    )
    one, two = rows_of(source_of(path))
    assert [[i["uri"] for i in row["image"]] for row in (one, two)] == [
        ["a.png"],
        ["a.png", "b.png"],
    ]
    assert one["image"][0]["base"] == str(tmp_path)
    assert one["answers"] == ["1"]


def test_rotten_lines_cost_themselves_alone(tmp_path: Path) -> None:
    path = write_tsv(
        tmp_path / "in.tsv",
        {"index": "good", "image": picture(1), "question": "q"},
        {"index": "lost", "image": "nowhere", "question": "q"},
        {"index": "broken", "image": "!" * 100, "question": "q"},
        {"index": "self", "image": "lost", "question": "q"},
        {"index": "", "image": picture(1), "question": "q"},
        {"index": "bare", "question": "q"},
    )
    with path.open("ab") as file:
        file.write(b'too\tfew\ncaf\xe9\t\t\t\t\t\t\t\t\n"stray\tx\tq\t\t\t\t\t\t\n')
        file.write(b"last\t\tq\t\t\t\t\t\t")
    rows = rows_of(source_of(path))
    assert [row["id"] for row in rows] == [
        *("good", "lost", "broken", "self"),
        *("in.tsv:6", "bare", "in.tsv:8", "in.tsv:9", "in.tsv:10", "last"),
    ]
    problems = [row["read_error"] for row in rows]
    assert [problem is None for problem in problems] == [
        *(True, False, False, False, False, True, False, False, False, True)
    ]
    assert "nor the index of a row" in problems[1]
    assert "broken base64" in problems[2]
    assert "nor the index of a row" in problems[3]
    assert "has 2 fields, and the header 9" in problems[6]
    assert "no valid UTF-8" in problems[7]
    assert "a quote" in problems[8]
    assert rows[5]["image"] is None or not rows[5]["image"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no TSV of VLMEvalKit"),
        ("image\tquestion\nx\ty\n", "columns 'index' and 'question'; it has image, question"),
        ("index\tquestion\tindex\n1\t2\t3\n", "has column 'index' twice"),
        ("index\timage\tquestion\n", "no records"),
    ],
)
def test_what_is_no_such_file_is_refused(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text(text)
    with pytest.raises(ConfigurationError, match=says):
        source_of(tmp_path / "in.tsv")


def test_other_names_and_windows_lines(tmp_path: Path) -> None:
    path = tmp_path / "in.tsv"
    path.write_bytes(f"\ufeffid\timage\tprompt\tgt\r\nx\t{picture(4)}\twhat?\tcat\r\n".encode())
    columns = {"question": "prompt", "answers": "gt"}
    (row,) = rows_of(source_of(path, columns=columns))
    assert (row["id"], row["question"], row["answers"]) == ("x", "what?", ["cat"])
    assert bytes_of(row) == [png(4)]


def test_the_same_from_s3(tmp_path: Path, bucket: str, s3_server: Server) -> None:
    rows = [{"index": i, "image": picture(i) if i else 1, "question": f"q{i}"} for i in range(3)]
    path = write_tsv(tmp_path / "in.tsv", *rows)
    storage = StorageConfig(endpoint_url=s3_server.url, region="us-east-1")
    write_bytes(f"{bucket}/in.tsv", path.read_bytes(), storage)
    far = rows_of(open_source(InputConfig(path=f"{bucket}/in.tsv"), storage))
    assert [bytes_of(row) for row in far] == [[png(1)], [png(1)], [png(2)]]


def test_tables_are_bounded_and_pictures_found_whatever_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"index": i, "image": picture(i), "question": f'say "{i}"\nthen'} for i in range(1, 9)]
    rows += [{"index": 10 + i, "image": i, "question": "again"} for i in range(1, 9)]
    path = write_tsv(tmp_path / "in.tsv", *rows)
    whole = rows_of(source_of(path))
    assert [bytes_of(row) for row in whole] == [[png(i)] for i in [*range(1, 9)] * 2]
    monkeypatch.setattr("pipeline.vlmevalkit._CHUNK_BYTES", 1)
    source = source_of(path)
    tables = list(source.tables(source.parts[0]))
    assert [table.num_rows for table in tables] == [1] * 16
    assert rows_of(source) == whole
