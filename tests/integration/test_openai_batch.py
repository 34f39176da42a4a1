"""A batch of OpenAI's through the testbed's models and back, read by OpenAI's own types."""

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from openai.types.chat import ChatCompletion
from rich.console import Console

from jobs.run import run_job
from jobs.settings import checked
from testbed.records import Record, draw_records, encode_png
from tests.pipeline.inputs import write_jsonl
from tests.pipeline.test_openai_batch import image, request, text, user

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


def shown(record: Record) -> dict[str, Any]:
    return image(f"data:image/png;base64,{base64.b64encode(encode_png(record.image)).decode()}")


def asked(record: Record, name: str | None = None, **body: Any) -> dict[str, Any]:
    messages = user([shown(record), text(record.question.text)])
    return request(name or record.id, messages, **body)


def answered(folder: Path, lines: list[dict[str, Any]]) -> dict[str, ChatCompletion]:
    """By custom_id, all of them answered."""
    write_jsonl(folder / "in.jsonl", lines)
    job = checked(
        {
            "input": {"path": str(folder / "in.jsonl"), "text_only": True},
            "output": {"path": str(folder / "out")},
            "models": {"small": {"path": "testbed"}, "large": {"path": "testbed"}},
            "decoding": {"max_new_tokens": 16},
            "threshold": 0.964,
            "guidance": {"criterion": "confidence"},
        }
    )
    run_job(job, Console(quiet=True))
    assert (folder / "out" / "batch" / "errors.jsonl").read_text() == ""
    results = (folder / "out" / "batch" / "results.jsonl").read_text().splitlines()
    bodies = {line["custom_id"]: line["response"]["body"] for line in map(json.loads, results)}
    return {name: ChatCompletion.model_validate(body) for name, body in bodies.items()}


def said(completion: ChatCompletion) -> str:
    return completion.choices[0].message.content or ""


RECORDS = tuple(draw_records("heldout", 12))
FIRST, SECOND = RECORDS[:2]
HOT = [asked(record, f"hot {record.id}", temperature=2) for record in RECORDS]
CONVERSATION = (
    {"role": "system", "content": "Answer in one word."},
    user([shown(FIRST), text(FIRST.question.text)]),
    {"role": "assistant", "content": FIRST.question.answer},
    user([text("and here"), shown(SECOND), text(SECOND.question.text)]),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batch")


@pytest.fixture(scope="module")
def found(folder: Path, ray_cluster: str) -> dict[str, ChatCompletion]:
    """One run over all kinds of requests."""
    lines = [
        *(asked(record, max_tokens=16) for record in RECORDS),
        asked(FIRST, "cut", max_tokens=1),
        asked(FIRST, "stopped", stop=FIRST.question.answer[1:]),
        request("long", *CONVERSATION),
        *HOT,
    ]
    completions = answered(folder, lines)
    assert list(completions) == [line["custom_id"] for line in lines]
    return completions


def test_results_are_the_rows_and_mostly_right(
    folder: Path, found: dict[str, ChatCompletion]
) -> None:
    rows = {row["id"]: row for row in pq.read_table(folder / "out" / "rows").to_pylist()}
    for record in RECORDS:
        row, completion = rows[record.id], found[record.id]
        assert said(completion) == row["answer"]
        assert completion.usage
        assert completion.usage.prompt_tokens == row[f"{row['route']}_prompt_tokens"]
        assert completion.choices[0].finish_reason == "stop"
    assert sum(said(found[one.id]) == one.question.answer for one in RECORDS) >= 8


def test_an_answer_that_is_cut_says_so(found: dict[str, ChatCompletion]) -> None:
    assert found["cut"].choices[0].finish_reason == "length"


def test_a_stop_text_ends_an_answer_before_it(found: dict[str, ChatCompletion]) -> None:
    assert said(found[FIRST.id]) == FIRST.question.answer
    assert said(found["stopped"]) == FIRST.question.answer[:1]
    assert found["stopped"].choices[0].finish_reason == "stop"


def test_sampling_draws_the_same_again(tmp_path: Path, found: dict[str, ChatCompletion]) -> None:
    again = {name: said(one) for name, one in answered(tmp_path, HOT).items()}
    assert again == {name: said(found[name]) for name in again}
    cold = {f"hot {record.id}": said(found[record.id]) for record in RECORDS}
    assert again != cold


def test_a_conversation_with_pictures_in_two_turns_is_answered(
    found: dict[str, ChatCompletion],
) -> None:
    assert said(found["long"])
    long, short = (found[name].usage for name in ("long", SECOND.id))
    assert long
    assert short
    assert long.prompt_tokens > 2 * short.prompt_tokens - 100
