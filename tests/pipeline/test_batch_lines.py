"""Rows as lines of OpenAI's batch output, read by the types of its own client."""

from datetime import UTC, datetime
from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from pipeline.batch_lines import failure, result
from pipeline.output import JobRecord

JOB = JobRecord(
    fingerprint="0123456789ab",
    run_id="run",
    records=1,
    identity={},
    precision={},
    versions={},
    job={"models": {"small": {"path": "/models/tiny/"}, "large": {"path": "lab/Large-8B"}}},
)
WHEN = datetime(2026, 11, 21, 12, tzinfo=UTC)


def row(route: str = "small", **cells: Any) -> dict[str, Any]:
    given = {
        "id": "a",
        "answer": "yes",
        "route": route,
        "small_finished_at": WHEN,
        "small_prompt_tokens": 20,
        "small_completion_tokens": 3,
        "small_gpu_s": 0.5,
        "visual_tokens": 16,
        "flops": 1e6,
        "answer_ended": True,
    }
    return given | cells


def escalated(**cells: Any) -> dict[str, Any]:
    given = {
        "exit_score": 0.25,
        "criterion": "confidence",
        "confidence": 0.25,
        "threshold": 0.6,
        "small_answer": "no",
        "decision": "escalated",
        "large_finished_at": WHEN,
        "large_prompt_tokens": 30,
        "large_completion_tokens": 4,
        "large_gpu_s": 2.0,
        "kept_tokens": 3,
        "pruner": "guided",
        "prune_layer": 0.2,
        "keep_ratio": 0.2,
        "average_retention": 0.35,
        "cost_usd": 0.001,
    }
    return row("large", **given | cells)


def failed(kind: str) -> dict[str, Any]:
    error = {"stage": "fetch", "type": kind, "message": "what is wrong"}
    return {"id": "a", "route": "failed", "error": error}


def test_the_openai_client_reads_a_completion() -> None:
    line = result(escalated(), JOB)
    completion = ChatCompletion.model_validate(line["response"]["body"])
    assert (line["custom_id"], line["response"]["status_code"], line["error"]) == ("a", 200, None)
    assert completion.choices[0].message.content == "yes"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.model == "Large-8B"
    assert completion.created == int(WHEN.timestamp())
    usage = completion.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (30, 4, 34)


def test_it_tells_what_the_cascade_did() -> None:
    told = result(escalated(), JOB)["response"]["body"]["sgl"]
    assert (told["route"], told["exit_score"], told["threshold"]) == ("large", 0.25, 0.6)
    assert told["reason"] == "the exit score is below the threshold"
    assert told["small_answer"] == "no"
    assert told["scores"]["confidence"] == 0.25
    assert (told["pruning"]["kept_tokens"], told["pruning"]["average_retention"]) == (3, 0.35)
    cost = told["cost"]
    assert (cost["small_device_s"], cost["large_device_s"], cost["usd"]) == (0.5, 2.0, 0.001)


def test_one_model_alone_has_neither_scores_nor_pruning() -> None:
    body = result(row(), JOB)["response"]["body"]
    assert body["model"] == "tiny"
    assert body["usage"]["sgl"]["large"] is None
    told = body["sgl"]
    assert (told["scores"], told["pruning"]) == (None, None)
    assert told["reason"] == "only the small model runs"


@pytest.mark.parametrize(("ended", "reason"), [(True, "stop"), (False, "length"), (None, "stop")])
def test_a_cut_answer_says_so(ended: bool | None, reason: str) -> None:
    """None: a row from before rows told."""
    (choice,) = result(row(answer_ended=ended), JOB)["response"]["body"]["choices"]
    assert choice["finish_reason"] == reason


@pytest.mark.parametrize(
    "kind", ["MalformedRecordError", "ImageNotFoundError", "PromptTooLongError", "RecordError"]
)
def test_a_bad_request_is_told_as_the_endpoint_tells_it(kind: str) -> None:
    line = failure(failed(kind), JOB)
    assert line["custom_id"] == "a"
    assert line["error"] == {"code": kind, "message": "what is wrong"}
    assert line["response"]["status_code"] == 400
    error = line["response"]["body"]["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", kind, None)


@pytest.mark.parametrize(
    "kind", ["CrashError", "DeadlineError", "NumericalError", "OutOfMemoryError", "KeyError"]
)
def test_what_no_request_is_to_blame_for_has_no_response(kind: str) -> None:
    line = failure(failed(kind), JOB)
    assert (line["response"], line["error"]["code"]) == (None, kind)


def test_names_are_those_of_the_record_and_the_job() -> None:
    name = result(row(), JOB)["id"]
    assert name == result(row(answer="other"), JOB)["id"]
    assert name != result(row(id="b"), JOB)["id"]
    assert name != result(row(), JOB.model_copy(update={"fingerprint": "f" * 12}))["id"]
