"""A Ray that is started here listens beyond this machine; what asks must have its token."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

STRANGER = """
import sys
from ray._raylet import GcsClient
client = GcsClient(address=sys.argv[1])
print(len(client.get_all_node_info()), "nodes")
"""


@pytest.mark.ray
def test_who_has_no_token_is_refused(ray_cluster: str, tmp_path: Path) -> None:
    """Ray 2.60 makes the token in the home of who starts it; a stranger has another home."""
    import ray

    address = ray.get_runtime_context().gcs_address
    own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}

    def asked(**environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", STRANGER, address]
        return subprocess.run(
            command, env=own | environment, capture_output=True, text=True, timeout=120, check=False
        )

    token = Path.home() / ".ray" / "auth_token"
    known = asked(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))
    assert known.stdout == "1 nodes\n"
    stranger = asked(HOME=str(tmp_path))
    assert stranger.returncode != 0
    assert "nodes" not in stranger.stdout
    assert "AuthenticationError" in stranger.stderr
    guessing = asked(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64)
    assert guessing.returncode != 0
    assert "AuthenticationError" in guessing.stderr
