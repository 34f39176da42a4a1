"""Text as it comes: nothing is taken back, and all of it is the answer."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from sgl.text_stream import TextStream, cut_at


def of_bytes() -> PreTrainedTokenizerFast:
    """One token a byte, so that characters come in pieces."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({sign: index for index, sign in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core)


BYTES = of_bytes()


def parts(text: str, stops: tuple[str, ...] = (), tokenizer: Any = BYTES) -> list[str]:
    """What is said after each token, and at the end."""
    ids = BYTES(text, add_special_tokens=False)["input_ids"]
    stream = TextStream(tokenizer, stops)
    said = [stream.more(ids[: place + 1]) for place in range(len(ids))]
    return [*said, stream.rest(cut_at(BYTES.decode(ids), stops).strip())]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_the_parts_are_the_answer(text: str) -> None:
    assert "".join(parts(text)) == text.strip()


@given(
    st.text("ab \n", max_size=12), st.lists(st.text("ab \n", min_size=1, max_size=3), max_size=3)
)
def test_nothing_of_a_stop_text_is_said(text: str, stops: list[str]) -> None:
    expected = cut_at(text, stops).strip()
    said = ""
    for part in parts(text, tuple(stops)):
        said += part
        assert expected.startswith(said)
    assert said == expected


def test_a_character_is_said_when_it_is_whole() -> None:
    assert [part for part in parts("a€b") if part] == ["a", "€", "b"]


def test_without_a_fast_tokenizer_everything_comes_at_the_end() -> None:
    class Slow:
        pass

    assert [part for part in parts("two words", tokenizer=Slow()) if part] == ["two words"]


@pytest.mark.parametrize(
    ("stops", "left"), [((), "a b"), (("b",), "a "), (("b", "a"), ""), (("c",), "a b")]
)
def test_the_first_stop_text_cuts(stops: tuple[str, ...], left: str) -> None:
    assert cut_at("a b", stops) == left
