import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from jobs.progress_line import (
    Progress,
    StageProgress,
    parsed_progress,
    progress_line,
    progress_table,
)

STAGES = st.builds(
    StageProgress,
    name=st.sampled_from(["fetch", "small", "large"]),
    rows=st.integers(0, 10**9),
    rate=st.integers(0, 10**6).map(lambda tenths: tenths / 10),
    escalated=st.none() | st.integers(0, 100).map(lambda percent: percent / 100),
    failed=st.integers(0, 10**6),
)
PROGRESS = st.builds(
    Progress,
    seconds=st.integers(0, 10**7).map(float),
    total=st.integers(0, 10**9),
    stages=st.lists(STAGES, min_size=1, max_size=3).map(tuple),
)


@given(PROGRESS)
def test_what_a_line_tells_is_read_from_it(progress: Progress) -> None:
    assert parsed_progress(progress_line(progress)) == progress


def test_other_lines_are_none() -> None:
    for line in (
        "",
        "run 20261122T021415-3c4f: 64 of 64 records, mode cascade",
        "  100 s  fetch 64/64 and so on",
        " records                      64 (64 in this run)",
        "   10 s  fetch 0/64 (0.0 rows/s)   (autoscaler) adding 1 node",
    ):
        assert parsed_progress(line) is None


def test_a_table_has_a_row_for_each_stage() -> None:
    line = (
        "   12 s  fetch 64/1000 (5.0 rows/s)   small 32/1000 (2.5 rows/s), 41% escalated, 3 failed"
    )
    progress = parsed_progress(line)
    assert progress is not None
    console = Console(file=io.StringIO(), width=100)
    console.print(progress_table(progress))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue().splitlines()
    assert text[1].split() == ["fetch", "64", "1,000", "5.0"]
    assert text[2].split() == ["small", "32", "1,000", "2.5", "41%", "3"]
