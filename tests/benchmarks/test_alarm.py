import pytest

from benchmarks.alarm import false_alarms, main, records_until


def test_order_by_outcome_is_what_makes_alarms_false() -> None:
    assert false_alarms(0.85, 0.1, 1, 20) <= 0.1
    assert false_alarms(0.85, 0.1, 128, 20) > 0.5


def test_a_wider_gap_is_noticed_sooner() -> None:
    assert records_until(0, 0.3, 3) < records_until(0, 0.1, 3)


def test_both_tables_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--trials", "1", "--changes", "1"])
    assert len(capsys.readouterr().out.splitlines()) == 9
