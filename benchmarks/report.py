"""Time and memory of `sgl report` over a million made-up rows, in files as runs leave them.

Rows are drawn at random, in the real schema: short questions and answers, four records in five
exit, one in twenty is probed, one in a thousand failed. There is no input, so no picture is drawn.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from infra.s3 import DEFAULT
from pipeline.config import OutputConfig
from pipeline.output import JobRecord, Output
from pipeline.run_record import PoolRecord, RunRecord
from pipeline.schema import INSTANT, OUTPUT, PROBE
from pipeline.timesheet import ReplicaTime, Times

RECORDS = 1_000_000
FORMS = ("html", "json", "markdown")
_ROWS_PER_FILE = OutputConfig.model_fields["rows_per_file"].default
_PART = 1 << 16
_THRESHOLD = 0.4
_RUN = "20260101T000000-0000"
_START = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
_PER_SECOND = 250.0
"""Records: an hour and some for a million."""
_PRICE = 2.0
"""US dollars per device-hour."""
_ERROR = {"stage": "fetch", "type": "ImageNotFoundError", "message": "picture.png: no such file"}

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]


def measure(records: int = RECORDS) -> list[Row]:
    """One row: a fresh process that writes all three forms.

    Args:
        records: of the output.
    """
    with tempfile.TemporaryDirectory(prefix="sgl-report-") as name:
        folder = Path(name)
        files = write_output(folder / "out", records)
        told = [item for form in FORMS for item in (f"--{form}", str(folder / f"report.{form}"))]
        command = [sys.executable, "-m", "jobs.cli", "report", str(folder / "out"), *told]
        began = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"sgl report ended with {process.returncode}")
        return [
            {
                "records": records,
                "files": files,
                "input_bytes": sum(p.stat().st_size for p in (folder / "out" / "rows").iterdir()),
                "wall_s": time.monotonic() - began,
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "peak_bytes": usage.ru_maxrss << 10,
                "html_bytes": (folder / "report.html").stat().st_size,
            }
        ]


def report(rows: Sequence[Row]) -> str:
    """As a table of text."""
    titles = ("records", "files", "seconds", "processor s", "peak", "page")
    lines = ["{:>10} {:>6} {:>8} {:>11} {:>9} {:>9}".format(*titles)]
    lines += [
        f"{row['records']:>10,} {row['files']:>6,} {row['wall_s']:>8.1f} {row['cpu_s']:>11.1f} "
        f"{row['peak_bytes'] / 2**20:>5.0f} MiB {row['html_bytes'] / 2**20:>5.1f} MiB"
        for row in rows
    ]
    return "\n".join(lines)


def write_output(folder: Path, records: int) -> int:
    """A complete output of made-up rows; returns the number of its data files."""
    output = Output(str(folder), "0" * 12, DEFAULT)
    for place in (output.rows, output.checkpoint, output.runs):
        Path(place).mkdir(parents=True)
    output.tell(_record(records))
    files = 0
    spent = {"small": 0.0, "large": 0.0, "probe": 0.0}
    for table in _tables(records):
        for role in ("small", "large"):
            spent[role] += np.nansum(table[f"{role}_gpu_s"].to_numpy())
        spent["probe"] += 0.08 * (table.num_rows - table[PROBE.name].null_count)
        for start in range(0, table.num_rows, _ROWS_PER_FILE):
            base = f"{_RUN}_{'0' * 32}_{files:06d}"
            some = table.slice(start, _ROWS_PER_FILE)
            pq.write_table(some, f"{output.rows}/{base}-0.parquet", write_page_checksum=True)
            pq.write_table(some.select(["id"]), f"{output.checkpoint}/{base}.parquet")
            files += 1
    (Path(output.runs) / f"{_RUN}.json").write_text(_books(records, spent).model_dump_json())
    return files


def _tables(records: int) -> Iterator[pa.Table]:
    rng = np.random.default_rng(0)
    for start in range(0, records, _PART):
        yield _table(np.arange(start, min(records, start + _PART)), rng)


def _table(numbers: npt.NDArray[np.int64], rng: np.random.Generator) -> pa.Table:
    count = len(numbers)
    scores = rng.beta(2.0, 1.2, count)
    failed = rng.random(count) < 0.001
    large = (scores < _THRESHOLD) & ~failed
    small_right, large_right = rng.random(count) < 0.3 + 0.65 * scores, rng.random(count) < 0.85
    small = _answers(small_right, numbers)
    begin = _START + numbers / _PER_SECOND
    large_begin, large_s = begin + rng.gamma(4.0, 2.0, count), rng.gamma(2.0, 0.02, count)
    answered = {"small": ~failed, "large": large}
    nothing = np.full(count, None, dtype=object)
    columns: dict[str, Any] = {
        "id": [f"record-{n:09d}" for n in numbers],
        "question": [f"What does the label in row {n % 97} of the page say?" for n in numbers],
        "answer": np.where(failed, nothing, np.where(large, _answers(large_right, numbers), small)),
        "small_answer": np.where(failed, nothing, small),
        "route": np.where(failed, "failed", np.where(large, "large", "small")),
        "exit_score": _where(~failed, scores),
        "threshold": np.full(count, _THRESHOLD),
        "visual_tokens": np.full(count, 1024),
        "kept_tokens": _where(large, np.full(count, 204.0)),
        "average_retention": _where(large, rng.normal(0.35, 0.01, count)),
        "prune_layer": _where(large, np.full(count, 0.19)),
        "keep_ratio": _where(large, np.full(count, 0.2)),
        "small_gpu_s": _where(~failed, rng.gamma(2.0, 0.004, count)),
        "large_gpu_s": _where(large, large_s),
        "run_id": np.full(count, _RUN),
        "error": [_ERROR if one else None for one in failed],
    }
    for role, ran in answered.items():
        at = begin if role == "small" else large_begin
        columns |= _model_columns(role, ran, at, columns[f"{role}_gpu_s"], rng)
    seconds = np.nan_to_num(columns["small_gpu_s"]) + np.nan_to_num(columns["large_gpu_s"])
    columns["cost_usd"], columns["flops"] = seconds * _PRICE / 3600, seconds * 1e14
    arrays = [_array(columns.get(field.name, [None] * count), field.type) for field in OUTPUT]
    accepted = pa.array([[f"label {n}"] for n in numbers], pa.list_(pa.string()))
    probed = (rng.random(count) < 0.05) & ~failed
    probes = [_probe(int(n)) if one else None for n, one in zip(numbers, probed, strict=True)]
    fields = [*OUTPUT, pa.field("answers", accepted.type), PROBE]
    return pa.table([*arrays, accepted, pa.array(probes, PROBE.type)], pa.schema(fields))


def _model_columns(
    role: str,
    ran: npt.NDArray[np.bool_],
    at: Floats,
    gpu_s: Floats,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """What the rows say of one model."""
    count = len(ran)
    return {
        f"{role}_prompt_tokens": _where(ran, rng.integers(1040, 1100, count)),
        f"{role}_completion_tokens": _where(ran, rng.integers(2, 20, count)),
        f"{role}_padded_tokens": _where(ran, np.full(count, 1100.0)),
        f"{role}_flops": _where(ran, gpu_s * 1e14),
        f"{role}_batch_rows": _where(ran, np.full(count, 16.0)),
        f"{role}_started_at": _instants(ran, at),
        f"{role}_finished_at": _instants(ran, at + rng.gamma(2.0, 0.5, count)),
    }


def _answers(right: npt.NDArray[np.bool_], numbers: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    said = (f"label {n}" if so else "label ?" for so, n in zip(right, numbers, strict=True))
    return np.array(list(said), dtype=object)


def _where(rows: npt.NDArray[np.bool_], values: npt.NDArray[Any]) -> Floats:
    return np.where(rows, values.astype(np.float64), np.nan)


def _instants(rows: npt.NDArray[np.bool_], seconds: Floats) -> pa.Array:
    micros = pa.array((seconds * 1e6).astype(np.int64), mask=~rows)
    return micros.cast(INSTANT)


def _array(values: Any, type_: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    found = pa.array(values, from_pandas=True)
    return pa.array(values, type_) if pa.types.is_struct(type_) else found.cast(type_)


def _probe(number: int) -> list[dict[str, Any]]:
    spent = {"gpu_s": 0.08, "flops": 8e12, "cost_usd": 0.08 * _PRICE / 3600}
    way = {"prune_layer": 0.0, "keep_ratio": 1.0, "average_retention": 1.0}
    return [way | spent | {"answer": f"label {number}", "completion_tokens": 8, "error": None}]


def _record(records: int) -> JobRecord:
    pool = {"replicas": 1, "usd_per_hour": _PRICE}
    model = {"path": "/models/none", "batch_size": 16}
    job = {
        "mode": "cascade",
        "threshold": _THRESHOLD,
        "probe": {"share": 0.05},
        "input": {"path": "/data/none"},
        "models": {"small": model, "large": model},
        "pools": {"small": pool, "large": pool},
    }
    return JobRecord(
        fingerprint="0" * 12,
        run_id=_RUN,
        records=records,
        identity={},
        precision={},
        versions={},
        job=job,
    )


def _books(records: int, spent: dict[str, float]) -> RunRecord:
    """Of one run, whose pools had as many devices as it took."""
    elapsed_s = records / _PER_SECOND + 120
    busy = {"small": spent["small"], "large": spent["large"] + spent["probe"]}
    pools = {
        role: PoolRecord(
            replicas=1,
            devices=np.ceil(s / elapsed_s + 0.1),
            device="gpu",
            usd_per_hour=_PRICE,
            price="as given",
        )
        for role, s in busy.items()
    }
    replicas = [_replica(role, elapsed_s, s / pools[role].devices) for role, s in busy.items()]
    return RunRecord(
        run_id=_RUN,
        started_at=_START,
        ended=True,
        pools=pools,
        times=Times(elapsed_s=elapsed_s, replicas=tuple(replicas)),
    )


def _replica(role: str, elapsed_s: float, device_s: float) -> ReplicaTime:
    return ReplicaTime(
        role=role,
        node="10.0.0.1",
        startup_s=60.0,
        waiting_s=elapsed_s - 60.0 - device_s,
        device_s=device_s,
        handling_s=0.0,
        lost_s=0.0,
        open_s=0.0,
        starts=1,
    )
