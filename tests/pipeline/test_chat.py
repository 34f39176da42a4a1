"""Messages in every form that clients write, and those that are refused."""

import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.chat import Chat, ChatError, ChatLimits, conversation
from sgl.types import Role, Turn

URL = "https://images.example.org/a.png"
DATA = "data:image/png;base64,AAAA"


def text(said: Any) -> dict[str, Any]:
    return {"type": "text", "text": said}


def image(url: Any = URL, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def user(content: Any) -> dict[str, Any]:
    return said("user", content)


def test_a_plain_question_is_one_turn() -> None:
    assert conversation([user("what?")]) == Chat((Turn(Role.USER, ("what?",)),), [])


def test_pictures_stand_where_they_are_shown() -> None:
    chat = conversation(
        [
            said("developer", "Be short."),
            user([text("this"), image(detail="low"), text("or that"), image(DATA), text("?")]),
            said("assistant", [text("that"), text("one")]),
            said("user", [text("and now?"), image()], name="Ada"),
        ]
    )
    assert chat.turns == (
        Turn(Role.SYSTEM, ("Be short.",)),
        Turn(Role.USER, ("this", None, "or that", None, "?")),
        Turn(Role.ASSISTANT, ("that\none",)),
        Turn(Role.USER, (None, "and now?")),
    )
    assert chat.references == [URL, DATA, URL]


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ([text("q"), image(), image()], (None, None, "q")),
        ([text("q"), text("r"), image()], (None, "q\nr")),
        ([image(), text("q"), image()], (None, "q", None)),
        ([text("q"), image(), text("r")], ("q", None, "r")),
        ([text("q")], ("q",)),
    ],
)
def test_a_question_ahead_of_its_pictures_comes_behind_them(
    parts: list[Any], shown: tuple[str | None, ...]
) -> None:
    """Guidance is read behind the last picture."""
    assert conversation([user(parts)]).turns[0].parts == shown


@pytest.mark.parametrize(
    ("part", "reference"),
    [
        ({"type": "image_url", "image_url": URL}, URL),
        ({"type": "image_url", "image_url": "HTTPS://a.org/B.png"}, "https://a.org/B.png"),
        ({"type": "image_url", "image_url": {"url": "Data:image/png;base64,AA=="}}, None),
        ({"type": "image", "source_type": "url", "url": URL}, URL),
        ({"type": "image", "url": URL, "mime_type": "image/png"}, URL),
        ({"type": "image", "source_type": "base64", "data": "AAAA", "mime_type": "image/png"}, 1),
        ({"type": "image", "base64": "AAAA", "mime_type": "image/png"}, 1),
    ],
)
def test_every_form_of_a_picture(part: dict[str, Any], reference: Any) -> None:
    expected = {None: "data:image/png;base64,AA==", 1: DATA}.get(reference, reference)
    chat = conversation([user([part])])
    assert (chat.references, chat.turns[0].parts) == ([expected], (None,))


def test_blank_texts_and_empty_system_texts_say_nothing() -> None:
    chat = conversation([said("system", ""), user([text("a"), text(" "), text("b"), text("")])])
    assert chat.turns == (Turn(Role.USER, ("a\nb",)),)


@pytest.mark.parametrize("answer", [None, "", " ", [], [text("")]])
def test_an_answer_may_be_empty(answer: Any) -> None:
    """The endpoint gives such ones, and without its turn the user's would meet."""
    chat = conversation([user("q"), said("assistant", answer), user("r")])
    assert chat.turns[1] == Turn(Role.ASSISTANT, ("",))
    assert conversation([user("q"), {"role": "assistant"}, user("r")]) == chat


def test_very_many_texts_are_joined() -> None:
    parts = [text(str(number)) for number in range(50_000)]
    (turn,) = conversation([user([*parts, image(), *parts])]).turns
    whole = "\n".join(map(str, range(50_000)))
    assert turn.parts == (whole, None, whole)


class Looked(list[Any]):
    """Parts that count how many of them are taken."""

    taken = 0

    def __iter__(self) -> Iterator[Any]:
        for part in super().__iter__():
            self.taken += 1
            yield part


