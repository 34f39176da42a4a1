"""The files of a report: figures alike in all of them, texts of strangers harmless, pictures in."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.cli import main
from pipeline.schema import IMPORTANCE
from testbed import model_path
from tests.pipeline.inputs import png
from tests.pipeline.report.made import failed, rows, write_output

ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the texts of its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script":
            self.scripts[-1] += data


def elements(path: Path) -> Elements:
    parser = Elements()
    parser.feed(path.read_text())
    return parser


def images_in(path: Path) -> list[dict[str, str | None]]:
    return [names for tag, names in elements(path).found if tag == "img"]


def report(*arguments: str) -> int:
    return main(["report", *arguments])


def test_all_forms_tell_the_same(tmp_path: Path) -> None:
    some = [*rows(300), failed(1)]
    folder = str(write_output(tmp_path / "out", some))
    page, data, text = (tmp_path / f"r.{end}" for end in ("html", "json", "md"))
    assert report(folder, "--html", str(page), "--json", str(data), "--markdown", str(text)) == 0
    (run,) = json.loads(data.read_text())["runs"]
    accuracy = f"{run['quality']['overall']['value']:.1%}"
    for told in (page.read_text(), text.read_text()):
        assert accuracy in told
        assert "USD, run of 2026-01-01" in told
        assert "ImageError" in told
        assert "adds up within 1 %" in told
    assert run["summary"]["records"] == 301


def test_texts_of_strangers_stay_texts(tmp_path: Path) -> None:
    some = rows(60)
    for one in some:
        one |= {"question": ATTACK, "small_answer": ATTACK, "id": f"{ATTACK}{one['id']}"}
    bad = {"stage": "fetch", "type": "ImageError", "message": ATTACK}
    folder = write_output(tmp_path / "<b>|out", [*some, failed(1, error=bad)])
    page, text = tmp_path / "r.html", tmp_path / "r.md"
    outputs = [str(folder), str(folder)]
    assert report(*outputs, "--html", str(page), "--markdown", str(text)) == 0
    parser = elements(page)
    assert len(parser.scripts) == 3
    assert not [tag for tag, names in parser.found if any(n.startswith("on") for n in names)]
    assert ATTACK.replace("<", "&lt;").replace(">", "&gt;") in page.read_text()
    assert "<b>" not in text.read_text()


def test_the_page_asks_nobody_for_anything(tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    assert report(str(write_output(tmp_path / "out", rows(50))), "--html", str(page)) == 0
    parser = elements(page)
    policy = next(
        names["content"]
        for tag, names in parser.found
        if tag == "meta" and names.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.partition("style-src")[0]
    assert not [names for _, names in parser.found if (names.get("src") or "").startswith("http")]
    assert not [tag for tag, _ in parser.found if tag in ("link", "iframe", "base", "object")]
    assert page.stat().st_size < 6e6


def test_without_accepted_answers_nothing_is_called_right(tmp_path: Path) -> None:
    folder = write_output(tmp_path / "out", rows(120))
    for path in (folder / "rows").glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop(["answers"]), path)
    page, text = tmp_path / "r.html", tmp_path / "r.md"
    assert report(str(folder), "--html", str(page), "--markdown", str(text)) == 0
    told = page.read_text()
    assert "The input has no accepted answers" in told
    assert "Changed" in told
    assert "Rescued" not in told
    assert "one right answer" not in text.read_text()


@pytest.mark.parametrize(("mode", "other"), [("small", "large"), ("large", "small")])
def test_one_model_alone_can_be_reported(tmp_path: Path, mode: str, other: str) -> None:
    some = [
        {k: v for k, v in one.items() if not k.startswith((f"{other}_", "exit_score"))}
        for one in rows(150)
        if one["route"] == mode
    ]
    page, data = tmp_path / "r.html", tmp_path / "r.json"
    folder = str(write_output(tmp_path / "out", some, mode=mode))
    assert report(folder, "--html", str(page), "--json", str(data)) == 0
    (run,) = json.loads(data.read_text())["runs"]
    assert run["points"] == []
    assert run["histogram"] is None
    assert run["latency"].keys() & {"small", "large"} == {mode}
    assert len(run["slowest"]) == 10
    assert "Another threshold" not in page.read_text()


def test_two_runs_are_compared(tmp_path: Path) -> None:
    first = write_output(tmp_path / "first", rows(200))
    other = write_output(tmp_path / "other", [one | {"answer": "right"} for one in rows(200)])
    page, data, text = (tmp_path / f"r.{end}" for end in ("html", "json", "md"))
    forms = ["--html", str(page), "--json", str(data), "--markdown", str(text)]
    assert report(str(first), str(other), *forms) == 0
    comparison = json.loads(data.read_text())["comparison"]
    assert comparison["names"] == ["first", "other"]
    by = next(line for line in comparison["lines"] if line["name"] == "quality")
    assert by["cells"][1]["direction"] == "good"
    assert by["cells"][1]["difference"] in page.read_text()
    assert "## first / other" in text.read_text()


def test_without_a_name_the_page_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_output(tmp_path / "out", rows(20))
    monkeypatch.chdir(tmp_path)
    assert report(str(folder)) == 0
    assert capsys.readouterr().out.strip() == "out-report.html"
    assert (tmp_path / "out-report.html").exists()
    assert report(str(tmp_path / "nothing")) == 2


def with_input(folder: Path, some: list[dict[str, Any]], **job: Any) -> Path:
    """An output whose input is still there: a file with a picture per record."""
    pictures = [png(n % 250, 64, 96) for n in range(len(some))]
    columns = {"id": [one["id"] for one in some], "image": pictures, "question": ["?"] * len(some)}
    folder.mkdir()
    path = folder / "in.parquet"
    pq.write_table(pa.table(columns), path)
    small = {"path": str(model_path("small")), "batch_size": 8}
    large = {"path": str(model_path("large")), "batch_size": 4}
    settings = {
        "input": {"path": str(path)},
        "output": {"path": str(folder / "out")},
        "models": {"small": small, "large": large},
    }
    return write_output(folder / "out", some, **settings, **job)


def test_the_gallery_shows_pictures_of_an_input_that_is_there(tmp_path: Path) -> None:
    folder = with_input(tmp_path / "job", rows(80))
    page = tmp_path / "r.html"
    assert report(str(folder), "--html", str(page), "--gallery", "2") == 0
    images = images_in(page)
    assert len(images) == 8
    assert all((one["src"] or "").startswith("data:image/jpeg;base64,") for one in images)
    assert "no importance maps" in page.read_text().lower()


def drawn_over(tmp_path: Path, some: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Visual tokens of each picture, and the captions of a gallery whose run wrote rankings."""
    folder = with_input(tmp_path / "job", some)
    from sgl.loading import load_encoder

    (layout,) = load_encoder(model_path("small")).family.layouts([(64, 96)])
    tokens = sum(grid.rows * grid.columns for grid in layout.grids)
    ranking = np.linspace(0, 1, tokens).astype(np.float16)
    for path in (folder / "rows").glob("*.parquet"):
        table = pq.read_table(path)
        column = pa.array([ranking] * table.num_rows, IMPORTANCE.type)
        table = table.set_column(
            table.column_names.index("visual_tokens"),
            "visual_tokens",
            pa.array([tokens] * table.num_rows, pa.int32()),
        )
        pq.write_table(table.append_column(IMPORTANCE, column), path)
    page = tmp_path / "r.html"
    assert report(str(folder), "--html", str(page), "--gallery", "1") == 0
    return tokens, re.findall(r"<figcaption>(.*?)</figcaption>", page.read_text())


