"""What happened when: rows, escalations, batches and busy devices over the time of each run."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from pipeline.report.rows import Chunk, Flags, Floats

_FINEST_S = 0.05
_COARSEST_S = 1.0
_POINTS = 80
_ROLES = ("small", "large")


@dataclass(frozen=True)
class Series:
    """Over one run, in steps of equal length; None where nothing happened.

    Attributes:
        run_id: of the run.
        started_at: of its first forward pass; time.time().
        step_s: length of a step.
        rows: answered by the small model.
        escalation: of these, the share that was escalated.
        fill: by role: rows of a forward pass as a share of the batch size.
        busy: by role: devices at work as a share of the pool's; the probe's work is not in it.
    """

    run_id: str
    started_at: float
    step_s: float
    rows: list[int]
    escalation: list[float | None]
    fill: dict[str, list[float | None]]
    busy: dict[str, list[float | None]]


@dataclass(frozen=True)
class Pool:
    """Of one model: rows of a full batch, and devices of all replicas; None where unknown."""

    batch_size: int | None
    devices: float | None


class Track:
    """Sums over steps of equal length, wherever they begin.

    Args:
        step_s: their length.
    """

    def __init__(self, step_s: float) -> None:
        self.step_s = step_s
        self.first = 0
        self.sums = np.zeros(0)

    def add(self, at: Floats, values: Floats) -> None:
        """Add values at instants."""
        if len(at):
            steps = np.floor(at / self.step_s).astype(np.int64)
            self._cover(int(steps.min()), int(steps.max()))
            self.sums += np.bincount(steps - self.first, values, minlength=len(self.sums))

    def spread(self, start: Floats, end: Floats, values: Floats) -> None:
        """Add to the rises and falls of a rate: each value evenly from its start to its end.

        The sums of such a track are to be added up, see `rates`.
        """
        begin = np.floor(start / self.step_s)
        stop = np.maximum(np.floor(end / self.step_s), begin + 1)
        rate = values / (stop - begin)
        self.add((begin + 0.5) * self.step_s, rate)
        self.add((stop + 0.5) * self.step_s, -rate)

    def between(self, first: int, last: int) -> Floats:
        """The sums of some steps."""
        found = np.zeros(last - first + 1)
        low, high = max(first, self.first), min(last, self.first + len(self.sums) - 1)
        if low <= high and len(self.sums):
            there = self.sums[low - self.first : high - self.first + 1]
            found[low - first : high - first + 1] = there
        return found

    def _cover(self, first: int, last: int) -> None:
        if not len(self.sums):
            self.first, self.sums = first, np.zeros(last - first + 1)
            return
        # Room for as much again, so that a long run does not copy its past all the time.
        room = len(self.sums)
        before = self.first - first + room if first < self.first else 0
        after = last - (self.first + room - 1) + room if last >= self.first + room else 0
        if before or after:
            self.sums = np.concatenate([np.zeros(before), self.sums, np.zeros(after)])
            self.first -= before


_TRACKS = (
    *("rows", "escalated"),
    *(f"{role}_{what}" for role in _ROLES for what in ("batches", "batched", "rates")),
)


class Timeline:
    """Adds rows up by run and time, in memory that grows with the runs' time alone.

    Args:
        records: of the output, about; the fewer, the finer the steps.
    """

    def __init__(self, records: int) -> None:
        self._step_s = min(_COARSEST_S, max(_FINEST_S, records / 1e6))
        self._runs: dict[str, dict[str, Track]] = defaultdict(
            lambda: {name: Track(self._step_s) for name in _TRACKS}
        )

    def add(self, chunk: Chunk) -> None:
        """More rows."""
        answered = chunk.instants("small_finished_at")
        runs = chunk.table["run_id"]
        for run in pc.unique(runs).drop_null().to_pylist():
            of_run = np.asarray(pc.fill_null(pc.equal(runs, run), False))
            tracks = self._runs[run]
            some = of_run & ~np.isnan(answered)
            tracks["rows"].add(answered[some], np.ones(int(some.sum())))
            escalated = some & chunk.escalated
            tracks["escalated"].add(answered[escalated], np.ones(int(escalated.sum())))
            for role in _ROLES:
                _add_passes(tracks, role, chunk, of_run)

    def series(self, pools: Mapping[str, Pool]) -> list[Series]:
        """Each run's, the earliest first.

        Args:
            pools: by role.
        """
        found = (_series(run, tracks, pools) for run, tracks in self._runs.items())
        return sorted((one for one in found if one is not None), key=lambda one: one.started_at)


def _add_passes(tracks: Mapping[str, Track], role: str, chunk: Chunk, of_run: Flags) -> None:
    start, end = chunk.instants(f"{role}_started_at"), chunk.instants(f"{role}_finished_at")
    batch, busy = chunk.floats(f"{role}_batch_rows"), chunk.floats(f"{role}_gpu_s")
    some = of_run & (batch > 0) & ~np.isnan(end)
    tracks[f"{role}_batches"].add(end[some], 1 / batch[some])
    tracks[f"{role}_batched"].add(end[some], np.ones(int(some.sum())))
    known = of_run & ~np.isnan(start) & ~np.isnan(end) & ~np.isnan(busy)
    tracks[f"{role}_rates"].spread(start[known], end[known], busy[known])


def _series(run: str, tracks: Mapping[str, Track], pools: Mapping[str, Pool]) -> Series | None:
    used = [(one.first + np.flatnonzero(one.sums)) for one in tracks.values() if one.sums.any()]
    if not used:
        return None
    first, last = min(int(one[0]) for one in used), max(int(one[-1]) for one in used)
    width = max(1, -(-(last - first + 1) // _POINTS))
    step_s = next(iter(tracks.values())).step_s

    def summed(name: str) -> Floats:
        values = tracks[name].between(first, last)
        values = np.cumsum(values) if name.endswith("_rates") else values
        padded = np.concatenate([values, np.zeros(-len(values) % width)])
        return np.asarray(padded.reshape(-1, width).sum(axis=1), dtype=np.float64)

    rows = summed("rows")
    return Series(
        run_id=run,
        started_at=first * step_s,
        step_s=width * step_s,
        rows=[int(one) for one in rows],
        escalation=_shares(summed("escalated"), rows),
        fill={
            role: _shares(summed(f"{role}_batched"), summed(f"{role}_batches") * pool.batch_size)
            for role, pool in pools.items()
            if pool.batch_size
        },
        busy={
            role: _shares(
                summed(f"{role}_rates").clip(0), np.full(len(rows), pool.devices * width * step_s)
            )
            for role, pool in pools.items()
            if pool.devices
        },
    )


def _shares(parts: Floats, wholes: npt.NDArray[np.floating]) -> list[float | None]:
    return [
        round(float(part / whole), 4) if whole > 0 else None
        for part, whole in zip(parts, wholes, strict=True)
    ]
