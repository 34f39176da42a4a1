"""Conversations as the checkpoint's own chat template writes them, or not at all.

Templates differ in what they take: contents as parts or as plain texts, a system role or none,
pictures anywhere or ahead of a turn's texts. What a template makes of a conversation is found out
by writing it with marks in place of its texts. Where they and the pictures' placeholders then stand
tells whether something was dropped, moved or doubled. One move is the template's to make: the texts
of a turn that stand together, all before or all behind its pictures, may come out on the other
side, which is the order that the model was trained on. And the prompt itself may hold no control
token that the marked one does not, so that no text can end its turn and begin another's.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count, islice, zip_longest
from typing import Any

from jinja2 import TemplateError

from sgl.errors import (
    ControlTokenError,
    ConversationError,
    EmptyQuestionError,
    MalformedRecordError,
)
from sgl.families.base import Family
from sgl.types import ImageQuestion, Role, Turn

_MARK = re.compile(r"\(text \\\d+\)")
"""The backslash tells a mark from one in a printed list of parts, where it is doubled."""

_AS_TEXT: Sequence[Collection[Role]] = ((), (Role.SYSTEM, Role.ASSISTANT), tuple(Role))
"""Whose contents are plain texts, in the order in which it is tried."""


@dataclass(frozen=True)
class _Form:
    """A conversation in one of the shapes that templates take.

    Attributes:
        turns: of the conversation.
        as_text: roles whose contents are plain texts, where they hold no picture.
    """

    turns: Sequence[Turn]
    as_text: Collection[Role]

    @property
    def parts(self) -> Iterator[str | None]:
        """Of all turns."""
        return chain.from_iterable(turn.parts for turn in self.turns)

    def marked(self) -> "_Form":
        """With marks in place of the texts."""
        numbers = count()
        turns = [
            Turn(
                turn.role,
                tuple(p if p is None else f"(text \\{next(numbers)})" for p in turn.parts),
            )
            for turn in self.turns
        ]
        return _Form(turns, self.as_text)

    def messages(self) -> list[dict[str, Any]]:
        """What chat templates are given."""
        return [{"role": turn.role.value, "content": self._content(turn)} for turn in self.turns]

    def _content(self, turn: Turn) -> str | list[dict[str, str]]:
        if turn.role in self.as_text and None not in turn.parts:
            return "\n".join(part for part in turn.parts if part is not None)
        return [
            {"type": "image"} if part is None else {"type": "text", "text": part}
            for part in turn.parts
        ]


@dataclass(frozen=True)
class ConversationWriter:
    """Writes prompts for one checkpoint.

    Attributes:
        tokenizer: with the checkpoint's chat template.
        family: of the checkpoint.
    """

    tokenizer: Any
    family: Family

    def write(self, turns: Sequence[Turn]) -> str:
        """The prompt's text, with one placeholder per picture.

        Args:
            turns: of a conversation, as `turns_of` returns them.

        Raises:
            ConversationError: the chat template cannot write it, or not as it is; texts that stand
                together on one side of their turn's pictures may change places with them.
            ControlTokenError: a text holds a control token or an image placeholder.
        """
        form, marked = self._fitting(turns)
        text = self._apply(form)
        if _without_blanks(text) != _without_blanks(_filled(marked, form)):
            raise ConversationError(
                "the model's chat template leaves out or changes part of a text of the conversation"
            )
        self._check_control_tokens(text, marked)
        return text

    def _fitting(self, turns: Sequence[Turn]) -> tuple[_Form, str]:
        """The first form that the template writes faithfully, and what it writes of the marked."""
        refusals: list[ConversationError] = []
        for told in _tellings(turns):
            refusals.clear()
            for as_text in _AS_TEXT:
                form = _Form(told, as_text)
                try:
                    return form, self._write_marked(form.marked())
                except ConversationError as refusal:
                    refusals.append(refusal)
        raise refusals[0]

    def _write_marked(self, form: _Form) -> str:
        placeholder = self.family.placeholder
        text = self._apply(form)
        found = re.findall(f"{_MARK.pattern}|{re.escape(placeholder)}", text)
        if not _is_faithful([None if one == placeholder else one for one in found], form.turns):
            raise ConversationError(
                "the model's chat template drops or moves texts or pictures of this conversation; "
                "many templates want all texts of a turn together, before or behind its pictures"
            )
        return text

    def _apply(self, form: _Form) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                form.messages(), add_generation_prompt=True, tokenize=False
            )
        except (TypeError, TemplateError) as error:
            # Subclasses are accidents inside the template, this is what its author says.
            said = f": {error}" if type(error) is TemplateError else ""
            raise ConversationError(
                f"the model's chat template refuses this conversation{said}"
            ) from error
        return text

    def _check_control_tokens(self, text: str, marked: str) -> None:
        wanted, found = (self._control_tokens(one) for one in (marked, text))
        if found != wanted:
            pairs = zip_longest(found, wanted)
            odd = next(other if one is None else one for one, other in pairs if one != other)
            raise ControlTokenError(
                f"a text contains {self.tokenizer.convert_ids_to_tokens(odd)!r}; control tokens "
                "and the image placeholder are the chat template's to write, remove it"
            )

    def _control_tokens(self, text: str) -> list[int]:
        """In the order of the text, but those for unknown words, written out, behind all others."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        written_out = text.count(self.tokenizer.unk_token) if self.tokenizer.unk_token else 0
        unknown = [self.tokenizer.unk_token_id] * written_out
        return [id_ for id_ in ids if id_ in self._control_ids] + unknown

    @cached_property
    def _control_ids(self) -> frozenset[int]:
        """All that a text must not hold; not the one for unknown words, which others become."""
        tokenizer = self.tokenizer
        added = tokenizer.added_tokens_decoder.items()
        special = {id_ for id_, token in added if token.special} | set(tokenizer.all_special_ids)
        pictures = {
            self.family.config.image_token_id,
            tokenizer.convert_tokens_to_ids(self.family.placeholder),
        }
        harmless = tokenizer.convert_tokens_to_ids(sorted(self.family.region_marks))
        return frozenset((special | pictures) - {*harmless, tokenizer.unk_token_id})


