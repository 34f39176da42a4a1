from jobs.documentation.tables import bare_bars, table


def test_a_cell_stays_a_cell() -> None:
    lines = table(("a", "b"), [("x | y", "one\n  two"), ("`x | y`", "`a` | `b`")]).splitlines()
    assert lines == [
        "| a | b |",
        "| --- | --- |",
        "| x \\| y | one two |",
        "| `x | y` | `a` \\| `b` |",
    ]


def test_bars_in_code_marks_are_bare() -> None:
    assert bare_bars("| `<\\|end\\|>` | a \\| b |") == "| `<|end|>` | a \\| b |"
