"""`sgl inspect`: one record on the screen, as a PNG and as JSON."""

import argparse
import hashlib
import json
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobs.inspected import Inspected

_LONGEST_NAME = 80
_UNDRAWN = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `sgl inspect` takes."""
    parser.set_defaults(command=run)
    parser.add_argument("output", metavar="OUTPUT", help="output directory of sgl run, or its URI")
    parser.add_argument("id", metavar="ID", help="of the record")
    parser.add_argument(
        "--png",
        metavar="FILE",
        help="its picture, importance and kept tokens; default: ID.png in this directory",
    )
    parser.add_argument(
        "--recompute",
        action="store_true",
        help="run the small model on it again, where the run did not write its importance map",
    )
    parser.add_argument("--metric", metavar="NAME", help="of answers; default: exact_match")
    parser.add_argument(
        "--json", action="store_true", help="for programs; a PNG only where --png names it"
    )
    parser.add_argument("--endpoint-url", metavar="URL", help="of an S3 server other than AWS")


def run(options: argparse.Namespace) -> int:
    """Show the record; 1 where a PNG was named and there is no picture to draw."""
    from jobs.inspected import inspect_record
    from jobs.settings import storage_at
    from sgl.metrics import DEFAULT

    found = inspect_record(
        options.output,
        options.id,
        options.metric or DEFAULT,
        storage_at(options.endpoint_url),
        recompute=options.recompute,
    )
    drawn = _draw(found, _place(options))
    if options.json:
        told = plain(found) | {"png": str(drawn) if drawn else None}
        json.dump(told, sys.stdout, indent=1, allow_nan=False)
        print()
    else:
        _show(found, drawn)
    return _UNDRAWN if options.png and drawn is None else 0


def _place(options: argparse.Namespace) -> Path | None:
    if options.png:
        return Path(options.png)
    return None if options.json else Path(f"{safe_name(options.id)}.png")


def _draw(found: "Inspected", place: Path | None) -> Path | None:
    from jobs.inspect_panels import write_png

    if place is None or not found.pictures:
        return None
    write_png(found, place)
    return place


def _show(found: "Inspected", drawn: Path | None) -> None:
    from rich.console import Console

    from jobs.display import say
    from jobs.inspect_table import record_table

    console = Console()
    console.print(record_table(found))
    say(console, f"drawn: {drawn}" if drawn else "no PNG: there is no picture to draw")


def plain(found: "Inspected") -> dict[str, Any]:
    """For JSON."""
    ranking = found.ranking
    return {
        "row": {name: _plain(value) for name, value in found.row.items() if name != "importance"},
        "mode": found.mode,
        "decision": found.decision,
        "metric": found.metric,
        "scores": found.scores,
        "prices": found.prices,
        "importance": ranking and {"origin": ranking.origin, "map": _plain(ranking.importance)},
        "kept": [
            {"told": one.told, "tokens": _plain(one.tokens.nonzero()[0])} for one in found.kept
        ],
        "remarks": found.remarks,
    }


def _plain(value: Any) -> Any:
    """As JSON has it: moments in ISO 8601, bytes and other things as text, NaN as null."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int) else str(value)


def safe_name(name: str) -> str:
    """A file name of any id; ids that differ have names that do."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name).strip(".")[:_LONGEST_NAME]
    if safe == name:
        return safe
    return f"{safe or 'record'}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
