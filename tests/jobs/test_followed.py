import io
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from jobs.followed import Followed

LINE = "   12 s  fetch 64/1000 (5.0 rows/s)"


def shown(pieces: list[str], *, terminal: bool) -> str:
    out = io.StringIO()
    with Followed(Console(file=out, force_terminal=terminal, width=80)) as followed:
        for piece in pieces:
            followed.show(piece)
    return out.getvalue()


@given(st.text(alphabet="ab\n [é", max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_a_pipe_gets_the_log_as_it_is(log: str, cuts: list[int]) -> None:
    at = [0, *sorted(cuts), len(log)]
    pieces = [log[a:b] for a, b in pairwise(at)]
    assert shown(pieces, terminal=False) == log + ("" if log.endswith("\n") or not log else "\n")


def test_a_pipe_gets_lines_of_any_length_unbroken() -> None:
    assert shown(["x" * 500 + "\n", LINE + "\n"], terminal=False) == "x" * 500 + f"\n{LINE}\n"


def test_a_terminal_gets_progress_as_a_table_and_other_lines_as_they_are() -> None:
    text = shown(["begins [bold]\n", LINE[:9], LINE[9:] + "\n", "ends\n"], terminal=True)
    assert "begins [bold]" in text
    assert "ends" in text
    assert LINE not in text
    assert "rows/s" in text
    assert "1,000" in text
