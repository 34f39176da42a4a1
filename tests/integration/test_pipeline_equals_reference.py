"""Real models through Ray, row by row against `sgl.run_cascade` on the same records."""

import io
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

import sgl
from actors.batching import MOST_PADDING
from jobs.run import Outcome, run_job
from pipeline.config import JobConfig
from sgl.types import Answer, Guidance, ImageQuestion
from tests.tiny_models import WORDS, internvl, picture

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]

COUNT = 30
MAX_NEW = 4
SHAPES = ((32, 32), (64, 32), (32, 96), (70, 50))
PRUNING = {"prune_layer": 0.25, "keep_ratio": 0.3}


def save(vlm: sgl.VLM, folder: Path) -> Path:
    for part in (vlm.model, vlm.tokenizer, vlm.family.image_processor):
        part.save_pretrained(folder)
    return folder


def record(number: int) -> ImageQuestion:
    """Every tenth is without an image."""
    pixels = picture(number, *SHAPES[number % len(SHAPES)])
    words = WORDS[number : number + 3 + number % 5]
    images = () if number % 10 == 7 else (pixels,)
    return ImageQuestion(f"r{number:02d}", " ".join(words), images, 1 + number % MAX_NEW)


def png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


@dataclass(frozen=True)
class Case:
    """Two checkpoints, the records' file, and what the reference says about them."""

    models: dict[str, Any]
    path: Path
    records: list[ImageQuestion]
    guidance: list[Guidance]
    threshold: float
    answers: list[Answer]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("models")
    small = save(internvl(seed=0), folder / "small")
    large = save(internvl(seed=1, text={"num_hidden_layers": 8}), folder / "large")
    records = [record(number) for number in range(COUNT)]
    vlm = sgl.load(small, device="cpu")
    guidance = vlm.guide(records, max_new_tokens=MAX_NEW)
    threshold = clear_threshold([one.exit_score for one in guidance])
    answers = sgl.run_cascade(
        vlm,
        sgl.load(large, device="cpu"),
        records,
        threshold=threshold,
        max_new_tokens=MAX_NEW,
        **PRUNING,
    )
    path = folder / "in.parquet"
    pq.write_table(input_table(records), path)
    models = {
        "small": {"path": str(small), "batch_size": 5},
        "large": {"path": str(large), "batch_size": 4},
    }
    return Case(models, path, records, guidance, threshold, answers)


def clear_threshold(scores: list[float]) -> float:
    """In the widest gap of the middle half, so that rounding moves no record across it."""
    middle = sorted(scores)[COUNT // 4 : -COUNT // 4]
    low, high = max(pairwise(middle), key=lambda pair: pair[1] - pair[0])
    assert high - low > 1e-3
    return (low + high) / 2


def input_table(records: list[ImageQuestion]) -> pa.Table:
    """The records, and one whose picture is damaged."""
    broken = png(picture(99, 32, 32))[:-40]
    return pa.table(
        {
            "id": [one.id for one in records] + ["bad"],
            "question": [one.question for one in records] + ["w1"],
            "image": [png(np.asarray(one.images[0])) if one.images else None for one in records]
            + [broken],
            "max_new_tokens": [one.max_new_tokens for one in records] + [None],
        }
    )


def run(case: Case, folder: Path, **settings: Any) -> tuple[Outcome, dict[str, dict[str, Any]]]:
    job = JobConfig.model_validate(
        {
            "input": {"path": str(case.path), "text_only": True},
            "output": {"path": str(folder / "out"), **settings.pop("output", {})},
            "models": case.models,
            "threshold": case.threshold,
            "pruning": PRUNING,
            "decoding": {"max_new_tokens": MAX_NEW},
            "rows_per_block": 7,
            **settings,
        }
    )
    outcome = run_job(job, Console(quiet=True))
    rows = pq.read_table(folder / "out" / "rows").to_pylist()
    assert Counter(row["id"] for row in rows) == dict.fromkeys(
        [*(one.id for one in case.records), "bad"], 1
    )
    return outcome, {row["id"]: row for row in rows}


@pytest.fixture(scope="module")
def cascade(
    case: Case, ray_cluster: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Outcome, dict[str, dict[str, Any]]]:
    return run(case, tmp_path_factory.mktemp("cascade"), output={"write_importance": True})


def test_answers_routes_and_tokens_are_the_references(case: Case, cascade: Any) -> None:
    _, rows = cascade
    assert {answer.route.value for answer in case.answers} == {"small", "large"}
    for answer in case.answers:
        row, guidance = rows[answer.id], answer.guidance
        assert guidance is not None
        assert row["route"] == answer.route.value
        assert row["answer"] == answer.text
        assert row["small_answer"] == guidance.answer
        assert row["visual_tokens"] == answer.usage.visual_tokens
        assert row["small_completion_tokens"] == len(guidance.token_ids)
        assert row["error"] is None
        if answer.route.value == "small":
            assert row["large_gpu_s"] is None
        else:
            assert row["large_completion_tokens"] == len(answer.token_ids)
        if answer.pruning is None:
            assert row["average_retention"] is None
        else:
            assert row["kept_tokens"] == answer.usage.kept_tokens
            assert row["prune_layer"] == answer.pruning.prune_layer
            assert row["keep_ratio"] == answer.pruning.keep_ratio
            assert row["average_retention"] == pytest.approx(answer.pruning.average_retention)


def test_scores_importance_and_flops_are_the_references(case: Case, cascade: Any) -> None:
    _, rows = cascade
    for answer, guidance in zip(case.answers, case.guidance, strict=True):
        row = rows[answer.id]
        assert row["criterion"] == "mean"
        for name, score in asdict(guidance.certainty).items():
            assert row[name] == pytest.approx(score, rel=1e-4)
        assert row["exit_score"] == pytest.approx(guidance.exit_score, rel=1e-4)
        relative = guidance.importance / guidance.importance.max(initial=1e-9)
        np.testing.assert_allclose(np.array(row["importance"]), relative, rtol=2e-3, atol=2e-4)
        flops = guidance.usage.flops
        if answer.route.value == "large":
            flops += answer.usage.flops
        assert row["flops"] == pytest.approx(flops)
        assert row["small_gpu_s"] > 0


def test_a_damaged_picture_is_a_failed_row_and_the_job_ends_well(cascade: Any) -> None:
    outcome, rows = cascade
    assert rows["bad"]["route"] == "failed"
    assert rows["bad"]["error"] == {
        "stage": "fetch",
        "type": "ImageError",
        "message": "the image is truncated or damaged",
    }
    assert outcome.summary.failed == {"ImageError": 1}


def test_the_large_model_ran_for_doubtful_records_only_in_batches_of_like_length(
    case: Case, cascade: Any
) -> None:
    summary = cascade[0].summary
    doubtful = sum(one.exit_score < case.threshold for one in case.guidance)
    assert summary.escalated == summary.doubtful == doubtful
    # Three of them would do, were the pictures of one size.
    assert doubtful / 4 <= summary.large_batches <= doubtful / 2
    assert all(share <= MOST_PADDING for share in summary.padding.values())


def test_the_large_mode_is_the_unpruned_model(case: Case, tmp_path: Path) -> None:
    _, rows = run(case, tmp_path, mode="large")
    large = sgl.load(case.models["large"]["path"], device="cpu")
    for answer in large.answer(case.records, max_new_tokens=MAX_NEW):
        assert rows[answer.id]["answer"] == answer.text
        assert rows[answer.id]["average_retention"] is None
