import json
from pathlib import Path

import pyarrow as pa
import pytest

from jobs.cli import main
from jobs.evaluate import wanted_of
from pipeline.scores import Wanted
from sgl.errors import ConfigurationError
from sgl.statistics import wilson
from tests.pipeline.test_scoring import ANSWERS, failed, large, make_output, small


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        small("a", "Yes", answers=["yes"], kind="exist"),
        large("b", "no", "yes", answers=["no"], kind="exist"),
        large("c", "red", "blue", answers=["red"], kind="colour"),
        failed("d", answers=["red"], kind="colour"),
    ]
    return make_output(tmp_path, rows, types={"answers": ANSWERS, "kind": pa.string()})


def test_the_table_tells_scores_with_intervals(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["evaluate", str(folder), "--by", "kind", "--metric", "exist=yes_no"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    estimate = wilson(3, 4)
    assert f"all several 4 75.0% [{estimate.low:.1%}, {estimate.high:.1%}] 25.0% [" in text
    assert "by the large model several 2 100.0%" in text
    assert "kind colour exact_match 2 50.0%" in text
    assert "kind exist yes_no 2 100.0%" in text
    assert "failed: 1 (25.0%) of the scored records, with score 0" in text
    assert "yes or no, exist: accuracy 1, precision 1, recall 1, f1 1, yes_share 0.5" in text


def test_programs_get_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder), "--by", "kind", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["overall"]["answer"]["value"] == 0.75
    assert (found["overall"]["records"], found["overall"]["failed"]) == (4, 1)
    assert found["routes"].keys() == {"small", "large"}
    assert found["groups"]["colour"]["small_answer"]["value"] == 0
    assert found["reference"] == "answers"


def test_bad_requests_end_with_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder), "--metric", "bleu"]) == 2
    assert capsys.readouterr().err.startswith("sgl: no metric 'bleu'; there are exact_match, ")


def test_measures_by_group() -> None:
    assert wanted_of([], None, None, None) == Wanted()
    wanted = wanted_of(["anls", "a=b=yes_no"], "kind", None, "gold")
    assert (wanted.metric_of("x"), wanted.metric_of("a=b")) == ("anls", "yes_no")
    with pytest.raises(ConfigurationError, match="needs --by"):
        wanted_of(["x=anls"], None, None, None)
    assert wanted_of(["by_kind"], "kind", None, None).metric_of("number") == "relaxed_accuracy"
    with pytest.raises(ConfigurationError, match="by_kind: needs --by"):
        wanted_of(["by_kind"], None, None, None)
    with pytest.raises(ConfigurationError, match="two for all records"):
        wanted_of(["anls", "yes_no"], None, None, None)
