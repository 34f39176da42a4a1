"""The kernels, compiled to machine code for GPUs that need not be there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton, of the dev extra, is published for Linux only")

ROOT = Path(__file__).parents[2]
SHARED_BYTES_OF_EVERY_GPU = 99 << 10
"""What one program may take where there is least of it, from compute capability 8.0 on."""


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_it_compiles_for_gpus(capability: int, tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        (sys.executable, "-m", "tests.compile_kernels", str(capability)),
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    kernels = json.loads(done.stdout)
    names = {"_log_normalisers", "_sum_columns", "_attend_span", "_join_spans"}
    assert {one["kernel"] for one in kernels} == names
    assert max(one["shared_bytes"] for one in kernels) <= SHARED_BYTES_OF_EVERY_GPU
