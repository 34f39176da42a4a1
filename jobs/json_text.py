"""What programs read: JSON that any of them can, in which what has no value is null."""

import json
import sys
from typing import Any


def json_text(result: Any) -> str:
    """One document, with a line's end.

    Raises:
        ValueError: a number is none, which JSON does not have; its maker should have said None.
    """
    return json.dumps(result, indent=1, allow_nan=False) + "\n"


def print_json(result: Any) -> None:
    """Onto standard output."""
    sys.stdout.write(json_text(result))
