"""`sgl evaluate OUTPUT --pruners`: a study of the testbed's pair, and what is refused."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.cli import main
from jobs.json_text import json_text
from jobs.pruners_figure import draw_pruners
from jobs.settings import checked
from jobs.study import (
    StudyConfig,
    plain,
    pruners_named,
    remarks,
    run_study,
    show_study,
    study_table,
)
from pipeline.config import JobConfig
from sgl.pruners import PRUNERS
from testbed.generate import write_parquet
from tests.pipeline.test_study import row as row_of
from tests.pipeline.test_study import studied

COUNT = 6


def text_of(what: Any) -> str:
    screen = Console(file=io.StringIO(), width=200)
    screen.print(what)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def job_in(folder: Path) -> JobConfig:
    source = folder / "records.parquet"
    write_parquet("heldout", 3 * COUNT, source)
    model = {"path": "testbed", "batch_size": COUNT}
    return checked(
        {
            "input": {"path": str(source)},
            "output": {"path": str(folder / "study")},
            "models": {"small": model, "large": model},
            "threshold": 1.0,
        }
    )


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_all_pruners_on_the_testbed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = job_in(tmp_path)
    config = StudyConfig(
        pruners=pruners_named("all"), records=COUNT, metric="exact_match", cluster="page"
    )
    found, impossible = run_study(job, config, Console(file=io.StringIO()))
    assert impossible == ()
    assert (found.records, found.labelled, len(found.lines)) == (COUNT, True, 3 * len(PRUNERS))
    table = text_of(study_table(found))
    assert all(table.count(f"{name} ") >= 3 for name in PRUNERS)
    assert f"{COUNT} records, scored against accepted answers" in remarks(found, ())[-1]

    # The law: whatever the pruner, the rows have the average retention that was asked for.
    rows = pq.read_table(Path(job.output.path) / "rows").to_pylist()
    assert len(rows) == COUNT
    for row in rows:
        assert (row["pruner"], row["average_retention"]) == ("guided", 1.0)
        for cell, line in zip(row["probe"], found.lines, strict=True):
            assert cell["error"] is None
            assert cell["pruner"] == line.pruning.pruner
            assert abs(cell["average_retention"] - line.asked) < 0.01
    own, guided = (
        np.mean([line.flops for line in found.lines if line.pruning.pruner == name])
        for name in ("own", "guided")
    )
    assert own > 1 > guided
    assert {line.pruning.pruner for line in found.lines if line.flops_with_small} == {"guided"}

    # The same command asks no model again.
    before = sorted((Path(job.output.path) / "rows").iterdir())
    show_study(job, config, figures=str(tmp_path / "figures"), as_json=True)
    assert sorted((Path(job.output.path) / "rows").iterdir()) == before
    said = capsys.readouterr().out
    # Ray may warn of a busy machine before it.
    told = json.loads(said[said.index("{\n") :])
    assert told == json.loads((tmp_path / "figures" / "pruners.json").read_text())
    assert told == json.loads(json.dumps(plain(found, impossible)))
    assert (tmp_path / "figures" / "pruners.png").stat().st_size > 10_000


@pytest.mark.filterwarnings("error")
def test_what_has_no_value_is_null(tmp_path: Path) -> None:
    """The unpruned model is never right, and one way failed on all records."""
    rows = [row_of(i, None, "yes", answers=["maybe"]) for i in range(6)]
    found = studied(tmp_path, rows)
    guided, random = json.loads(json_text(plain(found, ())))["pruned"]
    assert (guided["average_retention"], guided["flops_share"]) == (None, None)
    assert (guided["share_of_unpruned"], random["share_of_unpruned"]) == (None, None)
    assert (random["average_retention"], random["flops_share"]) == (0.6875, 0.6)
    assert "nan" not in text_of(study_table(found))
    draw_pruners(plain(found, ()), tmp_path / "pruners.png")


def test_an_interval_without_width_is_told_with_what_it_leaves_open(tmp_path: Path) -> None:
    same = [row_of(i, "yes", "yes") for i in range(20)]
    (line,) = (one for one in remarks(studied(tmp_path / "a", same), ()) if "width" in one)
    assert "not one of 20 records differs" in line
    assert "that 13.9% of all records have" in line
    (line,) = (one for one in remarks(studied(tmp_path / "b", same, "page"), ()) if "width" in one)
    assert "not one of 2 images differs" in line
    some = [row_of(i, "yes" if i % 3 else "no", "yes" if i % 2 else "no") for i in range(20)]
    assert not any("width" in one for one in remarks(studied(tmp_path / "c", some), ()))


def test_pruners_are_named_and_random_is_always_there() -> None:
    assert set(pruners_named("all")) == set(PRUNERS)
    assert pruners_named("guided, fastv") == ("guided", "fastv", "random")
    assert pruners_named("random,own") == ("random", "own")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--pruners", "fast"), "there is no pruner 'fast'; there are guided, own, fastv"),
        (("--pruners", "all", "--by", "kind"), "--by: is not looked at in a study"),
        (("--pruners", "all", "--metric", "anls", "--metric", "yes_no"), "a study has one"),
        (("--records", "5"), "--records: needs --pruners"),
        (("--set", "threshold=1"), "--set: needs --pruners"),
        (("--pruners", "all", "--input", "in.parquet"), "models.small"),
        (("--pruners", "all", "--records", "0"), "records"),
    ],
)
def test_mistakes_end_with_one_line(
    arguments: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path / "out"), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_figure_is_the_same_at_each_drawing(tmp_path: Path) -> None:
    def line(name: str, retention: float) -> dict[str, Any]:
        share = {"value": retention, "low": retention - 0.1, "high": retention + 0.1}
        flops = {"flops_share": retention + 0.05, "flops_share_with_small": None}
        return {"pruner": name, "average_retention": retention, "share_of_unpruned": share} | flops

    lines = [line(name, at) for name in ("guided", "random") for at in (0.09, 0.35, 0.64)]
    data = {"records": 10, "metric": "anls", "unpruned": {"value": 0.9}, "pruned": lines}
    pictures = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for path in pictures[:2]:
        draw_pruners(data, path)
    draw_pruners(data | {"pruned": lines[:3]}, pictures[2])
    first, second, other = (path.read_bytes() for path in pictures)
    assert first == second != other
