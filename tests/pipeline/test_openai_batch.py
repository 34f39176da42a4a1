"""Requests in OpenAI's batch format, whole and rotten."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import InputConfig
from sgl.errors import ConfigurationError
from tests.pipeline.inputs import write_jsonl
from tests.pipeline.test_formats import rows_of, source_of

URL = "https://images.example.org/a.png"


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def image(url: str = URL, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def request(name: str, *messages: Any, **body: Any) -> dict[str, Any]:
    url = "/v1/chat/completions"
    body = {"model": "m", "messages": list(messages), **body}
    return {"custom_id": name, "method": "POST", "url": url, "body": body}


def rows(folder: Path, *requests: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
    return rows_of(source_of(write_jsonl(folder / "in.jsonl", list(requests)), **settings))


def test_requests_become_records(tmp_path: Path) -> None:
    system = {"role": "system", "content": "Be short."}
    found = rows(
        tmp_path,
        request("a", user([text("what is it?"), image(detail="low")]), max_tokens=7, temperature=1),
        request(
            "b", user([image(), image("data:image/png;base64,AAAA"), text("one"), text("two")])
        ),
        request("c", system, user([image(), text("q")]), max_completion_tokens=9, max_tokens=3),
        request("d", user("no picture"), n=1, response_format={"type": "text"}),
    )
    assert [row["id"] for row in found] == ["a", "b", "c", "d"]
    assert [row["question"] for row in found] == [
        "what is it?",
        "one\ntwo",
        "Be short.\n\nq",
        "no picture",
    ]
    uris = [[one["uri"] for one in row["image"] or []] for row in found]
    assert uris == [[URL], [URL, "data:image/png;base64,AAAA"], [URL], []]
    assert [row["max_new_tokens"] for row in found] == [7, None, 9, None]
    assert all(row["read_error"] is None for row in found)
    assert found[0].keys() == {"id", "question", "image", "max_new_tokens", "read_error"}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (request("x", user([text("a"), image(), text("b")])), "text stands between"),
        (request("x", user([image(), text("a"), image()])), "text stands between"),
        (request("x", user("q"), {"role": "assistant", "content": "A"}), "not one user turn"),
        (request("x", user("q"), {"role": "assistant"}, user("r")), "not one user turn"),
        (request("x", {"role": "system", "content": [image()]}, user("q")), "a system text holds"),
        (request("x"), "not one user turn"),
        (request("x", "q"), "not a list of objects"),
        (request("x", user(5)), "neither a text nor a list"),
        (request("x", user([{"type": "input_audio"}])), "type 'input_audio' is not"),
        (request("x", user([{"type": ["x"]}])), "type that is none"),
        (request("x", user([{"type": "text", "text": 5}])), "'text' is not a text"),
        (request("x", user([image("file:///etc/passwd"), text("q")])), "no data:, https:"),
        (request("x", user([image("a.png"), text("q")])), "no data:, https:"),
        (request("x", user([{"type": "image_url"}, text("q")])), "no data:, https:"),
        (request("x", user("q"), n=2), "'n' is not supported"),
        (request("x", user("q"), tools=[{"type": "function"}]), "'tools' is not supported"),
        (request("x", user("q"), stop=["."]), "'stop' is not supported"),
        (request("x", user("q"), response_format={"type": "json_object"}), "'response_format'"),
        (request("x", user("q")) | {"url": "/v1/embeddings"}, "'url' is not"),
        (request("x", user("q")) | {"body": []}, "'body' is not an object"),
        (request("x", user("q"), max_tokens="many"), "'max_new_tokens' is no integer"),
    ],
)
def test_what_cannot_be_answered_so_is_its_rows_problem(
    bad: dict[str, Any], says: str, tmp_path: Path
) -> None:
    good = request("good", user([image(), text("q")]))
    failed, fine = rows(tmp_path, bad, good)
    assert (failed["id"], fine["id"]) == ("x", "good")
    assert says in failed["read_error"]
    assert "passwd" not in failed["read_error"]
    assert fine["read_error"] is None


def test_rotten_lines_keep_their_place(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    lines = [
        json.dumps(request("a", user("q"))),
        "{not json",
        json.dumps({"body": {"messages": [user("q")]}}),
        json.dumps({"custom_id": 5, "body": {"messages": [user("q")]}}),
    ]
    path.write_text("\n".join(lines))
    found = rows_of(source_of(path))
    assert [row["id"] for row in found] == ["a", "in.jsonl:2", "in.jsonl:3", "5"]
    assert [row["read_error"] is None for row in found] == [True, False, False, True]


def test_records_with_a_question_column_are_no_requests(tmp_path: Path) -> None:
    record = {"custom_id": "a", "body": {"messages": []}, "question": "q", "image": "a.png"}
    (row,) = rows(tmp_path, record)
    assert (row["question"], row["custom_id"]) == ("q", "a")


def test_the_format_may_be_named(tmp_path: Path) -> None:
    bad = {"custom_id": "a", "body": None}
    (row,) = rows(tmp_path, bad, format="openai")
    assert "'body' is not an object" in row["read_error"]
    with pytest.raises(ConfigurationError, match="no column 'question'"):
        rows(tmp_path, bad)
    assert InputConfig(path="x").format == "auto"


def test_a_rotten_request_in_a_later_piece_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cells.PIECE_BYTES", 1)
    found = rows(tmp_path, request("a", user("q")), {"custom_id": "b", "body": 5})
    assert [row["id"] for row in found] == ["a", "b"]
    assert "'body' is not an object" in found[1]["read_error"]