def test_where_the_run_wrote_them_importance_and_kept_tokens_are_drawn(tmp_path: Path) -> None:
    tokens, captions = drawn_over(tmp_path, rows(80))
    assert captions.count("importance to the small model") == 4
    assert captions.count(f"kept by the large model: 16 of {tokens} visual tokens") == 3


def test_what_another_pruner_kept_is_not_drawn_by_the_small_models_ranking(tmp_path: Path) -> None:
    _, captions = drawn_over(tmp_path, [one | {"pruner": "fastv"} for one in rows(80)])
    assert captions.count("importance to the small model") == 4
    assert not [told for told in captions if told.startswith("kept by the large model")]


def test_an_input_that_is_gone_is_said(tmp_path: Path) -> None:
    folder = with_input(tmp_path / "job", rows(40))
    (tmp_path / "job" / "in.parquet").unlink()
    page = tmp_path / "r.html"
    assert report(str(folder), "--html", str(page)) == 0
    assert "No pictures: the input is gone" in page.read_text()
    assert not images_in(page)


def test_other_pictures_stay_when_one_is_gone(tmp_path: Path) -> None:
    folder = with_input(tmp_path / "job", rows(40))
    path = tmp_path / "job" / "in.parquet"
    table = pq.read_table(path)
    files = []
    for number, data in enumerate(table["image"].to_pylist()):
        file = tmp_path / "job" / f"{number}.png"
        if number % 2:
            file.write_bytes(data)
        files.append(file.name)
    pq.write_table(table.set_column(1, "image", pa.array(files)), path)
    page = tmp_path / "r.html"
    assert report(str(folder), "--html", str(page), "--gallery", "4") == 0
    assert re.search(r"\d+ pictures are gone", page.read_text())
    assert images_in(page)


def test_a_gallery_of_none_has_no_pictures(tmp_path: Path) -> None:
    folder = with_input(tmp_path / "job", rows(40))
    page = tmp_path / "r.html"
    assert report(str(folder), "--html", str(page), "--gallery", "0") == 0
    assert not images_in(page)
