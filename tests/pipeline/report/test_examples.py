import numpy as np

from pipeline.report.examples import Errors, Greatest, Samples, kinds_of, spent_of
from pipeline.report.quality import Yardstick, judge
from sgl.metrics import metric_named
from tests.pipeline.report.made import chunk, failed, rows


def test_the_greatest_are_the_greatest_of_all_parts() -> None:
    some = rows(300)
    values = np.random.default_rng(0).integers(0, 40, 300).astype(float)
    values[7] = np.nan
    greatest = Greatest(12)
    for start in range(0, 300, 70):
        greatest.add(chunk(some[start : start + 70]), values[start : start + 70], "value")
    found = [one["value"] for one in greatest.rows()]
    assert found == sorted(values[~np.isnan(values)], reverse=True)[:12]
    assert greatest.rows()[0]["id"] == some[int(np.nanargmax(values))]["id"]


def test_errors_are_counted_by_kind_with_some_of_each() -> None:
    other = {"stage": "large", "type": "WorkerCrashError", "message": "it died"}
    errors = Errors()
    errors.add(chunk([*rows(5), *(failed(n) for n in range(9)), failed(99, error=other)]))
    most, least = errors.kinds()
    assert (most.stage, most.type, most.rows, len(most.examples)) == ("fetch", "ImageError", 9, 3)
    assert least.examples == [{"id": "f00099", "message": "it died"}]


def test_samples_are_of_their_kind_and_the_same_each_time() -> None:
    some = rows(400)

    def drawn() -> dict[str, list[str]]:
        samples = Samples(5)
        for start in range(0, 400, 100):
            part = chunk(some[start : start + 100])
            judged = judge(part, Yardstick.ACCURACY, metric_named("exact_match"))
            samples.add(part, kinds_of(part, judged, Yardstick.ACCURACY))
        return {kind: [one["id"] for one in rows] for kind, rows in samples.rows().items()}

    first = drawn()
    assert first == drawn()
    by_id = {one["id"]: one for one in some}
    assert {kind: len(ids) for kind, ids in first.items()} == dict.fromkeys(first, 5)
    for kind, said, answer in (("rescued", "wrong", "right"), ("lost", "right", "wrong")):
        for name in first[kind]:
            assert (by_id[name]["small_answer"], by_id[name]["answer"]) == (said, answer)
    assert {by_id[name]["route"] for name in first["exited"]} == {"small"}
    assert first["exited"] != sorted(first["exited"])


def test_where_nothing_tells_right_from_wrong_changes_are_shown() -> None:
    some = chunk([one | {"answers": None} for one in rows(50)])
    judged = judge(some, Yardstick.SAME, metric_named("exact_match"))
    kinds = kinds_of(some, judged, Yardstick.SAME)
    assert kinds.keys() == {"changed", "exited", "escalated"}
    pairs = zip(some.texts("answer"), some.texts("small_answer"), strict=True)
    assert kinds["changed"].tolist() == [answer != small for answer, small in pairs]


def test_without_prices_the_dearest_took_the_most_device_seconds() -> None:
    some = [one | {"cost_usd": None} for one in rows(20)]
    name, spent = spent_of(chunk(some))
    assert name == "device_s"
    assert spent[0] == some[0]["small_gpu_s"] + some[0].get("large_gpu_s", 0)
