"""After a run: ids out == ids in, each once, counted from the data files as a reader sees them."""

from pipeline.ids import Difference, Spill, compare, names_of
from pipeline.output import Output
from pipeline.rowfiles import ids, visible
from sgl.errors import AuditError, IncompleteError


def count_rows(output: Output, into: Spill, *, settled: bool = False) -> None:
    """Add the id of every row of an output, or of every one that has not failed.

    Memory is bounded by a few files' ids.
    """
    for some in ids(output, visible(output, output.rows), settled=settled):
        into.add(some)


def audit(output: Output, expected: Spill) -> None:
    """Check a finished output.

    Args:
        output: with no uncommitted files left in it.
        expected: the ids of the input, each once.

    Raises:
        IncompleteError: records are missing.
        AuditError: records are doubled, or not of the input.
    """
    with Spill() as found:
        count_rows(output, found)
        difference = compare(expected, found)
    if difference:
        wrong = difference.doubled or difference.foreign
        raise (AuditError if wrong else IncompleteError)(
            f"audit of {output.path}: {describe(difference, output)}; the same command again "
            "reconciles the output and does what is missing"
        )


def describe(difference: Difference, output: Output) -> str:
    """What is wrong, with examples of what the rows themselves can name."""
    told = []
    if difference.missing:
        told.append(f"{difference.missing:,} records have no row")
    for count, kind, what in (
        (difference.doubled, "doubled", "rows stand once too often"),
        (difference.foreign, "foreign", "rows are of records that the input does not have"),
    ):
        if count:
            names = names_of(difference.examples[kind], ids(output, visible(output, output.rows)))
            told.append(f"{count:,} {what} ({', '.join(names)})")
    return ", ".join(told)
