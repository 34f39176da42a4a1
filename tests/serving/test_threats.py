"""Each threat of docs/SECURITY.md has tests, and they are there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "SECURITY.md").read_text()
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def names_in(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if hasattr(node, "name")}


def test_every_test_that_is_named_exists() -> None:
    named = NAMED.findall(TEXT)
    assert len(named) > 50
    missing = [f"{path}::{name}" for path, name in named if name not in names_in(ROOT / path)]
    assert not missing
    assert len(named) == TEXT.count("::"), "a test is named in a way that is not checked"


def test_every_threat_has_a_test() -> None:
    _, *threats = TEXT.split("\n### ")
    assert [threat.partition(".")[0] for threat in threats] == [str(n) for n in range(1, 13)]
    for threat in threats:
        assert NAMED.search(threat), threat.partition("\n")[0]