@pytest.mark.parametrize(
    ("part", "says"), [(text("abc"), "10 characters of text"), (image(), "4 pictures")]
)
def test_nothing_is_read_beyond_the_limits(part: dict[str, Any], says: str) -> None:
    limits = ChatLimits(turns=3, pictures=4, text_chars=10)
    parts = Looked([part] * 1000)
    with pytest.raises(ChatError, match=f"more than {says}") as caught:
        conversation([user([part]), user(parts)], limits=limits)
    assert (caught.value.param, caught.value.code) == ("messages", "limit_exceeded")
    assert parts.taken <= 4
    with pytest.raises(ChatError, match="more than 3 turns"):
        conversation([None] * 4, limits=limits)
    assert conversation([user([part])] * 3, limits=limits) == conversation([user([part])] * 3)


def test_the_caller_tells_the_schemes() -> None:
    stored = [user([image("s3://bucket/a.png")])]
    assert conversation(stored, ("s3://",)).references == ["s3://bucket/a.png"]
    with pytest.raises(ChatError, match="begins with data:"):
        conversation(stored)


CONTENT = "messages.0.content"
PART = f"{CONTENT}.0"


@pytest.mark.parametrize(
    ("messages", "param", "says"),
    [
        (None, "messages", "not a list"),
        ([], "messages", "not a list"),
        ({"role": "user"}, "messages", "not a list"),
        (["q"], "messages.0", "not an object"),
        ([{"content": "q"}], "messages.0.role", "not supported"),
        ([said("tool", "q")], "messages.0.role", "'tool'"),
        ([user("q"), {"role": ["user"], "content": "q"}], "messages.1.role", "this is not"),
        ([user("q"), said("assistant", "A")], "messages.1.role", "not the user's"),
        ([user("q"), said("system", "")], "messages.1.role", "not the user's"),
        ([said("system", "s")], "messages.0.role", "not the user's"),
        ([said("system", None), user("q")], CONTENT, "neither a text"),
        ([said("assistant", 5), user("q")], CONTENT, "neither a text"),
        ([said("assistant", "a", tool_calls=[{}])], "messages.0.tool_calls", "not supported"),
        ([said("system", [image()]), user("q")], CONTENT, "a picture in a turn of the system"),
        ([said("assistant", [image()]), user("q")], CONTENT, "a picture in a turn of the ass"),
        ([user("")], CONTENT, "neither text nor a picture"),
        ([user([text(" \n")])], CONTENT, "neither text nor a picture"),
        ([user([])], CONTENT, "neither text nor a picture"),
        ([user(5)], CONTENT, "neither a text nor a list"),
        ([user("\ud800")], CONTENT, "no valid Unicode"),
        ([user(["q"])], PART, "not an object"),
        ([user([{"type": "input_audio"}])], f"{PART}.type", "'input_audio'"),
        ([user([{"type": ["x"]}])], f"{PART}.type", "this is not"),
        ([user([text(5)])], f"{PART}.text", "not a text"),
        ([user([text("q"), image("file:///a")])], f"{CONTENT}.1.image_url.url", "no address"),
        ([user([image("a.png")])], f"{PART}.image_url.url", "no address"),
        ([user([image(f"{URL}\ud800")])], f"{PART}.image_url.url", "no valid Unicode"),
        ([user([{"type": "image_url"}])], f"{PART}.image_url", "no address"),
        ([user([{"type": "image", "url": 5}])], f"{PART}.url", "no address"),
        ([user([{"type": "image", "base64": "AA"}])], f"{PART}.mime_type", "image/png"),
        (
            [user([{"type": "image", "base64": "AA", "mime_type": "image/png,x"}])],
            f"{PART}.mime_type",
            "image/png",
        ),
        (
            [user([{"type": "image", "data": 5, "mime_type": "image/png"}])],
            f"{PART}.data",
            "no base64",
        ),
    ],
)
def test_what_is_refused_is_named(messages: Any, param: str, says: str) -> None:
    with pytest.raises(ChatError, match=says) as caught:
        conversation(messages)
    assert caught.value.param == param


def test_an_error_travels_and_tells_no_secret() -> None:
    with pytest.raises(ChatError) as caught:
        conversation([user([image("ftp://me:secret@host/a.png")])])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.param, copy.message) == (
        str(caught.value),
        "messages.0.content.0.image_url.url",
        caught.value.message,
    )
    assert "secret" not in str(copy)
