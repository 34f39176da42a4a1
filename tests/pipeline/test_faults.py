"""The graph on a local Ray among records that end processes, and replicas that cannot start."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import JobConfig, Mode
from sgl.errors import ReplicaError
from tests.pipeline.fakes import (
    DeadlyFetch,
    Endless,
    FakeLarge,
    FakeSmall,
    LostDevice,
    Stillborn,
    Unreadable,
    calls,
    guidance_of,
    score_of,
)
from tests.pipeline.inputs import job_of, records, write_parquet
from tests.pipeline.tables import picture_question
from tests.pipeline.test_build import Finished, by_id, execute

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

COUNT = 24
ORDERS = {
    "r0001": ("small segfaults", "CrashError"),
    "r0013": ("fetch exits", "CrashError"),
    "r0020": ("large exits", "CrashError"),
}
"""By record; one in each block of eight, and the large model's is among the doubtful."""


@pytest.fixture(scope="module")
def deadly(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("deadly")
    return run_deadly(job_among(ORDERS, folder, COUNT), folder)


def job_among(
    orders: dict[str, tuple[str, str]], folder: Path, count: int, **settings: Any
) -> JobConfig:
    columns = records(count)
    for name, (order, _) in orders.items():
        columns["question"][columns["id"].index(name)] = order
    path = write_parquet(folder / "in.parquet", columns)
    return job_of(path, folder / "out", faults={"max_deaths": 1}, **settings)


def run_deadly(job: JobConfig, folder: Path) -> Finished:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.build.FetchStage", DeadlyFetch)
        return execute(job, folder)


def check_rows(finished: Finished, orders: dict[str, tuple[str, str]], count: int) -> None:
    names = finished.rows["id"].to_pylist()
    assert Counter(names) == {f"r{i:04d}": 1 for i in range(count)}
    rows = by_id(finished.rows)
    failed = {name: row["error"] for name, row in rows.items() if row["route"] == "failed"}
    assert {name: (error["stage"], error["type"]) for name, error in failed.items()} == {
        name: (order.split()[0], error) for name, (order, error) in orders.items()
    }
    for name, row in rows.items():
        if name not in orders:
            guidance = guidance_of(picture_question(int(name[1:])))
            assert row["small_answer"] == guidance.answer
            bright = guidance.answer.split()[1]
            large = f"large {bright} {guidance.importance.sum():.4f}"
            exits = finished.job.mode is Mode.SMALL or score_of(name) >= 0.6
            assert row["answer"] == (guidance.answer if exits else large)


def sizes(finished: Finished, role: str, name: str) -> list[int]:
    return [len(batch) for batch in calls(finished.log, role) if name in batch]


def test_records_that_end_processes_fail_and_all_others_get_their_answers(
    deadly: Finished,
) -> None:
    check_rows(deadly, ORDERS, COUNT)
    assert "died 1 times" in by_id(deadly.rows)["r0001"]["error"]["message"]


def test_each_of_them_ran_in_company_once_and_then_alone(deadly: Finished) -> None:
    for name, role in (("r0001", "small"), ("r0020", "large")):
        company, alone = sizes(deadly, role, name)
        assert (company > 1, alone) == (True, 1)


def test_a_record_that_hangs_with_the_interpreter_is_ended_by_the_deadline(
    tmp_path: Path,
) -> None:
    orders = {"r0003": ("small hangs", "DeadlineError")}
    # One model, here and below: every actor costs seconds.
    job = job_among(orders, tmp_path, 8, mode="small", pools={"small": {"deadline_s": 3}})
    finished = execute(job, tmp_path)
    check_rows(finished, orders, 8)
    assert "within 3 s" in by_id(finished.rows)["r0003"]["error"]["message"]


def test_another_driver_does_not_run_them_again(deadly: Finished, tmp_path: Path) -> None:
    for lost in ("rows", "checkpoint"):  # as if the first had died before it committed
        shutil.rmtree(Path(deadly.job.output.path) / lost)
    again = run_deadly(deadly.job, tmp_path)
    check_rows(again, ORDERS, COUNT)
    assert sizes(again, "small", "r0001") == sizes(again, "large", "r0020") == []


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ({"small": Unreadable}, "the small model small could not be loaded: .*weights are gone"),
        ({"large": Unreadable}, "the large model large could not be loaded: .*weights are gone"),
        ({"small": Stillborn}, "small model small died 2 times .* last time while loading"),
        ({"large": Endless}, r"the large model large was not loaded within 2 s .*pools.large"),
        ({"small": LostDevice}, "small model small died 2 times .* last time while at work"),
    ],
)
def test_replicas_that_get_nowhere_are_one_clear_error(
    classes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    job = job_of(
        write_parquet(tmp_path / "in.parquet", records(8)),
        tmp_path / "out",
        mode=next(iter(classes)),
        pools={"large": {"start_deadline_s": 2 if "large" in classes else 600}},
        faults={"max_restarts": 1},
    )
    with pytest.raises(ReplicaError, match=says):
        execute(job, tmp_path, **({"small": FakeSmall, "large": FakeLarge} | classes))
