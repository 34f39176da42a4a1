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


def asked(record: Record, **body: Any) -> dict[str, Any]:
    return request(record.id, user([shown(record), text(record.question.text)]), **body)


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


def test_results_are_the_rows_and_mostly_right(tmp_path: Path) -> None:
    records = list(draw_records("heldout", 12))
    found = answered(tmp_path, [asked(record, max_tokens=16) for record in records])
    assert list(found) == [record.id for record in records]
    rows = {row["id"]: row for row in pq.read_table(tmp_path / "out" / "rows").to_pylist()}
    for name, completion in found.items():
        row = rows[name]
        assert said(completion) == row["answer"]
        assert completion.usage
        assert completion.usage.prompt_tokens == row[f"{row['route']}_prompt_tokens"]
        assert completion.choices[0].finish_reason == "stop"
    right = [said(found[record.id]) == record.question.answer for record in records]
    assert sum(right) >= 8


def test_an_answer_that_is_cut_says_so(tmp_path: Path) -> None:
    (record,) = draw_records("heldout", 1)
    (found,) = answered(tmp_path, [asked(record, max_tokens=1)]).values()
    assert found.choices[0].finish_reason == "length"


def test_a_stop_text_ends_an_answer_before_it(tmp_path: Path) -> None:
    (record,) = draw_records("heldout", 1)
    whole = said(answered(tmp_path, [asked(record)])[record.id])
    (tmp_path / "stopped").mkdir()
    found = answered(tmp_path / "stopped", [asked(record, stop=whole[1:])])[record.id]
    assert said(found) == whole[:1]
    assert found.choices[0].finish_reason == "stop"


def test_sampling_draws_the_same_again(tmp_path: Path) -> None:
    records = list(draw_records("heldout", 12))
    hot = [asked(record, temperature=2) for record in records]
    drawn = []
    for place in range(2):
        folder = tmp_path / str(place)
        folder.mkdir()
        drawn.append({name: said(one) for name, one in answered(folder, hot).items()})
    assert drawn[0] == drawn[1]
    (tmp_path / "greedy").mkdir()
    cold = answered(tmp_path / "greedy", [asked(record) for record in records])
    assert drawn[0] != {name: said(one) for name, one in cold.items()}


def test_a_conversation_with_pictures_in_two_turns_is_answered(tmp_path: Path) -> None:
    first, second = draw_records("heldout", 2)
    messages = (
        {"role": "system", "content": "Answer in one word."},
        user([shown(first), text(first.question.text)]),
        {"role": "assistant", "content": first.question.answer},
        user([text("and here"), shown(second), text(second.question.text)]),
    )
    found = answered(tmp_path, [request("long", *messages), asked(second)])
    assert said(found["long"])
    long, short = (found[name].usage for name in ("long", second.id))
    assert long
    assert short
    assert long.prompt_tokens > 2 * short.prompt_tokens - 100
