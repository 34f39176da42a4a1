"""Requests in OpenAI's batch format, whole and rotten."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import InputConfig
from pipeline.conversation import Conversation, unpacked
from pipeline.schema import READ
from sgl.errors import ConfigurationError
from sgl.types import Role, Sampling, Turn
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


def asked(row: dict[str, Any]) -> Conversation:
    return unpacked(row["conversation_json"])


def test_plain_questions_become_plain_records(tmp_path: Path) -> None:
    found = rows(
        tmp_path,
        request("a", user([image(detail="low"), text("what is it?")]), max_tokens=7, temperature=0),
        request(
            "b", user([image(), image("data:image/png;base64,AAAA"), text("one"), text("two")])
        ),
        request(
            "c", user([image("s3://b/c.png"), text("q")]), max_completion_tokens=9, max_tokens=3
        ),
        request("d", user("no picture"), n=1, response_format={"type": "text"}, top_p=0.5, seed=1),
    )
    assert [row["id"] for row in found] == ["a", "b", "c", "d"]
    assert [row["question"] for row in found] == ["what is it?", "one\ntwo", "q", "no picture"]
    uris = [[one["uri"] for one in row["image"] or []] for row in found]
    assert uris == [[URL], [URL, "data:image/png;base64,AAAA"], ["s3://b/c.png"], []]
    assert [row["max_new_tokens"] for row in found] == [7, None, 9, None]
    assert {row["read_error"] for row in found} == {row["conversation_json"] for row in found}
    assert {row["read_error"] for row in found} == {None}
    assert found[0].keys() == set(READ.names)


@pytest.mark.parametrize(
    ("messages", "question", "turns"),
    [
        (
            [{"role": "system", "content": "Be short."}, user([image(), text("q")])],
            "q",
            (Turn(Role.SYSTEM, ("Be short.",)), Turn(Role.USER, (None, "q"))),
        ),
        ([user([text("a"), image(), text("b")])], "a\nb", (Turn(Role.USER, ("a", None, "b")),)),
        ([user([image()])], "", (Turn(Role.USER, (None,)),)),
        (
            [user([image(), text("q")]), {"role": "assistant", "content": "A"}, user("r")],
            "r",
            (
                Turn(Role.USER, (None, "q")),
                Turn(Role.ASSISTANT, ("A",)),
                Turn(Role.USER, ("r",)),
            ),
        ),
    ],
)
def test_anything_else_is_a_conversation(
    messages: list[Any], question: str, turns: tuple[Turn, ...], tmp_path: Path
) -> None:
    (row,) = rows(tmp_path, request("a", *messages))
    assert row["read_error"] is None
    assert row["question"] == question
    assert asked(row) == Conversation(turns=turns)
    assert [one["uri"] for one in row["image"]] == [URL]


def test_stop_texts_and_sampling_go_with_the_question(tmp_path: Path) -> None:
    first, second, third, fourth, fifth = rows(
        tmp_path,
        request("a", user("q"), stop="."),
        request("b", user("q"), stop=["x", "y"], temperature=1, top_p=0.5, seed=-3),
        request("c", user("q"), temperature=0.7),
        request("d", user("q"), temperature=0.7, top_p=0, stop=[]),
        request("e", user("q"), temperature=1e-9, seed=2**62),
    )
    assert asked(first) == Conversation(stop=(".",))
    assert asked(second) == Conversation(stop=("x", "y"), sampling=Sampling(1.0, 0.5, 2**63 - 3))
    drawn = asked(third).sampling
    assert drawn is not None
    assert (drawn.temperature, drawn.top_p) == (0.7, 1.0)
    assert asked(fourth) == asked(fifth) == Conversation()


def test_a_seed_of_the_custom_id_is_the_same_in_every_run(tmp_path: Path) -> None:
    both = [request(name, user("q"), temperature=1) for name in ("a", "b")]
    (a, b), (again, _) = rows(tmp_path, *both), rows(tmp_path, *both)
    assert asked(a) == asked(again)
    seeds = {one.seed for one in (asked(a).sampling, asked(b).sampling) if one}
    assert len(seeds) == 2
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (request("x", user("q"), {"role": "assistant", "content": "A"}), "messages.1.role"),
        (request("x", {"role": "system", "content": [image()]}, user("q")), "messages.0.content"),
        (request("x"), "messages: is not a list"),
        (request("x", user([image("file:///etc/passwd"), text("q")])), "messages.0.content.0"),
        (request("x", user([image("a.png"), text("q")])), "messages.0.content.0"),
        (request("x", user("")), "messages.0.content: holds neither"),
        (request("x", user("q"), sgl={"threshold": 0.5}), "sgl: is not supported"),
        (request("x", user("q"), response_format={"type": "json_object"}), "response_format: is"),
        (request("x", user("q"), best_of=3), "best_of: is not supported"),
        (request("x", user("q"), temperature=float("nan")), "temperature: input should be"),
        (request("x", user("q")) | {"url": "/v1/embeddings"}, "url: is not"),
        (request("x", user("q")) | {"body": []}, "body: is not an object"),
        (request("x", user("q"), max_tokens="many"), "max_tokens: input should be"),
        (request("x", user("q"), max_tokens=2**31), "'max_new_tokens' is too large"),
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
    assert "body: is not an object" in row["read_error"]
    with pytest.raises(ConfigurationError, match="no column 'question'"):
        rows(tmp_path, bad)
    assert InputConfig(path="x").format == "auto"


def test_a_rotten_request_in_a_later_piece_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cells.PIECE_BYTES", 1)
    found = rows(tmp_path, request("a", user("q")), {"custom_id": "b", "body": 5})
    assert [row["id"] for row in found] == ["a", "b"]
    assert "body: is not an object" in found[1]["read_error"]


def test_an_input_says_whether_it_is_requests(tmp_path: Path) -> None:
    requests, others = tmp_path / "requests", tmp_path / "mixed"
    for folder in (requests, others):
        folder.mkdir()
        write_jsonl(folder / "a.jsonl", [request("a", user("q"))])
    write_jsonl(requests / "b.jsonl", [{"custom_id": "b"}, request("c", user("q"))])
    write_jsonl(others / "b.jsonl", [{"id": "b", "question": "q", "image": "b.png"}])
    (requests / "c.jsonl").touch()
    assert source_of(requests).requests
    assert not source_of(others).requests


def test_a_column_of_the_readers_name_is_refused(tmp_path: Path) -> None:
    record = {"id": "a", "question": "q", "image": "a.png", "conversation_json": "[]"}
    with pytest.raises(ConfigurationError, match="conversation_json: an output column"):
        rows(tmp_path, record)
