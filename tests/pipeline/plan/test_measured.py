"""What is read off an output is what its rows say."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.plan.measured import measured, of_output
from sgl.errors import ConfigurationError
from tests.pipeline.outputs import output_at
from tests.pipeline.plan.jobs import sample
from tests.pipeline.report.made import failed, rows, write_output


def test_a_sample_has_every_row_and_second_of_its_output(tmp_path: Path) -> None:
    some = rows(300)
    output = write_output(tmp_path / "out", [*some, failed(1)], threshold=0.73)
    found = of_output(output_at(str(output)))
    escalated = [row for row in some if row["route"] == "large"]
    assert found.large is not None
    assert (found.records, found.escalated) == (300, len(escalated))
    assert found.threshold == 0.73
    for pool, role, those in ((found.small, "small", some), (found.large, "large", escalated)):
        assert sum(pool.rows) == pytest.approx(len(those))
        spent = sum(row[f"{role}_gpu_s"] for row in those)
        assert sum(pool.seconds) * pool.devices == pytest.approx(spent)
        assert sum(pool.passes) == pytest.approx(sum(1 / r[f"{role}_batch_rows"] for r in those))


def test_a_file_of_a_sample_is_the_sample(tmp_path: Path) -> None:
    path = tmp_path / "sample.json"
    path.write_text(sample().model_dump_json())
    assert measured(str(path)) == sample()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no JSON"),
        ('{"sorce": "x"}', "sorce: there is no such setting; did you mean source"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "sample.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=says) as refused:
        measured(str(path))
    assert "\n" not in str(refused.value)


def test_an_output_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no runs"):
        measured(str(tmp_path))


def test_the_largest_run_counts(tmp_path: Path) -> None:
    """A later one may have done a few failed records again."""
    some = rows(300)
    again = [row | {"run_id": "later", "id": f"again-{row['id']}"} for row in rows(5)]
    path = write_output(tmp_path / "out", [*some, *again])
    runs = tmp_path / "out" / "runs"
    first = next(iter(runs.glob("*.json")))
    told = json.loads(first.read_text()) | {"run_id": "later", "started_at": 9e9}
    (runs / "later.json").write_text(json.dumps(told))
    assert of_output(output_at(str(path))).records == 300


def test_more_cannot_escalate_than_there_are() -> None:
    with pytest.raises(ValidationError, match="no more than there are records"):
        sample(escalated=601)
