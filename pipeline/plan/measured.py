"""What one record costs each pool, as an output of `sgl run` or a file of the same form has it.

A unit is what a replica did in one go: a block of the small model, a forward batch of the large
one. Units and not rows, because rows of one forward pass share its seconds by a rule of
accounting, and because a few slow units are what makes a pool wait.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, ValidationError, model_validator

from actors.config import StrictModel
from infra.s3 import DEFAULT, StorageConfig
from pipeline.output import Output, open_output
from pipeline.rowfiles import in_parallel, read, visible
from pipeline.run_record import RunRecord, run_records
from pipeline.settings_file import explained
from sgl.errors import ConfigurationError

_READS = [
    "run_id",
    *(f"{role}_{what}" for role in ("small", "large") for what in ("gpu_s", "started_at")),
    *(f"{role}_batch_rows" for role in ("small", "large")),
]


class MeasuredPool(StrictModel):
    """What one pool did, unit by unit.

    Attributes:
        rows: of each unit.
        passes: forward passes of each unit.
        seconds: that a replica took for each unit.
        batch_rows: the most rows that one forward pass held.
        devices: of one replica: GPUs, a share of one, or CPU cores.
        startup_s: until a replica had loaded its model.
        handling: seconds of a replica around its forward batches, per second in them.
    """

    rows: tuple[float, ...] = Field(min_length=1)
    passes: tuple[float, ...]
    seconds: tuple[float, ...]
    batch_rows: int = Field(ge=1)
    devices: float = Field(default=1.0, gt=0)
    startup_s: float = Field(default=0.0, ge=0)
    handling: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _of_one_length(self) -> "MeasuredPool":
        if not len(self.rows) == len(self.passes) == len(self.seconds):
            raise ValueError("rows, passes and seconds: write one of each per unit")
        if min(*self.rows, *self.passes, *self.seconds) <= 0:
            raise ValueError("rows, passes and seconds: all must be above 0")
        return self


class Measured(StrictModel):
    """A sample of a job.

    Attributes:
        source: where it is from.
        device: what the devices are: "gpu" or "cpu".
        records: that the small model answered.
        escalated: of them, those that the large model answered.
        small: of its pool.
        large: likewise; None where it was asked nothing.
        threshold: of the job; None where it is not known.
    """

    source: str
    device: str
    records: int = Field(ge=1)
    escalated: int = Field(ge=0)
    small: MeasuredPool
    large: MeasuredPool | None = None
    threshold: float | None = None

    @model_validator(mode="after")
    def _no_more_than_all(self) -> "Measured":
        if self.escalated > self.records:
            raise ValueError("escalated: no more than there are records")
        return self


def measured(place: str, storage: StorageConfig = DEFAULT) -> Measured:
    """Read a sample.

    Args:
        place: an output directory of `sgl run` or its URI, or a JSON file of `Measured`.
        storage: how S3 is reached.

    Raises:
        ConfigurationError: it is neither, or tells too little.
    """
    if place.endswith(".json"):
        return _of_file(Path(place))
    if Path(place).is_file():
        raise ConfigurationError(
            f"--measured {place}: write an output directory of sgl run, or a .json file"
        )
    return of_output(open_output(place, "", storage))


def _of_file(path: Path) -> Measured:
    try:
        return Measured.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigurationError(f"--measured {path}: cannot be read") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--measured {path}: is no JSON ({error})") from error
    except ValidationError as error:
        raise ConfigurationError(
            f"--measured {path}: is no file of measured seconds; {explained(error, Measured)}; see "
            "docs/PLANNING.md"
        ) from error


def of_output(output: Output) -> Measured:
    """The sample that an output's largest run is: a later one may have done a few rows again.

    Raises:
        ConfigurationError: it has no rows or times, or the small model answered nothing.
    """
    records = {record.run_id: record for record in run_records(output)}
    if not records:
        raise ConfigurationError(
            f"--measured {output.path}: it holds no runs of `sgl run` with their times"
        )
    runs = {run_id: {"small": _Units(), "large": _Units()} for run_id in records}
    for table in _tables(output):
        for run_id, units in runs.items():
            some = table.filter(pc.equal(table["run_id"], run_id))
            for role, found in units.items():
                found.add(role, some)
    largest = max(runs, key=lambda run_id: sum(runs[run_id]["small"].rows.values()))
    record, units = records[largest], runs[largest]
    if not units["small"].rows:
        raise ConfigurationError(
            f"--measured {output.path}: none of its runs has a row of the small model; measure a "
            "cascade"
        )
    escalated = round(sum(units["large"].rows.values()))
    job = output.record()
    return Measured(
        source=output.path,
        device=record.pools["small"].device,
        records=round(sum(units["small"].rows.values())),
        escalated=escalated,
        small=_pool("small", units["small"], record),
        large=_pool("large", units["large"], record) if escalated else None,
        threshold=job.job.get("threshold") if job else None,
    )


def _tables(output: Output) -> Iterator[pa.Table]:
    names = visible(output, output.rows)
    for table in in_parallel(lambda name: read(output, output.rows, name, _READS), names):
        if table is not None:
            yield table


class _Units:
    """Sums over the rows of each unit, which are those that started at the same moment."""

    def __init__(self) -> None:
        self.rows: dict[int, float] = defaultdict(float)
        self.passes: dict[int, float] = defaultdict(float)
        self.device_s: dict[int, float] = defaultdict(float)
        self.most = 1

    def add(self, role: str, table: pa.Table) -> None:
        """Add the rows of one table that this role answered."""
        names = [f"{role}_{what}" for what in ("started_at", "gpu_s", "batch_rows")]
        some = table.select(names).drop_null()
        starts = some[names[0]].cast(pa.int64()).to_pylist()
        for start, spent, rows in zip(
            starts, some[names[1]].to_pylist(), some[names[2]].to_pylist(), strict=True
        ):
            self.rows[start] += 1
            self.passes[start] += 1 / rows
            self.device_s[start] += spent
            self.most = max(self.most, rows)


def _pool(role: str, units: _Units, record: RunRecord) -> MeasuredPool:
    pool = record.pools[role]
    each = [one for one in record.times.replicas if one.role == role]
    device_s = sum(one.device_s for one in each)
    counted = [start for start, spent in units.device_s.items() if spent > 0]
    if not counted:
        raise ConfigurationError(f"the rows of the {role} model have no seconds; measure again")
    return MeasuredPool(
        rows=tuple(units.rows[one] for one in counted),
        passes=tuple(units.passes[one] for one in counted),
        seconds=tuple(units.device_s[one] / pool.devices for one in counted),
        batch_rows=units.most,
        devices=pool.devices,
        startup_s=float(np.max([one.startup_s / one.starts for one in each], initial=0.0)),
        # Clocks of two processes: it may come out a little below nothing.
        handling=max(0.0, sum(one.handling_s for one in each) / device_s) if device_s else 0.0,
    )
