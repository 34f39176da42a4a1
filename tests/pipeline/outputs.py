"""Outputs as Ray's write tasks leave them, made without Ray."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra.s3 import StorageConfig
from infra.storage import locate
from pipeline.ids import Spill
from pipeline.output import Output
from pipeline.schema import OUTPUT

FINGERPRINT = "0123456789ab"
RUN = "20260101T000000-aaaa"
LATER = "20260102T000000-bbbb"


def output_at(path: Path | str, **storage: Any) -> Output:
    return Output(str(path), FINGERPRINT, StorageConfig(**storage))


def base_of(task: int, run: str = RUN) -> str:
    return f"{run}_{'0' * 32}_{task:06d}"


def rows_of(ids: Sequence[str], failed: Sequence[str] = ()) -> pa.Table:
    error = {"stage": "fetch", "type": "ImageError", "message": "no such file"}
    rows = [
        {"id": name, "route": "failed", "error": error}
        if name in failed
        else {"id": name, "route": "small", "answer": f"answer {name}"}
        for name in ids
    ]
    return pa.Table.from_pylist(rows, schema=OUTPUT)


def put(output: Output, folder: str, name: str, table: pa.Table) -> None:
    filesystem, path = output.located(folder)
    filesystem.create_dir(path, recursive=True)
    pq.write_table(table, f"{path}/{name}", filesystem=filesystem, write_page_checksum=True)


def write_task(
    output: Output,
    task: int,
    ids: Sequence[str],
    *,
    failed: Sequence[str] = (),
    said: Sequence[str] | None = None,
    data: bool = True,
    committed: bool = True,
    pending: bool = False,
    run: str = RUN,
) -> str:
    """One write task in any state that a death can leave it in; returns its base."""
    base = base_of(task, run)
    checkpoint = pa.table({"id": pa.array(ids if said is None else said, pa.string())})
    if pending:
        put(output, output.checkpoint, f"{base}.pending.parquet", checkpoint)
    if data:
        put(output, output.rows, f"{base}-0.parquet", rows_of(ids, failed))
    if committed:
        put(output, output.checkpoint, f"{base}.parquet", checkpoint)
    return base


def expected(ids: Sequence[str]) -> Spill:
    spill = Spill()
    spill.add(pa.array(ids, pa.string()))
    return spill


def ids_in(output: Output, folder: str) -> list[str]:
    """Ids of all Parquet files of a folder, as any reader would see them, sorted."""
    filesystem, path = output.located(folder)
    names = [name for name in output.names(folder) if name.endswith(".parquet")]
    tables = [pq.read_table(f"{path}/{n}", filesystem=filesystem, columns=["id"]) for n in names]
    return sorted(name for table in tables for name in table["id"].to_pylist())


def remove(output: Output, folder: str, name: str) -> None:
    filesystem, path = locate(f"{folder}/{name}", output.storage)
    filesystem.delete_file(path)
