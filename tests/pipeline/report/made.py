"""Outputs of cascades made up at random, with the record of their run."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from infra.storage import write_bytes
from pipeline.output import JobRecord
from pipeline.report.rows import Chunk
from pipeline.run_record import PoolRecord, RunRecord
from pipeline.schema import OUTPUT, PROBE
from pipeline.timesheet import ReplicaTime, Times
from tests.pipeline.outputs import FINGERPRINT, RUN, base_of, output_at, put

ANSWERS = pa.field("answers", pa.list_(pa.string()))
START = datetime(2026, 1, 1, tzinfo=UTC)
THRESHOLD = 0.6125
PRICE = 3.6
"""US dollars per device-hour: a tenth of a cent per second."""


def row(number: int, rng: np.random.Generator, **more: Any) -> dict[str, Any]:
    """One answered record: exited or escalated by its score, either model right at random."""
    score = float(np.round(rng.random(), 3))
    exits = score >= THRESHOLD
    small, large = ("right" if rng.random() < p else "wrong" for p in (0.3 + 0.6 * score, 0.8))
    start = START + timedelta(seconds=number * 0.1)
    found = {
        "id": f"r{number:05d}",
        "question": f"what is {number}?",
        "answer": small if exits else large,
        "small_answer": small,
        "route": "small" if exits else "large",
        "exit_score": score,
        "threshold": THRESHOLD,
        "small_gpu_s": 0.1,
        "small_flops": 1e9,
        "small_prompt_tokens": 100,
        "small_completion_tokens": 5,
        "small_started_at": start,
        "small_finished_at": start + timedelta(seconds=1),
        "small_batch_rows": 8,
        "visual_tokens": 64,
        "run_id": RUN,
        "answers": ["right"],
        "cost_usd": 0.1 * PRICE / 3600,
    }
    if not exits:
        spent = 0.5 + rng.random()
        found |= {
            "large_gpu_s": spent,
            "large_flops": spent * 1e10,
            "cost_usd": (0.1 + spent) * PRICE / 3600,
            "large_prompt_tokens": 100,
            "large_completion_tokens": 5,
            "large_started_at": start + timedelta(seconds=2),
            "large_finished_at": start + timedelta(seconds=4),
            "large_batch_rows": 4,
            "kept_tokens": 16,
            "average_retention": 0.4,
            "prune_layer": 0.2,
            "keep_ratio": 0.25,
        }
    found["flops"] = found["small_flops"] + found.get("large_flops", 0.0)
    return found | more


def failed(number: int, **more: Any) -> dict[str, Any]:
    """A record whose picture could not be read."""
    error = {"stage": "fetch", "type": "ImageError", "message": "no such file"}
    own = {"id": f"f{number:05d}", "route": "failed", "run_id": RUN, "answers": ["right"]}
    return own | {"error": error, "threshold": THRESHOLD} | more


def probe(answer: str) -> list[dict[str, Any]]:
    """The unpruned large model's answer."""
    return [{"prune_layer": 0.0, "keep_ratio": 1.0, "answer": answer, "gpu_s": 2.0, "flops": 2e10}]


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [row(number, rng) for number in range(count)]


def table(some: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(some, schema=pa.schema([*OUTPUT, ANSWERS, PROBE]))


def chunk(some: list[dict[str, Any]]) -> Chunk:
    made = table(some)
    return Chunk(made.append_column("file", pa.array([0] * made.num_rows, pa.int32())))


JOB: dict[str, Any] = {
    "mode": "cascade",
    "threshold": THRESHOLD,
    "input": {"path": "/nowhere/at/all"},
    "models": {
        "small": {"path": "/models/small", "batch_size": 8},
        "large": {"path": "/models/large", "batch_size": 4},
    },
    "pools": {
        "small": {"replicas": 1, "usd_per_hour": PRICE},
        "large": {"replicas": 2, "usd_per_hour": PRICE},
    },
}


def write_output(folder: Path, some: list[dict[str, Any]], **job: Any) -> Path:
    """An output in several files, and the record of one run, as long as its rows took."""
    output = output_at(folder)
    record = JobRecord(
        fingerprint=FINGERPRINT,
        run_id=RUN,
        records=len(some),
        identity={},
        precision={},
        versions={"torch": "2"},
        job=JOB | job,
    )
    output.tell(record)
    for task, start in enumerate(range(0, len(some), 100)):
        part = table(some[start : start + 100])
        put(output, output.rows, f"{base_of(task)}-0.parquet", part)
        put(output, output.checkpoint, f"{base_of(task)}.parquet", part.select(["id"]))
    spent = {
        role: sum(one.get(f"{role}_gpu_s", 0.0) for one in some) for role in ("small", "large")
    }
    elapsed_s = spent["small"] + spent["large"] + 10
    replicas = [
        _replica("small", elapsed_s, spent["small"]),
        _replica("large", elapsed_s, spent["large"]),
        _replica("large", elapsed_s, 0.0),
    ]
    run = RunRecord(
        run_id=RUN,
        started_at=START.timestamp(),
        ended=True,
        pools={
            role: PoolRecord(
                replicas=number, devices=1, device="gpu", usd_per_hour=PRICE, price="as given"
            )
            for role, number in (("small", 1), ("large", 2))
        },
        times=Times(elapsed_s=elapsed_s, replicas=tuple(replicas)),
    )
    write_bytes(f"{output.runs}/{RUN}.json", run.model_dump_json().encode(), output.storage)
    return folder


def _replica(role: str, elapsed_s: float, spent: float) -> ReplicaTime:
    rest = {"handling_s": 0.0, "lost_s": 0.0, "open_s": 0.0}
    waiting_s = elapsed_s - spent - 3
    own = {"startup_s": 3.0, "waiting_s": waiting_s, "device_s": spent}
    return ReplicaTime(role=role, node="10.0.0.1", starts=1, **own, **rest)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
