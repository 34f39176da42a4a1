"""A row as a line of OpenAI's batch output: a chat completion, or an error.

What rows have of the endpoint's own `sgl` object goes with it. Names are made of the record's id,
so that the same rows make the same lines.
"""

import hashlib
import posixpath
from collections.abc import Mapping
from typing import Any

from pipeline.fail_safe import Decision
from pipeline.output import JobRecord
from pipeline.whose_fault import is_of_the_request
from sgl.types import Route

_SCORES = ("confidence", "consistency", "entropy", "margin", "quantile")
_PRUNING = ("pruner", "prune_layer", "keep_ratio", "average_retention", "visual_tokens")
COLUMNS = (
    *("id", "answer", "route", "exit_score", "criterion", *_SCORES, "threshold", "small_answer"),
    *(*_PRUNING, "kept_tokens", "small_prompt_tokens", "small_completion_tokens"),
    *("large_prompt_tokens", "large_completion_tokens", "small_gpu_s", "large_gpu_s"),
    *("cost_usd", "flops", "error", "decision", "small_finished_at", "large_finished_at"),
    "answer_ended",
)
"""Of the rows, that lines are made of; outputs of before lack some."""
_REASONS = {
    Decision.EXITED: "the exit score reaches the threshold",
    Decision.ESCALATED: "the exit score is below the threshold",
    Decision.FAIL_SAFE: "an alarm stands, so the large model answers unpruned",
    Decision.OVER_BUDGET: "the budget is spent, so the small model's answer stands",
}
_NAME_BYTES = 12


def result(row: Mapping[str, Any], job: JobRecord) -> dict[str, Any]:
    """The line of an answered row.

    Args:
        row: with COLUMNS; those that its file lacks may be missing.
        job: that answered it.
    """
    name = _name_of(row, job)
    finished = row.get(f"{row['route']}_finished_at")
    # Rows from before this was told count as whole.
    cut = row.get("answer_ended") is False
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": row["answer"], "refusal": None},
        "logprobs": None,
        "finish_reason": "length" if cut else "stop",
    }
    completion = {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": int(finished.timestamp()) if finished else 0,
        "model": _model(row, job),
        "choices": [choice],
        "usage": _usage(row),
        "sgl": _told(row),
    }
    response = {"status_code": 200, "request_id": f"req_{name}", "body": completion}
    return {**_line(row, name), "response": response, "error": None}


def failure(row: Mapping[str, Any], job: JobRecord) -> dict[str, Any]:
    """The line of a failed row; without a response where it is not the request that is at fault."""
    name, error = _name_of(row, job), row["error"]
    told = {"code": error["type"], "message": error["message"]}
    response = None
    if is_of_the_request(error["type"]):
        body = {"error": {**told, "type": "invalid_request_error", "param": None}}
        response = {"status_code": 400, "request_id": f"req_{name}", "body": body}
    return {**_line(row, name), "response": response, "error": told}


def _line(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"id": f"batch_req_{name}", "custom_id": row["id"]}


def _name_of(row: Mapping[str, Any], job: JobRecord) -> str:
    text = f"{job.fingerprint}\n{row['id']}".encode()
    return hashlib.blake2b(text, digest_size=_NAME_BYTES).hexdigest()


def _model(row: Mapping[str, Any], job: JobRecord) -> str:
    """The last part of the path, or of the hub's name, of the model that gave the answer."""
    path = str(job.job["models"][row["route"]]["path"])
    return posixpath.basename(path.rstrip("/"))


def _usage(row: Mapping[str, Any]) -> dict[str, Any]:
    """Of the model that gave the answer, and of both."""
    both = {role: _spent(row, role) for role in (Route.SMALL.value, Route.LARGE.value)}
    own = both[row["route"]] or {}
    prompt, completion = own.get("prompt_tokens", 0), own.get("completion_tokens", 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"image_tokens": row.get("visual_tokens") or 0},
        "sgl": both,
    }


def _spent(row: Mapping[str, Any], role: str) -> dict[str, Any] | None:
    if row.get(f"{role}_prompt_tokens") is None:
        return None
    return {
        "prompt_tokens": row[f"{role}_prompt_tokens"],
        "completion_tokens": row[f"{role}_completion_tokens"],
        "device_s": row[f"{role}_gpu_s"],
    }


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """The `sgl` object, as far as rows have it."""
    scores = {name: row.get(name) for name in _SCORES}
    pruned = row.get("kept_tokens") is not None
    decision = row.get("decision")
    alone = f"only the {row['route']} model runs"
    return {
        "route": row["route"],
        "reason": _REASONS[Decision(decision)] if decision else alone,
        "criterion": row.get("criterion"),
        "exit_score": row.get("exit_score"),
        "threshold": row.get("threshold"),
        "scores": None if row.get("exit_score") is None else scores,
        "small_answer": row.get("small_answer"),
        "pruning": {name: row.get(name) for name in (*_PRUNING, "kept_tokens")} if pruned else None,
        "cost": {
            "small_device_s": row.get("small_gpu_s") or 0.0,
            "large_device_s": row.get("large_gpu_s") or 0.0,
            "usd": row.get("cost_usd"),
            "currency": "USD",
            "flops": row.get("flops"),
        },
    }
