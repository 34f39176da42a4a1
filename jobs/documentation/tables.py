"""Markdown tables, as the site's dialect has them: in code marks a bar is a bar."""

import re
from collections.abc import Iterable, Sequence

_CODE = re.compile(r"(`[^`\n]+`)")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells may hold anything but several lines."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def bare_bars(markdown: str) -> str:
    r"""Code marks with `|` for `\|`, which other dialects want in tables."""
    return _CODE.sub(lambda found: found[0].replace("\\|", "|"), markdown)


def _cell(text: str) -> str:
    parts = _CODE.split(" ".join(text.split()))
    parts[::2] = (part.replace("|", "\\|") for part in parts[::2])
    return "".join(parts)
