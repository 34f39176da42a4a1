"""What a record's prompt will be, before a pixel of it is touched or a weight is read.

Lengths are exact, so that batches can be planned by them and bad records told apart first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sgl.conversation import ConversationWriter, turns_of
from sgl.errors import PromptTooLongError, RecordError
from sgl.families.base import Family, ImageLayout, size_of
from sgl.types import ImageQuestion, TokenGrid, Turn

DEFAULT_MAX_NEW_TOKENS = 64


@dataclass(frozen=True)
class PromptLayout:
    """A record's prompt.

    Attributes:
        token_ids: T of them, one per visual token included.
        grids: where the visual tokens lie; empty for a record without images.
        rows_after_image: tokens after the last visual one.
        patches: tokens of the vision tower.
        vision_flops: the cost of the images' embeddings.
        max_new_tokens: the answer's limit.
    """

    token_ids: list[int]
    grids: tuple[TokenGrid, ...]
    rows_after_image: int
    patches: int
    vision_flops: float
    max_new_tokens: int

    @property
    def length(self) -> int:
        """T."""
        return len(self.token_ids)

    @property
    def visual_tokens(self) -> int:
        """V."""
        return sum(grid.rows * grid.columns for grid in self.grids)


@dataclass(frozen=True)
class PromptEncoder:
    """Lays out prompts for one checkpoint; needs none of its weights.

    Attributes:
        tokenizer: with the checkpoint's chat template.
        family: of the checkpoint.
    """

    tokenizer: Any
    family: Family

    def lay_out(
        self, record: ImageQuestion, max_new_tokens: int = DEFAULT_MAX_NEW_TOKENS
    ) -> PromptLayout:
        """Lay out one record.

        Args:
            record: with or without images.
            max_new_tokens: if the record names no limit of its own.

        Raises:
            EmptyQuestionError: there is nothing to answer.
            MalformedRecordError: the turns are no conversation about the record's images.
            ConversationError: the chat template cannot write the conversation faithfully.
            ControlTokenError: a text contains a control token or the image placeholder.
            ImageError: an image is of a shape that the family does not take.
            PromptTooLongError: prompt and answer limit exceed the model's context.
            RecordError: the limit is below 1.
        """
        limit = max_new_tokens if record.max_new_tokens is None else record.max_new_tokens
        if limit < 1:
            raise RecordError("max_new_tokens must be at least 1; an answer has one token or more")
        turns = turns_of(record)
        images = self.family.layouts([size_of(image) for image in record.images])
        token_ids = self._tokenize(turns, images)
        self._check_context(len(token_ids), limit)
        return PromptLayout(
            token_ids=token_ids,
            grids=tuple(grid for image in images for grid in image.grids),
            rows_after_image=_tokens_after_last(token_ids, self.family.config.image_token_id),
            patches=sum(image.patches for image in images),
            vision_flops=sum(image.flops for image in images),
            max_new_tokens=limit,
        )

    def _check_context(self, length: int, limit: int) -> None:
        context = self.family.config.text_config.max_position_embeddings
        if length + limit > context:
            raise PromptTooLongError(
                f"{length} prompt tokens and {limit} answer tokens exceed the model's context of "
                f"{context} tokens; shorten the text, shrink the image or lower max_new_tokens"
            )

    @cached_property
    def _writer(self) -> ConversationWriter:
        return ConversationWriter(self.tokenizer, self.family)

    def _tokenize(self, turns: Sequence[Turn], images: Sequence[ImageLayout]) -> list[int]:
        text = self._writer.write(turns)
        pieces = text.split(self.family.placeholder)
        assert len(pieces) == len(images) + 1, "the prompt has another number of images"
        expanded = pieces[0] + "".join(
            self.family.placeholder_tokens(image.grids) + piece
            for image, piece in zip(images, pieces[1:], strict=True)
        )
        ids: list[int] = self.tokenizer(expanded, add_special_tokens=False)["input_ids"]
        return ids


def _tokens_after_last(ids: Sequence[int], token: int) -> int:
    """How many tokens follow the last occurrence; 0 where there is none."""
    return next((i for i, id_ in enumerate(reversed(ids)) if id_ == token), 0)
