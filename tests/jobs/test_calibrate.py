"""`sgl calibrate`, from a dataset to a policy that a run goes by; of models whose ways we know."""

import io
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from actors.batching import Watch, unwatched
from actors.config import PruningConfig
from actors.large_vlm import GuidedQuestion
from infra.s3 import DEFAULT
from jobs import calibrate as module
from jobs.calibrate import (
    INFEASIBLE,
    calibrate_to,
    counts_money,
    policy_of,
    prices_of,
    run_calibration,
    targets_of,
)
from jobs.calibrate_config import CalibrationConfig, calibration_of
from jobs.calibrate_tables import described, kinds_of, sizes_needed, told
from jobs.cli import main
from jobs.run import run_job
from pipeline.build import Loaders
from pipeline.config import JobConfig, Mode
from pipeline.observations import Prices, observe
from pipeline.output import Output
from pipeline.policy import read_policy, settings_of
from pipeline.run_record import PoolRecord, begun
from sgl.bounds import mean_p
from sgl.calibration import Candidate, Choice, Pruned
from sgl.errors import ConfigurationError
from sgl.sample_size import LEARNING_SHARE
from sgl.types import Answer, Failure, Guidance, ImageQuestion
from tests.pipeline.fakes import FakeLarge, FakeSmall, Load, score_of
from tests.pipeline.inputs import job_of, records, write_parquet
from tests.pipeline.test_study import GUIDED, RANDOM, output_of, row

COUNT = 400
GENTLE, HARSH = (PruningConfig(prune_layer=0.4, keep_ratio=one) for one in (0.5, 0.05))


class Small(FakeSmall):
    """Says what the large model says where its score is above 0.3, and seldom where it is not."""

    def run(
        self, records: Sequence[ImageQuestion], watch: Watch = unwatched
    ) -> list[Guidance | Failure]:
        return [
            one
            if isinstance(one, Failure)
            else replace(one, answer="yes" if one.exit_score > 0.3 else "no")
            for one in super().run(records, watch)
        ]


class Large(FakeLarge):
    """Says yes; pruned gently nearly always, pruned harshly every other time. Pruning is cheap."""

    def _answer(self, request: GuidedQuestion, records: int) -> Answer | Failure:
        answer = super()._answer(request, records)
        assert isinstance(answer, Answer)
        ratio = request.pruning.keep_ratio if request.pruning else 1.0
        number = int(request.record.id[1:])
        wrong = {0.5: number % 200 == 0, 0.05: number % 2 == 0}.get(ratio, False)
        usage = replace(answer.usage, flops=1e7 * (0.2 + 0.8 * ratio))
        return replace(answer, text="no" if wrong else "yes", usage=usage)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    answers = [["yes"]] * COUNT
    return write_parquet(folder / "in.parquet", records(COUNT, answers=answers))


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of the models' logs."""
    log = tmp_path / "log"
    log.mkdir()
    loaders = Loaders(Load(Small, log), Load(Large, log))  # type: ignore[arg-type]
    monkeypatch.setattr(module, "run_job", partial(run_job, loaders=loaders))
    return log


def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def text(screen: Console) -> str:
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def job_on(source: Path, folder: Path, **settings: Any) -> JobConfig:
    return job_of(source, folder / "sample", rows_per_block=64, **settings)


