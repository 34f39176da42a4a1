"""Options of `sgl serve`."""

import argparse
from pathlib import Path

import pytest

from jobs.serve import add_arguments, config_of
from testbed import model_path


def options(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_the_testbed_is_meant_also_where_a_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the root of the repository."""
    (tmp_path / "testbed").mkdir()
    monkeypatch.chdir(tmp_path)
    assert config_of(options()).models.small.path == str(model_path("small"))


def test_a_folder_of_a_model_is_found_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert config_of(options("--large", "mine")).models.large.path == str(tmp_path / "mine")
