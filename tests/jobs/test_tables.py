from jobs.tables import accuracy, failures, overlap, pool_bill, pruning, summary_table
from pipeline.bill import Bill, PoolBill
from pipeline.measured import Measured, Part
from pipeline.summary import Accuracy
from sgl.statistics import Estimate
from tests.pipeline.test_summary import failed, large, rows, small, summary_of

BILL = Bill({"large": PoolBill(10.0, 4.0, 0.0, 3.0, 2.0, 0.9, 0.05)}, {}, {}, ())


def test_a_pools_bill_names_every_part_and_what_is_missing() -> None:
    assert pool_bill(BILL.pools["large"]) == (
        "10.0 device-seconds reserved, 0.0500 USD: rows 40.0%, probe 0.0%, start-up 30.0%, "
        "idle 20.0%, recomputed 9.0%, unexplained 1.0%"
    )


def test_pruning_states_its_three_figures_together() -> None:
    assert pruning(summary_of(rows(large()), "run")) == (
        "prune layer 0.2, keep ratio 0.3, average retention 40.0%"
    )
    assert pruning(summary_of(rows(small()), "run")) == "none"


def test_failures_are_told_by_type() -> None:
    table = rows(small(), failed(), failed(), failed("EmptyQuestionError"))
    assert failures(summary_of(table, "run")) == "3 (1 EmptyQuestionError, 2 ImageError)"
    assert failures(summary_of(rows(small()), "run")) == "0"


def test_accuracy_names_its_parts() -> None:
    told = accuracy(Accuracy(0.75, {"small": 0.5, "large": 1.0}, 0.25))
    assert told == "75.0% (small route 50.0%, large route 100.0%, small model alone 25.0%)"


def test_overlap_tells_before_from_after() -> None:
    assert overlap(1.5) == "1.5 s before the small stage ended"
    assert overlap(-1.5) == "1.5 s after the small stage ended"


def test_a_summary_shows_the_fill_of_the_large_batches() -> None:
    table = summary_table(summary_of(rows(*[large(batch=3)] * 3), "run"), 4, 1.0, BILL)
    (cells,) = [list(c.cells) for c in table.columns[1:]]
    assert "1, 75.0% full of 4" in cells


def test_agreement_is_told_apart_where_an_alarm_came_between() -> None:
    whole, half, one = (Estimate(value, value, value) for value in (0.8, 0.6, 1.0))
    measured = Measured(200, whole, half, Part(100, half), Part(100, one))
    cells = shown(measured)
    assert cells["agreement with the large model alone"].startswith("0.800")
    assert cells["  as the cascade answered"].startswith("0.600 [0.600, 0.600] on 100 probed")
    assert cells["  as the fail-safe did"].startswith("1.000")
    alone = shown(Measured(100, half, half, Part(100, half), None))
    assert "  as the cascade answered" not in alone


def shown(measured: Measured) -> dict[str, str]:
    table = summary_table(summary_of(rows(large()), "run"), 4, 1.0, BILL, measured)
    names, values = (list(column.cells) for column in table.columns)
    return dict(zip(map(str, names), map(str, values), strict=True))
