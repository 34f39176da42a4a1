"""`sgl evaluate --criteria`, on rows made by hand and on the testbed's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import criteria_figure
from jobs.cli import main
from sgl.types import Criterion
from testbed.generate import write_parquet
from tests.pipeline.test_criteria import SURE, TYPES, sure
from tests.pipeline.test_scoring import large, make_output

PAGES, PER_PAGE = 20, 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Confidence tells right answers from wrong ones, entropy tells them backwards."""
    rows = []
    for number in range(PAGES * PER_PAGE):
        right = number % 3 != 0
        row = large(f"r{number}", "cat", "cat" if right else "dog", page=number // PER_PAGE)
        score = 0.6 + 0.3 * number / 100 if right else 0.1 + 0.3 * number / 100
        rows.append(sure(row, confidence=score, entropy=1 - score, consistency=None))
    return make_output(tmp_path / "out", rows, types=TYPES)


def compared(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["evaluate", str(folder), "--criteria", "--json", *options]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_programs_get_every_figure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = compared(folder, capsys, "--cluster", "page")
    assert (result["records"], result["used"], result["cluster"]) == (60, ["mean"], "page")
    assert result["small"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert (result["large"]["value"], result["large_pruned"]) == (1.0, False)
    assert result["left_out"] == {"mean": 60, "consistency": 60}
    aurocs = {name: one["auroc"]["value"] for name, one in result["criteria"].items()}
    assert next(iter(aurocs)) == "confidence"
    assert list(aurocs)[-1] == "entropy"
    assert (aurocs["confidence"], aurocs["entropy"], aurocs["margin"]) == (1.0, 0.0, 0.5)
    margin = result["criteria"]["margin"]
    assert margin["exits_area"]["value"] == pytest.approx(2 / 3, abs=1e-4)
    assert margin["cascade_area"]["value"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-4)
    assert margin["calibration_error"]["value"] == pytest.approx(0.7 - 2 / 3, abs=1e-4)
    best = result["criteria"]["confidence"]
    assert best["cascade_area"]["low"] > margin["cascade_area"]["high"]
    assert sum(one["records"] for one in best["reliability"]) == 60
    assert best["curve"][-1]["accuracy_of_exits"] == pytest.approx(2 / 3, abs=1e-4)


def test_people_get_a_table_and_what_it_does_not_tell(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["evaluate", str(folder), "--criteria"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "criterion AUROC accuracy of exits accuracy of cascade calibration error" in text
    assert "confidence 1.000 [1.000, 1.000]" in text
    assert "exit scores of this run: mean" in text
    assert "left out: consistency, which 60 records do not have" in text
    assert "for these: sgl run --set guidance.all_criteria=true" in text
    assert "every record by itself; reference: answers" in text


def test_answers_that_are_all_right_have_no_auroc(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        sure({"id": name, "route": "small", "answer": "cat", "small_answer": "cat"})
        for name in "ab"
    ]
    out = make_output(tmp_path / "out", rows, types=TYPES)
    result = compared(out, capsys)
    assert {one["auroc"] for one in result["criteria"].values()} == {None}
    assert {one["cascade_area"] for one in result["criteria"].values()} == {None}
    assert main(["evaluate", str(out), "--criteria"]) == 0
    assert "AUROC" not in capsys.readouterr().out


def test_figures_are_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = compared(folder, capsys, "--figures", str(tmp_path / "new" / "figures"))
    written = tmp_path / "new" / "figures"
    assert json.loads((written / "criteria.json").read_text()) == result
    pixels = np.asarray(Image.open(written / "criteria.png").convert("RGB"))
    for name in result["criteria"]:
        colour = criteria_figure._COLOURS[Criterion(name)]
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels.astype(int) - wanted).max(axis=2) <= 2).sum() > 20, name


def test_figures_need_a_comparison(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder), "--figures", "x"]) == 2
    assert "write --pruners, --criteria or --frontier" in capsys.readouterr().err


def test_groups_are_for_measures_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["evaluate", str(folder), "--criteria", "--json", "--by", "kind"]
    assert main(asked) == 2
    assert "--by kind: --criteria takes all records together" in capsys.readouterr().err
    assert main([*asked, "--metric", "nosuch=anls"]) == 2
    assert "no scored record has 'nosuch' in column 'kind'" in capsys.readouterr().err
    assert main([*asked, "--metric", "by_kind"]) == 0


def test_criteria_of_an_output_before_there_were_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [sure(large(name, "cat", "cat" if name == "a" else "x")) for name in "ab"]
    unknown = {name: None for name in SURE if name not in ("confidence", "consistency")}
    result = compared(
        make_output(tmp_path / "out", [row | unknown for row in rows], types=TYPES), capsys
    )
    assert result["criteria"].keys() == {"mean", "confidence", "consistency", "random"}


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_from_the_testbeds_records_to_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parquet("validation", 24, tmp_path / "in.parquet")
    settings = ["--small", "testbed", "--large", "testbed", "--threshold", "0.9"]
    job = ["run", "--input", str(tmp_path / "in.parquet"), *settings, "--criterion", "confidence"]
    assert main([*job, "--output", str(tmp_path / "short")]) == 0
    every = ["--set", "guidance.all_criteria=true"]
    assert main([*job, "--output", str(tmp_path / "every"), *every]) == 0
    capsys.readouterr()
    tables = {}
    for name in ("short", "every"):
        files = sorted((tmp_path / name / "rows").glob("*.parquet"))
        rows = [row for file in files for row in pq.read_table(file).to_pylist()]
        tables[name] = {row["id"]: row for row in rows}
    assert len(tables["short"]) == len(tables["every"]) == 24
    for name, row in tables["short"].items():
        other = tables["every"][name]
        assert (row["criterion"], row["consistency"]) == ("confidence", None)
        assert row["exit_score"] == row["confidence"]
        assert (row["route"] == "small") == (row["confidence"] >= 0.9)
        assert row["answer"] == other["answer"]
        assert 0 < other["consistency"] <= 1
        assert row["small_flops"] < other["small_flops"]
    result = compared(tmp_path / "every", capsys, "--cluster", "page")
    assert result["criteria"].keys() == {one.value for one in Criterion}
    assert result["used"] == ["confidence"]
    areas = {name: one["exits_area"]["value"] for name, one in result["criteria"].items()}
    for name, one in result["criteria"].items():
        gained = areas[name] - areas["mean"]
        assert (one["lead"] or {"value": 0})["value"] == pytest.approx(gained, abs=2e-4)
    assert compared(tmp_path / "short", capsys)["left_out"] == {"mean": 24, "consistency": 24}
