"""Who can be killed: the worker processes of some raylets, told by the titles that Ray gives."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_STAGES = {"small": "SmallStage", "large": "LargeStage"}


@dataclass(frozen=True)
class Worker:
    """One process that a raylet has started.

    Attributes:
        pid: of the process.
        raylet: its parent.
        title: as in ray::MapWorker(MapBatches(SmallStage)).__init__
    """

    pid: int
    raylet: int
    title: str

    @property
    def role(self) -> str | None:
        """Whose replica it is; None for every other worker."""
        return next((role for role, name in _STAGES.items() if f"({name})" in self.title), None)

    @property
    def loading(self) -> bool:
        """Whether a replica is still in its constructor."""
        return self.title.endswith(".__init__")

    @property
    def writes(self) -> bool:
        """Whether a write task runs in it."""
        return self.title.startswith("ray::Write")


def workers(raylets: Collection[int]) -> list[Worker]:
    """All living workers of some raylets, by pid."""
    folders = (folder for folder in Path("/proc").iterdir() if folder.name.isdigit())
    found = [worker for folder in folders if (worker := _worker(folder, raylets))]
    return sorted(found, key=lambda worker: worker.pid)


def replicas(raylets: Collection[int], role: str, *, loading: bool) -> list[Worker]:
    """The replicas of a stage that are loading, or that have loaded."""
    return [one for one in workers(raylets) if one.role == role and one.loading == loading]


def _worker(folder: Path, raylets: Collection[int]) -> Worker | None:
    try:
        # The name in the second field may itself hold spaces and brackets.
        state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return None
    if state == "Z" or int(parent) not in raylets or not title.startswith("ray::"):
        return None
    return Worker(int(folder.name), int(parent), title)
