"""`sgl serve` before and after its endpoint."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayActorError

from jobs import serve
from jobs.serve import add_arguments, config_of
from sgl.errors import ConfigurationError
from testbed import model_path

ROOT = Path(__file__).parents[2]


def config(*options: str) -> Any:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return config_of(parser.parse_args(options))


def test_the_testbed_is_found_beside_a_folder_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "testbed").mkdir()
    for folder in (ROOT, tmp_path):
        monkeypatch.chdir(folder)
        models = config().models
        assert models.small.path == str(model_path("small"))
        assert models.large.path == str(model_path("large"))


def test_a_default_that_requests_may_not_ask_for_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"limits\.max_new_tokens"):
        config("--set", "limits.max_new_tokens=8")


class Ingress:
    """A handle whose processes say what is written for them."""

    def __init__(self, *said: Any) -> None:
        self.said = list(said)

    def broadcast(self, method: str) -> "Ingress":
        assert method == "drain"
        return self

    def results(self, timeout_s: float) -> list[int]:
        said = self.said.pop(0)
        if isinstance(said, Exception):
            raise said
        assert isinstance(said, list)
        return said


def test_a_dead_process_does_not_keep_the_others_from_their_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ingress = Ingress(RayActorError(), TimeoutError(), [2, 1], [0, 1], [0, 0])
    monkeypatch.setattr("ray.serve.get_app_handle", lambda _: ingress)
    serve._drain(30)
    assert not ingress.said


def test_it_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ray.serve.get_app_handle", lambda _: Ingress(*[[1]] * 99))
    serve._drain(0.5)
    assert "not finished" in capsys.readouterr().err


CODE = """
import logging
from jobs.serve import _json_lines, _say
with _json_lines("run-7"):
    _say("it runs")
    print("(raylet) a worker died")
    logging.getLogger("any").warning("careful")
"""


def test_all_lines_are_json_where_json_is_asked_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in (done.stderr + done.stdout).splitlines()]
    told = [line["message"] for line in lines]
    assert told == ["sgl: it runs", "careful", "(raylet) a worker died"]
    assert {line["run_id"] for line in lines} == {"run-7"}
