"""What Ray does with its surroundings, in an interpreter without the session's Ray."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.cluster import cluster
from pipeline.ray_config import RayConfig

ROOT = Path(__file__).parents[2]

CODE = """
import ray
from jobs.cluster import cluster
from pipeline.ray_config import RayConfig

with cluster(RayConfig(num_cpus=3)):
    print("cores", ray.cluster_resources()["CPU"])
"""


@pytest.mark.ray
def test_without_an_address_a_local_one_starts_beside_any_other(ray_cluster: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cores 3.0" in done.stdout


@pytest.mark.parametrize("address", [None, "auto"])
def test_no_dashboard_is_ever_started(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs the code of whoever reaches it."""
    asked: list[dict[str, Any]] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("jobs.cluster._prepare_local", lambda: None)
    monkeypatch.setattr("jobs.cluster.ray.is_initialized", lambda: False)
    monkeypatch.setattr("jobs.cluster.ray.init", lambda **settings: asked.append(settings))
    monkeypatch.setattr("jobs.cluster.ray.shutdown", lambda: None)
    with cluster(RayConfig(address=address)):
        pass
    assert [settings["include_dashboard"] for settings in asked] == [False]
