"""Figures that cannot be drawn are refused before anything is read or run, in the same words."""

import sys
from pathlib import Path

import pytest

from jobs.cli import main
from jobs.study import StudyConfig, show_study
from sgl.errors import ConfigurationError
from tests.jobs.test_study import job_in


@pytest.fixture(autouse=True)
def _without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.mark.parametrize("comparison", ["--criteria", "--frontier"])
def test_comparisons_of_an_output(
    comparison: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is none here, which would be said if it were looked for."""
    assert main(["evaluate", str(tmp_path / "out"), comparison, "--figures", "x"]) == 2
    assert "install the extra 'evaluate'" in capsys.readouterr().err


def test_a_study_of_pruners(tmp_path: Path) -> None:
    job, config = job_in(tmp_path), StudyConfig(pruners=("random",))
    with pytest.raises(ConfigurationError, match="install the extra 'evaluate'"):
        show_study(job, config, figures=str(tmp_path / "f"), as_json=False)
    assert not (tmp_path / "study").exists()
