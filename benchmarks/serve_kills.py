"""An endpoint whose replicas are killed while they work."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.endpoint import Endpoint, wait_for, write_bodies
from benchmarks.load import Loader, outcomes
from benchmarks.load_plan import Plan
from testbed.records import Record

Row = dict[str, Any]

SETTINGS = ("pools.small.replicas=2", "listen.replicas=2")
"""Two of what clients need at any time; one of the large pool."""
VICTIMS = {"small": 2, "large": 1, "ingress": 2}
RETRIES = 2
"""As the official client does by default."""
_BACK_S = 90
_SETTLED_S = 4.0


def kill(
    one: Endpoint,
    victim: str,
    loader: Loader,
    records: Sequence[Record],
    folder: Path,
    *,
    per_s: float,
    seconds: float,
) -> Row:
    """Open loop; after a third of the time one replica gets SIGKILL.

    Args:
        one: with SETTINGS.
        victim: deployment.
        loader: of the load.
        records: to ask.
        folder: for the bodies.
        per_s: requests.
        seconds: of load.
    """
    killed: list[float] = []

    def strike() -> None:
        os.kill(one.replicas(victim)[0], signal.SIGKILL)
        killed.append(time.time())

    path = write_bodies(records, "pair", folder, stream=False)
    blow = threading.Timer(seconds / 3, strike)
    blow.start()
    watch = _Watch(one, victim, killed)
    watch.start()
    samples = loader.run(Plan(one.url, path, seconds, per_s=per_s, retries=RETRIES))
    blow.join()
    watch.join()
    hurt = [sample.at for sample in samples if sample.statuses[0] != 200]
    return {
        "part": "kill",
        "victim": victim,
        "of": VICTIMS[victim],
        "per_s": per_s,
        **outcomes(samples),
        "first_statuses": sorted({sample.statuses[0] for sample in samples}),
        "last_failure_s": max(hurt) - killed[0] if hurt else None,
        "back_s": watch.back_s,
    }


class _Watch(threading.Thread):
    """Sees when a killed replica has another in its place."""

    def __init__(self, one: Endpoint, victim: str, killed: Sequence[float]) -> None:
        super().__init__(name="watch", daemon=True)
        self._one, self._victim, self._killed = one, victim, killed
        self.back_s: float | None = None
        self._whole_since = float("inf")

    def run(self) -> None:
        """See Thread."""
        wait_for(lambda: bool(self._killed), _BACK_S)
        # It takes Ray Serve a moment to notice.
        wait_for(lambda: self._missing() > 0, _BACK_S)
        wait_for(self._whole, _BACK_S)
        self.back_s = self._whole_since - self._killed[0]

    def _whole(self) -> bool:
        """Whether nothing is missing, and has not been for a while.

        Each ingress has a picture of its own, a second old or two, and any of them is asked.
        """
        if self._missing():
            self._whole_since = float("inf")
        else:
            self._whole_since = min(self._whole_since, time.time())
        return time.time() - self._whole_since > _SETTLED_S

    def _missing(self) -> int:
        """Replicas of the pool that do not run, as Ray Serve has it; processes of the ingress."""
        wanted = VICTIMS[self._victim]
        if self._victim == "ingress":
            return wanted - len(self._one.replicas("ingress"))
        try:
            pool = self._one.json("/ready")["pools"][self._victim]
        except OSError:
            return 1
        return wanted - int(pool["replicas"])