def turns_of(record: ImageQuestion) -> tuple[Turn, ...]:
    """A record's conversation; a question alone is a turn with the pictures ahead of it.

    Raises:
        EmptyQuestionError: there is nothing to answer.
        MalformedRecordError: the turns are no conversation about the record's pictures, or a text
            is no valid Unicode.
    """
    turns = record.turns
    if not turns:
        turns = (Turn(Role.USER, (*[None] * len(record.images), record.question)),)
        if not record.question.strip():
            raise EmptyQuestionError("the question is empty; every record needs a question")
    _check(turns, len(record.images))
    return turns


def _check(turns: Sequence[Turn], images: int) -> None:
    last = turns[-1]
    if last.role is not Role.USER:
        raise MalformedRecordError(f"the last turn is the {last.role.value}'s; it must be a user's")
    if not any(part is None or part.strip() for part in last.parts):
        raise EmptyQuestionError("the last turn holds neither a text nor a picture")
    if any(None in turn.parts for turn in turns if turn.role is not Role.USER):
        raise MalformedRecordError("a picture stands in a turn that is not the user's")
    places = sum(part is None for turn in turns for part in turn.parts)
    if places != images:
        raise MalformedRecordError(
            f"the conversation has places for {places} pictures and the record has {images}"
        )
    for text in (part for turn in turns for part in turn.parts if part):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise MalformedRecordError("a text holds half of a surrogate pair") from None


def _tellings(turns: Sequence[Turn]) -> Iterator[Sequence[Turn]]:
    """The conversation, then without system turns."""
    yield turns
    if any(turn.role is Role.SYSTEM for turn in turns):
        yield _without_system(turns)


def _without_system(turns: Sequence[Turn]) -> list[Turn]:
    """System texts stand before the text of the user's turn that follows."""
    told: list[Turn] = []
    waiting: list[str] = []
    for turn in turns:
        if turn.role is Role.SYSTEM:
            waiting.append("\n".join(part for part in turn.parts if part))
        elif turn.role is Role.USER:
            told.append(_led_by([text for text in waiting if text.strip()], turn))
            waiting.clear()
        else:
            told.append(turn)
    return told


def _led_by(system: Sequence[str], turn: Turn) -> Turn:
    if not system:
        return turn
    place = next((i for i, part in enumerate(turn.parts) if part), len(turn.parts))
    before, text, after = turn.parts[:place], turn.parts[place : place + 1], turn.parts[place + 1 :]
    led = "\n\n".join([*system, *(part for part in text if part)])
    return Turn(turn.role, (*before, led, *after))


def _is_faithful(found: Sequence[str | None], turns: Sequence[Turn]) -> bool:
    """Whether these are all parts of all turns, each once, in an order that keeps the meaning."""
    left = iter(found)
    kept = all(tuple(islice(left, len(turn.parts))) in _orders(turn.parts) for turn in turns)
    return kept and not [*left]


def _orders(parts: tuple[str | None, ...]) -> Collection[tuple[str | None, ...]]:
    """In which a template may write a turn.

    A text between pictures may be about the one before it or the one behind it, so it stays there.
    """
    texts = tuple(part for part in parts if part is not None)
    pictures = (None,) * (len(parts) - len(texts))
    whole = (pictures + texts, texts + pictures)
    return whole if parts in whole else (parts,)


def _filled(marked: str, form: _Form) -> str:
    """What the template wrote, with the texts where their marks stand."""
    texts = [part for part in form.parts if part is not None]
    pieces = _MARK.split(marked)
    return "".join(chain.from_iterable(zip_longest(pieces, texts, fillvalue="")))


def _without_blanks(text: str) -> str:
    """Templates may drop blanks at a text's ends."""
    return "".join(text.split())
