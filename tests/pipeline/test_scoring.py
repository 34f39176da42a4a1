"""Outputs made by hand, scored by hand."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.answer_store import AnswerStore
from pipeline.evaluation import Evaluation, evaluate
from pipeline.output import JobRecord, Output
from pipeline.schema import OUTPUT
from pipeline.scores import Wanted
from pipeline.scoring import score_output
from sgl.errors import ConfigurationError
from sgl.statistics import wilson
from tests.pipeline.outputs import FINGERPRINT, base_of, output_at, put

ANSWERS = pa.list_(pa.string())


def make_output(
    folder: Path, *files: list[dict[str, Any]], types: dict[str, Any] | None = None
) -> Path:
    """Committed rows, a file per list; columns that OUTPUT lacks are carried ones."""
    output = output_at(folder)
    record = JobRecord(
        fingerprint=FINGERPRINT,
        run_id="r",
        records=sum(map(len, files)),
        identity={},
        precision={},
        versions={},
        job={},
    )
    output.tell(record)
    fields = [pa.field(name, type_) for name, type_ in (types or {}).items()]
    for task, rows in enumerate(files):
        table = pa.Table.from_pylist(rows, schema=pa.schema([*OUTPUT, *fields]))
        put(output, output.rows, f"{base_of(task)}-0.parquet", table)
        put(output, output.checkpoint, f"{base_of(task)}.parquet", table.select(["id"]))
    return folder


def small(name: str, answer: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "route": "small", "answer": answer, "small_answer": answer, **more}


def large(name: str, answer: str, said: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "route": "large", "answer": answer, "small_answer": said, **more}


def failed(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "route": "failed", **more}


def evaluation(folder: Path, **wanted: Any) -> Evaluation:
    return evaluate(score_output(str(folder), Wanted(**wanted)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cats = {"answers": ["cat"], "kind": "animal"}
    tens = {"answers": ["10", "ten"], "kind": "number"}
    return make_output(
        tmp_path / "out",
        [
            small("a", "Cat.", **cats),
            large("b", "cat", "dog", **cats),
            large("c", "dog", "cat", **cats),
            failed("d", **cats),
        ],
        [
            small("e", "10.4", **tens),
            large("f", "Ten", "9", **tens),
            small("g", "never mind", answers=None, kind="number"),
        ],
        types={"answers": ANSWERS, "kind": pa.string()},
    )


def test_scores_by_role_route_and_group(folder: Path) -> None:
    found = evaluation(folder, by="kind")
    assert (found.overall.records, found.overall.failed, found.unscored) == (6, 1, 1)
    assert found.overall.answer == wilson(3, 6)
    assert found.overall.small_answer == wilson(2, 6)
    assert {line.name: line.answer for line in found.routes} == {
        "small": wilson(1, 2),
        "large": wilson(2, 3),
    }
    assert {line.name: (line.records, line.failed) for line in found.groups} == {
        "animal": (4, 1),
        "number": (2, 0),
    }


def test_groups_may_have_measures_of_their_own(folder: Path) -> None:
    found = evaluation(folder, by="kind", metrics={"number": "relaxed_accuracy"})
    assert {line.name: line.metric for line in found.groups} == {
        "animal": "exact_match",
        "number": "relaxed_accuracy",
    }
    assert found.overall.metric == "several"
    assert found.overall.answer.value == 4 / 6


def test_a_measure_may_go_by_the_name_of_the_group(folder: Path) -> None:
    found = evaluation(folder, by="kind", metric="by_kind")
    assert [line.metric for line in found.groups] == ["exact_match", "relaxed_accuracy"]


def test_rows_of_one_image_stand_together(tmp_path: Path) -> None:
    rows = [
        small(f"{i}", "x" if i // 10 % 2 else "y", answers=["x"], page=i // 10) for i in range(60)
    ]
    folder = make_output(tmp_path, rows, types={"answers": ANSWERS, "page": pa.int64()})
    alone, together = evaluation(folder).overall.answer, evaluation(folder, cluster="page").overall
    assert together.answer.value == alone.value == 0.5
    assert together.answer.high - together.answer.low > 2 * (alone.high - alone.low)


def test_agreement_with_another_output(folder: Path, tmp_path: Path) -> None:
    other = make_output(
        tmp_path / "large",
        [large("c", "Dog", "-"), large("b", "bird", "-"), failed("a"), large("z", "cat", "-")],
    )
    found = evaluation(folder, reference=str(other))
    assert (found.overall.records, found.unscored) == (2, 5)
    assert found.overall.answer == wilson(1, 2)


def test_an_output_agrees_with_itself_in_everything_but_failures(folder: Path) -> None:
    found = evaluation(folder, reference=str(folder))
    assert found.overall.answer == wilson(6, 6)


def test_a_column_of_text_is_a_reference(tmp_path: Path) -> None:
    rows = [small("a", "x", gold="x"), small("b", "x", gold="y"), small("c", "x", gold=None)]
    folder = make_output(tmp_path, rows, types={"gold": pa.string()})
    found = evaluation(folder, reference="gold")
    assert (found.overall.answer, found.unscored) == (wilson(1, 2), 1)


def test_options_of_the_row_tell_what_a_text_means(tmp_path: Path) -> None:
    rows = [
        small("a", "a dog", answers=["B"], options=["a cat", "a dog"]),
        small("b", "a dog", answers=["B"], options=["a dog", "a cat"]),
    ]
    types = {"answers": ANSWERS, "options": pa.list_(pa.string())}
    found = evaluation(make_output(tmp_path, rows, types=types), metric="multiple_choice")
    assert found.overall.answer == wilson(1, 2)


def test_yes_and_no_have_figures_of_their_own(tmp_path: Path) -> None:
    rows = [
        small("a", "Yes.", answers=["yes"], kind="x"),
        small("b", "Yes.", answers=["no"], kind="x"),
        failed("c", answers=["no"], kind="y"),
    ]
    folder = make_output(tmp_path, rows, types={"answers": ANSWERS, "kind": pa.string()})
    found = evaluation(folder, metric="yes_no", by="kind")
    x, y = (line.yes_no for line in found.groups)
    assert x is not None
    assert y is not None
    assert (x.precision, x.recall, x.yes_share) == (0.5, 1, 1)
    assert (y.unclear, y.accuracy) == (1, 0)
    assert found.overall.yes_no == x + y


def test_captions_are_scored_over_the_whole_corpus(tmp_path: Path) -> None:
    pytest.importorskip("pycocoevalcap.cider.cider_scorer")
    one, other = "a cat sits here", "one dog runs fast"
    rows = [
        large("a", one, other, answers=[one]),
        small("b", other, answers=[other]),
        failed("c", answers=["red cars drive by"]),
    ]
    folder = make_output(tmp_path, rows, types={"answers": ANSWERS})
    found = evaluation(folder, metric="cider_d")
    assert found.overall.answer.value == pytest.approx(20 / 3, abs=1e-3)
    assert found.overall.small_answer is not None
    assert found.overall.small_answer.value == pytest.approx(10 / 3, abs=1e-3)


def test_an_output_of_the_large_model_alone_has_no_small_figures(tmp_path: Path) -> None:
    row = {"id": "a", "route": "large", "answer": "x", "answers": ["x"]}
    found = evaluation(make_output(tmp_path, [row], types={"answers": ANSWERS}))
    assert found.overall.small_answer is None


def test_only_committed_files_count_and_damaged_ones_are_told(folder: Path) -> None:
    output = output_at(folder)
    uncommitted = pa.Table.from_pylist([small("z", "q")], schema=OUTPUT)
    put(output, output.rows, f"{base_of(7)}-0.parquet", uncommitted)
    path = Path(output.rows) / f"{base_of(0)}-0.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    found = evaluation(folder)
    assert (found.overall.records, found.damaged) == (2, 1)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"metric": "bleu"}, "no metric 'bleu'"),
        ({"by": "page"}, "--by: no column 'page'; it carries answers, kind"),
        ({"cluster": "page"}, "--cluster: no column 'page'"),
        ({"reference": "gold"}, "--reference: 'gold' is no column"),
        (
            {"by": "kind", "metrics": {"animals": "anls"}},
            "no scored record has 'animals' in column 'kind'; there are animal, number",
        ),
        ({"reference": "exit_score"}, "holds double; it must hold texts"),
    ],
)
def test_what_cannot_be_scored_is_refused(wanted: dict[str, Any], says: str, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=says):
        evaluation(folder, **wanted)


def test_outputs_without_rows_answers_or_common_ids_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="no output of sgl run"):
        evaluation(tmp_path)
    empty = Output(str(tmp_path / "empty"), FINGERPRINT, output_at(tmp_path).storage)
    record = output_at(folder).record()
    assert record is not None
    empty.tell(record)
    with pytest.raises(ConfigurationError, match="no rows are committed"):
        evaluation(tmp_path / "empty")
    bare = make_output(tmp_path / "bare", [small("x", "y")])
    with pytest.raises(ConfigurationError, match="has no column 'answers'"):
        evaluation(bare)
    with pytest.raises(ConfigurationError, match="ids are not those of the other output"):
        evaluation(folder, reference=str(bare))


def test_the_store_knows_missing_from_empty() -> None:
    with AnswerStore() as store:
        store.add([("a", "x"), ("b", None)])
        store.add((f"{i}", f"answer {i}") for i in range(2000))
        assert store.find(["a", "b", "zz"]) == {"a": "x", "b": None}
        assert store.find([f"{i}" for i in range(2000)])["1999"] == "answer 1999"
