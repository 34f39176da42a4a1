"""What documents list is what the code has."""

from pathlib import Path

from sgl import errors

DOCS = Path(__file__).parents[1] / "docs"


def kinds(of: type[Exception]) -> set[str]:
    return {of.__name__}.union(*map(kinds, of.__subclasses__()))


def test_every_error_that_a_row_may_have_is_explained() -> None:
    lines = (DOCS / "INPUTS.md").read_text().splitlines()
    listed = {line.split("`")[1] for line in lines if line.startswith("| `") and "Error`" in line}
    assert listed == kinds(errors.RecordError) | {"OutOfMemoryError"}
