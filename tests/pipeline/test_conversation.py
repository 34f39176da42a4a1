"""Conversations as cells, and back as the models' records."""

from pathlib import Path

import pytest

from pipeline.config import InputConfig
from pipeline.conversation import PLAIN, Conversation, packed, unpacked
from pipeline.handover import questions
from pipeline.source import open_source
from sgl.types import Role, Sampling, Turn
from tests.pipeline.inputs import data_uri, write_jsonl
from tests.pipeline.tables import fetch_stage
from tests.pipeline.test_openai_batch import image, request, text, user

TURNS = (
    Turn(Role.SYSTEM, ("Réponds « court ».",)),
    Turn(Role.USER, ("a", None, "b")),
    Turn(Role.ASSISTANT, ("\u2028A",)),
    Turn(Role.USER, (None,)),
)


@pytest.mark.parametrize(
    "conversation",
    [
        Conversation(TURNS),
        Conversation(stop=(".", "\n")),
        Conversation(TURNS, ("x",), Sampling(0.1, 1.0, 2**63 - 1)),
    ],
)
def test_a_cell_says_what_was_packed(conversation: Conversation) -> None:
    assert unpacked(packed(conversation)) == conversation


def test_a_plain_question_has_no_cell() -> None:
    assert packed(PLAIN) is None
    assert unpacked(None) == PLAIN


def test_models_get_the_conversation_with_its_pictures(tmp_path: Path) -> None:
    shown = [image(data_uri(number)) for number in range(2)]
    messages = (
        user([shown[0], text("q")]),
        {"role": "assistant", "content": "A"},
        user([shown[1]]),
    )
    path = write_jsonl(
        tmp_path / "in.jsonl",
        [
            request("long", *messages, stop="!", temperature=1, seed=5),
            request("plain", user([shown[0], text("q")])),
        ],
    )
    source = open_source(InputConfig(path=str(path)))
    (table,) = source.tables(source.parts[0])
    long, plain = questions(fetch_stage()(table), [0, 1])
    assert long.turns == (
        Turn(Role.USER, (None, "q")),
        Turn(Role.ASSISTANT, ("A",)),
        Turn(Role.USER, (None,)),
    )
    assert (long.stop, long.sampling, len(long.images)) == (("!",), Sampling(1.0, 1.0, 5), 2)
    assert (plain.question, plain.turns, plain.stop, plain.sampling) == ("q", (), (), None)
