"""`sgl evaluate --frontier`, from an output to tables, JSON and picture."""

import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from actors.large_vlm import GuidedQuestion
from jobs.calibrate import sample_job
from jobs.calibrate_config import CalibrationConfig, prunings_of
from jobs.cli import main
from jobs.run import run_job
from pipeline.build import Loaders
from sgl import statistics
from sgl.types import Answer, Failure, Pruning
from tests.jobs.test_calibrate import Large, Small
from tests.pipeline.fakes import Load
from tests.pipeline.inputs import job_of, records, write_parquet
from tests.pipeline.test_answered import TYPES, record
from tests.pipeline.test_scoring import make_output

COUNT = 60


class Told(Large):
    """Tells of every answer how it was pruned."""

    def _answer(self, request: GuidedQuestion, records: int) -> Answer | Failure:
        answer = super()._answer(request, records)
        assert isinstance(answer, Answer)
        way = request.pruning
        told = way and Pruning(way.prune_layer, way.keep_ratio, way.keep_ratio)
        return replace(answer, pruning=told)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few resamples."""
    monkeypatch.setattr(statistics, "RESAMPLES", 40)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pages of two records; the small model is right above a score of 0.5, pruning harms little."""
    scores = np.linspace(0, 1, COUNT)
    rows = [
        record(
            f"{place // 2:03}-{place % 2}",
            "no" if place % 20 == 7 else "yes",
            "yes" if score > 0.5 else "no",
            "yes" if place % 10 else "no",
            exit_score=float(score),
            page=f"{place // 2:03}",
        )
        for place, score in enumerate(scores)
    ]
    return make_output(tmp_path / "out", rows, types=TYPES)


def test_tables_tell_every_strategy(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    assert main(["evaluate", str(folder), "--frontier", "--cluster", "page"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for told in (
        "cost in flops",
        "cost in device_s",
        "least cost that keeps 99%",
        "quality at 40% of the cost",
        "random, pruned",
        "prune only, pruned 0.4:0.5 70% 90.0% [",
        "large only 95.0% [",
        "cascade, pruned, for 95%: threshold ",
        "chosen on one half of the images, measured on the other",
        "60 records; quality: exact_match, reference: answers",
        "images by 'page'",
    ):
        assert told in text


def test_programs_get_the_same_and_the_figure_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "new" / "figures"
    asked = ["evaluate", str(folder), "--frontier", "--json", "--figures", str(figures)]
    assert main(asked) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((figures / "frontier.json").read_text())
    assert (figures / "frontier.png").read_bytes().startswith(b"\x89PNG")
    flops = result["costs"]["flops"]
    assert flops["large only"]["points"][0]["cost"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert flops["small only"]["points"][0]["cost"]["value"] == 0.3
    way = {"pruner": "guided", "prune_layer": 0.4, "keep_ratio": 0.5}
    assert flops["prune only"]["points"][0]["pruned"] == way
    keeps = {one["kept"]: one["cost"]["value"] for one in flops["cascade, pruned"]["least"]}
    assert 0.3 < keeps[0.95] < 0.75
    assert result["clusters"] == COUNT
    assert result["recovered"]["value"] > 0.8


def test_a_way_that_always_failed_has_no_retention(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [record(f"a{place:02}", "yes", "no", "yes", None) for place in range(10)]
    output = make_output(tmp_path, rows, types=TYPES)
    assert main(["evaluate", str(output), "--frontier", "--json"]) == 0
    text = capsys.readouterr().out
    assert "NaN" not in text
    ways = json.loads(text)["ways"]
    assert [one["average_retention"] for one in ways] == [1.0, 0.7, None]
    assert main(["evaluate", str(output), "--frontier"]) == 0
    assert "nan" not in capsys.readouterr().out


def test_ways_that_differ_only_in_their_pruner_have_names_and_costs_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A study's output: the same layer and keep ratio, guided and at random."""
    monkeypatch.setenv("COLUMNS", "220")
    rows = [record(f"a{place:02}", "yes", "no", "yes", "no") for place in range(10)]
    for row in rows:
        guided, other = row["probe"]
        other |= {**guided, "answer": "no", "pruner": "random"}
    output = make_output(tmp_path / "study", rows, types=TYPES)
    assert main(["evaluate", str(output), "--frontier", "--figures", str(tmp_path)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "prune only, pruned 0.4:0.5 70% 100.0%" in text
    assert "prune only, random 0.4:0.5 70% 0.0%" in text
    result = json.loads((tmp_path / "frontier.json").read_text())
    points = result["costs"]["flops"]["prune only"]["points"]
    costs = {one["pruned"]["pruner"]: one["cost"]["value"] for one in points}
    assert costs == {"guided": 0.9, "random": 0.6}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--figures", "x"],
            "--figures: draws a comparison; write --pruners, --criteria or --frontier",
        ),
        (["--frontier", "--by", "kind"], "--by: not with --frontier"),
        (["--frontier", "--reference", "gold"], "--reference: not with --frontier"),
        (["--frontier", "--metric", "anls", "--metric", "yes_no"], "--metric: one only"),
        (["--frontier", "--metric", "bleu"], "no metric 'bleu'"),
    ],
)
def test_what_does_not_go_together_ends_with_one_line(
    folder: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(folder), *options]) == 2
    assert capsys.readouterr().err.startswith(f"sgl: {told}")


def test_ways_to_prune_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    found = prunings_of(["0.4:0.46", "0.1:0.2", "0.4:0.46"])
    assert found is not None
    assert [(one.prune_layer, one.keep_ratio) for one in found] == [(0.4, 0.46), (0.1, 0.2)]
    assert prunings_of([]) is None
    for text, told in (("x", "prune_layer"), ("0.4", "keep_ratio"), ("0.4:2", "keep_ratio")):
        asked = ["calibrate", "--agreement", "0.9", "--plan", "--pruning", text]
        assert main(asked) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"sgl: --pruning {text}: {told}: ")
        assert "write LAYER:KEEP" in error


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_from_a_dataset_to_its_frontier(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    log.mkdir()
    source = write_parquet(tmp_path / "in.parquet", records(120, answers=[["yes"]] * 120))
    prunings = prunings_of(["0.4:0.5", "0.4:0.05"])
    assert prunings is not None
    config = CalibrationConfig(records=100, agreement=0.9, prunings=prunings)
    job = job_of(source, tmp_path / "out", rows_per_block=32)
    job = sample_job(job, config.records, prunings)
    run = partial(run_job, loaders=Loaders(Load(Small, log), Load(Told, log)))  # type: ignore[arg-type]
    run(job, Console(file=io.StringIO()))
    assert main(["evaluate", str(tmp_path / "out"), "--frontier", "--json"]) == 0
    told = capsys.readouterr().out
    # Ray may still print what its workers said.
    result, _ = json.JSONDecoder().raw_decode(told[told.index("{\n") :])
    assert (result["records"], result["reference"]) == (100, "answers")
    ways = result["costs"]["flops"]["prune only"]["points"]
    assert {one["pruned"]["keep_ratio"]: one["quality"]["value"] for one in ways}[0.5] >= 0.97
