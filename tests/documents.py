"""The documents of the repository, and what they have in code marks."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        ROOT / "testbed" / "MODEL_CARD.md",
    ]
)
HISTORY = ("CHANGELOG.md", "LOG.md")
"""Told of a day, and so not of today."""

_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`(?P<text>[^`]+)`(?!`)")


def fences(document: Path) -> Iterator[tuple[str, str]]:
    """Language and text of its fenced blocks."""
    for found in _FENCE.finditer(document.read_text(encoding="utf-8")):
        yield found["language"], found["text"]


def prose(document: Path) -> str:
    """The document without them."""
    return _FENCE.sub("", document.read_text(encoding="utf-8"))


def marked(document: Path) -> Iterator[str]:
    """What stands in code marks within a line or two."""
    for found in _INLINE.finditer(prose(document)):
        yield " ".join(found["text"].split())


def commands(document: Path) -> Iterator[str]:
    """Every `sgl ...`, on one line, without remarks."""
    for _, text in fences(document):
        # A command goes on behind a backslash, or indented.
        for line in re.sub(r"\\?\n[ \t]+", " ", text).splitlines():
            if (command := _command(line)) is not None:
                yield command
    for text in marked(document):
        if (command := _command(text)) is not None:
            yield command


def _command(text: str) -> str | None:
    found = re.match(r"(?:\.venv/bin/)?(sgl(?: .*)?)$", text.split(" # ")[0].strip())
    return found[1] if found else None
