import numpy as np
import pyarrow as pa
import pytest

from pipeline.report.quality import Yardstick, judge, yardstick_of
from pipeline.report.rows import Chunk
from sgl.metrics import METRICS, metric_named
from tests.pipeline.report.made import chunk, failed, probe, rows, table


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("text", ["yes", "B", "12%", "[10, 20, 30, 40]", "a red cat sits here"])
def test_every_measure_gives_one_to_what_all_accepted_answers_say(name: str, text: str) -> None:
    assert METRICS[name](text, [text]) == pytest.approx(1)


def test_a_row_is_judged_by_accepted_answers() -> None:
    some = [*rows(60), failed(1)]
    some[0]["answers"] = []
    some[1]["answers"] = None
    some[2]["answers"] = ["other", None, some[2]["answer"].upper()]
    judged = judge(chunk(some), Yardstick.ACCURACY, metric_named("exact_match"))
    assert np.isnan(judged.answer[:2]).all()
    assert judged.answer[2] == 1
    assert judged.answer[-1] == 0
    assert np.isnan(judged.small[-1])
    for place, one in enumerate(some[3:60], start=3):
        assert judged.answer[place] == (one["answer"] == "right")
        assert judged.small[place] == (one["small_answer"] == "right")
        assert np.isnan(judged.large[place]) == (one["route"] == "small")


def test_a_row_is_judged_by_the_probe() -> None:
    some = [one | {"probe": probe("wrong")} for one in rows(10)] + rows(5)
    judged = judge(chunk(some), Yardstick.AGREEMENT, metric_named("exact_match"))
    assert judged.answer[:10].tolist() == [one["answer"] == "wrong" for one in some[:10]]
    assert np.isnan(judged.answer[10:]).all()


def test_a_measure_hears_of_the_options() -> None:
    made = table(rows(1)).append_column("options", pa.array([["a cat", "a dog"]]))
    at = made.column_names.index
    for name, value in (("answer", "it is a dog"), ("small_answer", "A")):
        made = made.set_column(at(name), name, pa.array([value]))
    made = made.set_column(at("answers"), "answers", pa.array([["B"]]))
    made = made.set_column(at("route"), "route", pa.array(["large"]))
    judged = judge(Chunk(made), Yardstick.ACCURACY, metric_named("multiple_choice"))
    assert judged.answer[0] == 1


def test_the_best_yardstick_is_taken() -> None:
    texts = pa.list_(pa.string())
    assert yardstick_of(["answers"], [texts], False) is Yardstick.ACCURACY
    assert yardstick_of(["answers"], [pa.int64()], True) is Yardstick.AGREEMENT
    assert yardstick_of([], [], False) is Yardstick.SAME