CONFIG = CalibrationConfig(records=350, agreement=0.95, prunings=(GENTLE, HARSH))


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_from_a_dataset_to_a_policy_that_a_run_goes_by(
    source: Path, models: Path, tmp_path: Path
) -> None:
    screen, path = console(), tmp_path / "policy.yaml"
    job = job_on(source, tmp_path)
    assert calibrate_to(str(path), job, CONFIG, screen) == 0
    policy = read_policy(path)
    # The score below which the small model is wrong, within what 245 records can tell apart.
    assert 0.24 <= policy.threshold <= 0.5
    assert (policy.mode, policy.pruning) == (Mode.CASCADE, GENTLE)
    assert policy.guarantees[0].estimate >= 0.95
    assert policy.records == 245
    assert policy.cost["policy"] < policy.cost["large_only"] / 2
    assert "keeps agreement 0.95; no more is promised" in text(screen)
    rows = pq.read_table(Path(job.output.path) / "rows")
    assert rows.num_rows == 350
    assert set(rows["route"].to_pylist()) == {"large"}

    # The same command again asks no model, and chooses the same.
    before = len(list(models.iterdir()))
    again = run_calibration(job, CONFIG, console())
    assert again == policy.model_copy(update={"created_at": again and again.created_at})
    assert len(list(models.iterdir())) == before
    with pytest.raises(ConfigurationError, match="is there already"):
        calibrate_to(str(path), job, CONFIG, console())

    # And what it promises holds on all records.
    written = job.model_dump(exclude_unset=True)
    for name in ("threshold", "pruning", "mode"):
        written.pop(name, None)
    written["output"] = {"path": str(tmp_path / "out")}
    outcome = module.run_job(JobConfig.model_validate(settings_of(policy, written)), console())
    rows = pq.read_table(Path(outcome.job.output.path) / "rows")
    assert np.mean([one == "yes" for one in rows["answer"].to_pylist()]) >= 0.95
    assert outcome.summary.escalated == sum(
        score_of(f"r{i:04d}") < policy.threshold for i in range(COUNT)
    )


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster", "models")
def test_what_cannot_be_shown_is_said_and_writes_nothing(source: Path, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"records": 40, "agreement": 0.99})
    screen, path = console(), tmp_path / "policy.yaml"
    assert calibrate_to(str(path), job_on(source, tmp_path), config, screen) == INFEASIBLE
    assert not path.exists()
    assert "cannot be shown" in text(screen)
    assert "records would probably do" in text(screen)

    # The same sample, for what it can show: another target needs no model.
    cheap = CalibrationConfig(
        records=40, escalation_rate=0.6, max_accuracy_drop=0.5, prunings=CONFIG.prunings
    )
    policy = run_calibration(job_on(source, tmp_path), cheap, console())
    assert policy is not None
    assert policy.escalation_rate <= 0.6


def test_the_pruner_that_was_chosen_is_the_policys(tmp_path: Path) -> None:
    rows = [row(i, "yes", "no", exit_score=0.5) for i in range(20)]
    prunings = (GUIDED, RANDOM)
    seen = observe(output_of(tmp_path, rows), prunings, None)
    config = CalibrationConfig(agreement=0.5, prunings=prunings)
    for pruning, words in (
        (GUIDED, "threshold 0.9, prune layer 0.4, keep ratio 0.5"),
        (RANDOM, "threshold 0.9, by random, prune layer 0.4, keep ratio 0.5"),
        (PruningConfig(prune_layer=0.0, keep_ratio=1.0), "threshold 0.9, unpruned"),
    ):
        candidate = Candidate(0.9, Pruned(**{"pruner": "guided"} | pruning.model_dump()))
        choice = Choice(candidate, {"agreement": 0.1}, (candidate,), 20)
        assert policy_of(job_of("in", "out"), config, seen, choice).pruning == pruning
        assert described(candidate) == words


@pytest.mark.parametrize(("values", "says"), [({}, False), ({"budget_usd_per_1k": 0.5}, True)])
def test_what_a_budget_rests_on_is_said(values: dict[str, Any], says: bool, tmp_path: Path) -> None:
    config = CalibrationConfig(agreement=0.5, **values)
    rows = [row(i, "yes", "no", exit_score=0.5) for i in range(20)]
    seen = observe(output_of(tmp_path, rows), (GUIDED, RANDOM), None)
    candidate = Candidate(0.9, Pruned(0.4, 0.5))
    estimates = dict.fromkeys(config.targets(), 0.0001)
    lines = told(seen, config, Choice(candidate, estimates, (candidate,), 20))
    assert any("of the cost this is an estimate" in line for line in lines) == says


