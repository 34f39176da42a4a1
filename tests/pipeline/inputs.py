"""Small input files of every accepted format."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.config import JobConfig
from pipeline.ids import Spill
from pipeline.source import Source, check_ids, read_ids


def picture(shade: int, height: int = 4, width: int = 6) -> np.ndarray:
    """A plain picture that can be told from its neighbours."""
    return np.full((height, width, 3), shade % 256, np.uint8)


def png(shade: int, height: int = 4, width: int = 6) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture(shade, height, width)).save(data, "PNG")
    return data.getvalue()


def data_uri(shade: int) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(shade)).decode()}"


def write_parquet(path: Path, columns: dict[str, Any], row_group_size: int | None = None) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def records(count: int, **more: Any) -> dict[str, Any]:
    """Columns of a Parquet input with Hugging Face image structs."""
    return {
        "id": [f"r{i:04d}" for i in range(count)],
        "image": [{"bytes": png(i), "path": f"{i}.png"} for i in range(count)],
        "question": [f"what is {i}?" for i in range(count)],
        **more,
    }


def checked_ids(source: Source) -> list[str]:
    """The ids of an input, which are refused where two are the same."""
    with Spill() as spill:
        check_ids(source, spill)
        ids = [name for some in read_ids(source) for name in some.to_pylist()]
        assert spill.count == len(ids)
    return ids


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def job_of(source: Path | str, target: Path | str, /, **settings: Any) -> JobConfig:
    """A job whose models are never loaded by path."""
    data: dict[str, Any] = {
        "input": {"path": str(source), **settings.pop("input", {})},
        "output": {"path": str(target), **settings.pop("output", {})},
        "models": {"small": {"path": "small"}, "large": {"path": "large", "batch_size": 4}},
        "threshold": 0.6,
        "rows_per_block": 8,
        **settings,
    }
    return JobConfig.model_validate(data)
