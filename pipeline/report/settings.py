"""What a reader of a report wants to know of a job, read off its record without being strict.

An output may have been written by another version, whose settings are not all of this one's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.output import JobRecord
from pipeline.report.timeline import Pool
from pipeline.run_record import PoolRecord, RunRecord

_ROLES = ("small", "large")


@dataclass(frozen=True)
class ModelSettings:
    """Of one model and its pool; None where the mode has no such model, or nothing was written.

    Attributes:
        path: folder or hub id.
        batch_size: rows of a full batch.
        replicas: of its pool.
        usd_per_hour: price of one device, in the latest run.
        price: the same with currency, date and source, or why there is none.
        precision: dtype.
    """

    path: str | None
    batch_size: int | None
    replicas: int | None
    usd_per_hour: float | None
    price: str | None
    precision: str | None


@dataclass(frozen=True)
class Settings:
    """Of a job.

    Attributes:
        run_id: of the latest run.
        fingerprint: of everything that changes a row.
        mode: cascade, small or large.
        input: path of the records.
        threshold: exit score from which the small model's answer stands; None without a cascade.
        prune_layer: as set.
        keep_ratio: likewise.
        probed: whether the large model was asked besides.
        promise: that the probe is held against.
        small: of the small model.
        large: of the large one.
        versions: of the packages that took part.
    """

    run_id: str
    fingerprint: str
    mode: str
    input: str
    threshold: float | None
    prune_layer: float | None
    keep_ratio: float | None
    probed: bool
    promise: dict[str, Any] | None
    small: ModelSettings
    large: ModelSettings
    versions: dict[str, str]

    @classmethod
    def of(cls, record: JobRecord, runs: Sequence[RunRecord]) -> "Settings":
        """What an output's record and those of its runs, the earliest first, say."""
        job = record.job
        mode = str(job.get("mode", "cascade"))
        cascade = mode == "cascade"
        pruning = _below(job, "pruning") if cascade else {}
        pools = {role: pool for run in runs for role, pool in run.pools.items()}
        small, large = (
            _model(job, role, record.precision.get(role), pools.get(role)) for role in _ROLES
        )
        return cls(
            run_id=record.run_id,
            fingerprint=record.fingerprint,
            mode=mode,
            input=str(_below(job, "input").get("path", "")),
            threshold=job.get("threshold") if cascade else None,
            prune_layer=pruning.get("prune_layer"),
            keep_ratio=pruning.get("keep_ratio"),
            probed=cascade and bool(job.get("probe")),
            promise=job.get("promise"),
            small=small,
            large=large,
            versions=record.versions,
        )

    def pools(self, records: Iterable[RunRecord]) -> dict[str, Pool]:
        """By role: of the latest run that has a record of them."""
        devices: dict[str, float] = {}
        for record in records:
            devices |= {role: one.replicas * one.devices for role, one in record.pools.items()}
        models = {"small": self.small, "large": self.large}
        return {
            role: Pool(model.batch_size, devices.get(role))
            for role, model in models.items()
            if model.path is not None
        }


def _model(
    job: Mapping[str, Any], role: str, precision: str | None, reserved: PoolRecord | None
) -> ModelSettings:
    used = job.get("mode", "cascade") in ("cascade", role)
    model = _below(job, "models", role) if used else {}
    pool = _below(job, "pools", role) if used else {}
    return ModelSettings(
        path=model.get("path"),
        batch_size=model.get("batch_size"),
        replicas=pool.get("replicas"),
        usd_per_hour=reserved.usd_per_hour if reserved else pool.get("usd_per_hour"),
        price=reserved.price if reserved else None,
        precision=precision,
    )


def _below(data: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        found = data.get(name)
        data = found if isinstance(found, Mapping) else {}
    return data
