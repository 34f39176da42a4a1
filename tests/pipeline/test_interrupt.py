import os
import signal
import subprocess
import sys

import pytest

WAITS = """import os, signal, time
from pipeline.interrupt import hear_stops
hear_stops()
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.2)
print("not heard")"""


@pytest.mark.parametrize(
    ("variables", "heard"), [({"RAY_JOB_STOP_SIGNAL": "SIGINT"}, True), ({}, False)]
)
def test_a_submitted_job_hears_its_stop_whoever_started_the_cluster(
    variables: dict[str, str], heard: bool
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = subprocess.run(
            [sys.executable, "-c", WAITS],
            env=os.environ | variables,
            capture_output=True,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert ("KeyboardInterrupt" in done.stderr) == heard
    assert ("not heard" in done.stdout) != heard
