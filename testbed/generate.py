"""Write records: `python -m testbed.generate --seed S --records N --output DIR`.

DIR/records.parquet holds the images as HF structs (bytes and path); DIR/images/*.png and
DIR/manifest.jsonl hold the same records as files.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from testbed.records import Record, draw_records, encode_png

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("question", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("kind", pa.string()),
        ("needed_tokens", pa.list_(pa.int32())),
    ]
)
"""`needed_tokens`: indices of the visual tokens that one must see to answer."""


def generate(seed: int, records: int, output: Path) -> None:
    """Write the Parquet file, the PNG files and their manifest.

    Args:
        seed: the same seed writes the same bytes.
        records: how many.
        output: a folder, made if missing.
    """
    (output / "images").mkdir(parents=True, exist_ok=True)
    rows = [_row(record) for record in draw_records(seed, records)]
    # Records of one page share its image; a dictionary without a size limit stores it once.
    pq.write_table(
        pa.Table.from_pylist(rows, SCHEMA),
        output / "records.parquet",
        dictionary_pagesize_limit=1 << 30,
    )
    with (output / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
        for row in rows:
            (output / row["image"]["path"]).write_bytes(row["image"]["bytes"])
            line = {**row, "image": row["image"]["path"]}
            manifest.write(json.dumps(line) + "\n")


def _row(record: Record) -> dict[str, Any]:
    page = record.id.rsplit("-", 1)[0]
    return {
        "id": record.id,
        "image": {"bytes": encode_png(record.image), "path": f"images/{page}.png"},
        "question": record.question.text,
        "answers": [record.question.answer],
        "kind": record.question.kind,
        "needed_tokens": sorted(label.visual_token for label in record.question.needed),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m testbed.generate", description=__doc__)
    parser.add_argument("--seed", type=int, required=True, help="20002 is the held-out data's")
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    generate(options.seed, options.records, options.output)
    print(f"wrote {options.records} records to {options.output}")


if __name__ == "__main__":
    main()
