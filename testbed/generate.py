"""Write records: `python -m testbed.generate --split heldout --records N --output DIR`.

DIR/records.parquet holds the images as HF structs (bytes and path); DIR/images/*.png and
DIR/manifest.jsonl hold the same records as files.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from testbed.records import SPLIT_NAMES, SplitName, draw_records, encode_png

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("question", pa.string()),
        ("answers", pa.list_(pa.string())),
        ("page", pa.string()),
        ("kind", pa.string()),
        ("hops", pa.int32()),
        ("layout", pa.string()),
        ("tiles", pa.int32()),
        ("needed_tokens", pa.list_(pa.int32())),
    ]
)
"""`page`: of the image that some records share. `needed_tokens`: indices of the visual tokens that
one must see to answer."""


def write_parquet(split: SplitName, records: int, path: Path) -> list[dict[str, Any]]:
    """Write the first records of a split as one Parquet file; its folder is made if missing.

    Returns:
        The rows.
    """
    rows: list[dict[str, Any]] = []
    page, name, image = None, "", {}
    for record in draw_records(split, records):
        if record.page != page:
            name = record.id.rsplit("-", 1)[0]
            image = {"bytes": encode_png(record.image), "path": f"images/{name}.png"}
            page = record.page
        question = record.question
        rows.append(
            {
                "id": record.id,
                "image": image,
                "question": question.text,
                "answers": [question.answer],
                "page": name,
                "kind": question.kind,
                "hops": question.hops,
                "layout": record.layout,
                "tiles": record.tiles,
                "needed_tokens": list(question.needed),
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Records of one page share its image; a dictionary without a size limit stores it once.
    table = pa.Table.from_pylist(rows, SCHEMA)
    pq.write_table(table, path, dictionary_pagesize_limit=1 << 30)
    return rows


def generate(split: SplitName, records: int, output: Path) -> None:
    """Write the Parquet file, the PNG files and their manifest.

    Args:
        split: which; the same split writes the same bytes.
        records: how many.
        output: a folder, made if missing.
    """
    rows = write_parquet(split, records, output / "records.parquet")
    (output / "images").mkdir(parents=True, exist_ok=True)
    with (output / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
        for row in rows:
            (output / row["image"]["path"]).write_bytes(row["image"]["bytes"])
            manifest.write(json.dumps({**row, "image": row["image"]["path"]}) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m testbed.generate", description=__doc__)
    parser.add_argument("--split", choices=SPLIT_NAMES, default="heldout")
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    generate(options.split, options.records, options.output)
    print(f"wrote {options.records} records to {options.output}")


if __name__ == "__main__":
    main()