def test_a_budget_needs_prices_of_the_job_or_of_the_run_that_wrote_the_sample(
    source: Path, tmp_path: Path
) -> None:
    job, output = job_on(source, tmp_path), Output(str(tmp_path), "fingerprint", DEFAULT)
    with pytest.raises(ConfigurationError, match=r"write pools\.small\.usd_per_hour"):
        prices_of(job, output)
    record = begun("run", {role: pool_at(36.0) for role in ("small", "large")})
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "run.json").write_text(record.model_dump_json())
    assert prices_of(job, output) == Prices(0.01, 0.01)
    own = {"small": {"usd_per_hour": 3.6}, "large": {"usd_per_hour": 7.2}}
    assert prices_of(job_on(source, tmp_path, pools=own), output) == Prices(0.001, 0.002)


def pool_at(usd_per_hour: float) -> PoolRecord:
    return PoolRecord(
        replicas=1, devices=1.0, device="cpu", usd_per_hour=usd_per_hour, price="as given"
    )


def test_cost_is_flops_unless_money_is_spoken_of(source: Path, tmp_path: Path) -> None:
    asked = CalibrationConfig(agreement=0.9)
    assert not counts_money(job_on(source, tmp_path), asked)
    assert counts_money(job_on(source, tmp_path), CalibrationConfig(budget_usd_per_1k=1.0))
    assert counts_money(job_on(source, tmp_path, pricing={"plan": "spot"}), asked)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "no target; write --agreement"),
        ({"agreement": 98}, "--agreement: .*less than 1"),
        ({"agreement": 0.9, "metric": "bleu"}, "--metric: there is no metric 'bleu'"),
        ({"agreement": 0.9, "records": 5}, "--records: "),
        ({"agreement": 0.9, "delta": 0}, "--delta: "),
        ({"agreement": 0.9, "seed": -1}, "--seed: "),
        ({"agreement": 0.9, "seed": 2**63}, "--seed: "),
        ({"max_accuracy_drop": 0}, "--max-accuracy-drop: "),
    ],
)
def test_mistakes_are_explained(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        calibration_of(values)


@pytest.mark.parametrize("option", ["--mode", "--threshold", "--prune-layer", "--keep-ratio"])
def test_what_is_to_be_chosen_is_no_option(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["calibrate", "--plan", "--agreement", "0.9", option, "0.5"])
    assert f"unrecognized arguments: {option}" in capsys.readouterr().err


def test_the_size_of_a_sample_is_told_before_anything_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["calibrate", "--plan", "--agreement", "0.9", "--max-accuracy-drop", "0.02"]) == 0
    told = capsys.readouterr().out
    assert "agreement 0.9" in told
    sizes = sizes_needed(CalibrationConfig(agreement=0.9))
    column = [int(str(cell).replace(",", "")) for cell in sizes.columns[1].cells]
    assert column == sorted(column)
    # Nothing wrong among 29 shows at most a tenth; the rest of 41 only orders.
    assert 35 <= column[0] <= 45


@pytest.mark.parametrize("values", [{"max_accuracy_drop": 0.1}, {"agreement": 0.9}])
@pytest.mark.parametrize("metric", ["exact_match", "anls"])
def test_the_size_is_that_of_the_test_that_will_be_made(
    values: dict[str, float], metric: str, tmp_path: Path
) -> None:
    config = CalibrationConfig(**values, metric=metric)  # type: ignore[arg-type]
    rows = [row(i, "yes", "no", exit_score=0.5) | {"answers": ["yes"]} for i in range(20)]
    seen = observe(output_of(tmp_path, rows), (GUIDED, RANDOM), None)
    (target,) = targets_of(seen, config)
    assert kinds_of(config) == {target.name: target.losses.kind}
    cells = list(sizes_needed(config).columns[1].cells)
    size = int(str(cells[2]).replace(",", ""))
    losses = (np.arange(size) % 20 == 0).astype(float)
    tested = losses[: size - int(size * LEARNING_SHARE)]
    assert mean_p(tested, 0.1, target.losses.kind) <= config.delta
    assert mean_p(tested[: len(tested) // 4], 0.1, target.losses.kind) > config.delta
