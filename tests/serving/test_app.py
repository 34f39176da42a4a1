"""What Ray Serve is told of the endpoint, and what an ingress process logs."""

import asyncio
import json
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from serving import app as serving_app
from serving.app import Given, Ingress, build
from serving.config import ServeConfig
from serving.surroundings import Prices
from sgl.errors import ConfigurationError
from tests.serving.fakes import config_of

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, Any] = {
    "models": {"small": {"path": "a/b"}, "large": {"path": "a/c"}},
    "threshold": 0.9,
}


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[ServeConfig]:
    found: list[ServeConfig] = []
    monkeypatch.setattr(serving_app.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(serving_app, "application", found.append)
    return found


def test_settings_stand_in_a_file_or_in_the_arguments(
    built: list[ServeConfig], tmp_path: Path
) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(yaml.safe_dump(SETTINGS))
    build({"config": str(file)})
    build({"settings": SETTINGS})
    assert built[0] == built[1] == ServeConfig.model_validate(SETTINGS)


@pytest.mark.parametrize(
    "wrong", [{}, {"confg": "x"}, {"config": "x", "settings": SETTINGS}, {"settings": "x"}]
)
def test_other_arguments_are_refused(built: list[ServeConfig], wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="write config"):
        build(wrong)
    with pytest.raises(ConfigurationError, match="thresold"):
        build({"settings": SETTINGS | {"thresold": 1}})


def test_a_proxy_keeps_only_so_many_requests() -> None:
    config = config_of(limits={"max_in_flight": 7})
    ingress = serving_app._ingress(config)
    assert ingress.max_queued_requests == 7
    assert ingress.backpressure_config.retry_after_s == 1


CODE = """
import logging
from serving.app import log_requests
log_requests("run-7")
logging.getLogger("serving.tally").info("request ended", extra={"request_id": "r1"})
logging.getLogger("httpx").info("nobody asked")
"""


def test_requests_are_told_as_json_with_the_runs_id() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (line,) = (json.loads(line) for line in done.stderr.splitlines())
    assert (line["run_id"], line["request_id"]) == ("run-7", "r1")


def test_as_text_requests_are_not_told() -> None:
    assert not logging.getLogger("serving.tally").isEnabledFor(logging.INFO)


def test_the_pools_are_those_of_the_application_whatever_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def reported(app: str) -> dict[str, Any]:
        assert app == "any"
        return {"small": {"RUNNING": 1}, "large": {"RUNNING": 1}}

    context = SimpleNamespace(app_name="any")
    monkeypatch.setattr(serving_app.serve, "get_replica_context", lambda: context)
    monkeypatch.setattr(serving_app, "reported_by_serve", reported)
    handle: Any = object()
    ingress = Ingress(Given(config_of(), Prices(), {}, "run-7"), handle, handle)
    states = asyncio.run(ingress._backend.states())
    assert {name: state.replicas for name, state in states.items()} == {"small": 1, "large": 1}
