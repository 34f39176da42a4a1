"""From image-question records to what the decoder's first layer sees.

The native model runs up to its text model, so that the vision tower, the packing of its features
and M-RoPE stay the checkpoint's own; there a hook takes what arrived and ends the forward pass.
Shapes: B records, T prompt tokens (left-padded), D hidden, A position axes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from sgl.errors import EmptyQuestionError, PromptTooLongError, RecordError
from sgl.families.base import EncodedImages, Family
from sgl.language_model import Prompt
from sgl.types import ImageQuestion, TokenGrid

T = TypeVar("T")


@dataclass(frozen=True)
class PromptBatch:
    """Prompts of a batch, and what must be known of them on the host.

    Attributes:
        prompt: for the decoder.
        grids: per record, its visual tokens.
        lengths: per record, T without padding.
        rows_after_image: per record, the prompt tokens after its last visual token.
        vision_flops: per record, the cost of its images' embeddings.
    """

    prompt: Prompt
    grids: list[tuple[TokenGrid, ...]]
    lengths: list[int]
    rows_after_image: list[int]
    vision_flops: list[float]

    def visual_tokens(self, record: int) -> int:
        """V of one record."""
        return sum(grid.rows * grid.columns for grid in self.grids[record])

    def all_visual_tokens(self) -> list[int]:
        """V of every record."""
        return [self.visual_tokens(record) for record in range(len(self.grids))]


class _TextModelReachedError(Exception):
    """Ends the native forward pass; never leaves this module."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.arguments = arguments


def build_prompts(
    model: Any, tokenizer: Any, family: Family, records: Sequence[ImageQuestion]
) -> PromptBatch:
    """Preprocess, tokenize, pad and embed a batch.

    Args:
        model: the native vision-language model.
        tokenizer: with the checkpoint's chat template.
        family: of the model.
        records: at least one.

    Raises:
        EmptyQuestionError: a question without text.
        RecordError: a question that contains the image placeholder.
    """
    images = [image for record in records for image in record.images]
    counts = [len(record.images) for record in records]
    encoded = family.encode_images(images, counts) if images else EncodedImages({}, [], [])
    grids = [_numbered(of_record) for of_record in _per_record(encoded.grids, counts)]
    token_ids = [
        _tokenize(tokenizer, family, record, encoded_grids)
        for record, encoded_grids in zip(records, grids, strict=True)
    ]
    input_ids_BT, valid_BT = _left_pad(token_ids, _pad_token(tokenizer), model.device)
    visual_BT = (input_ids_BT == family.config.image_token_id) & valid_BT
    arrived = _run_to_text_model(
        model,
        family,
        {
            "input_ids": input_ids_BT,
            "attention_mask": valid_BT.long(),
            **{name: tensor.to(model.device) for name, tensor in encoded.model_inputs.items()},
            **family.text_inputs(input_ids_BT),
        },
    )
    positions = _positions(arrived.get("position_ids"), valid_BT)
    prompt = Prompt(
        embeds_BTD=arrived["inputs_embeds"],
        position_ids_ABT=positions,
        valid_BT=valid_BT,
        visual_BT=visual_BT,
        next_position_B=positions.masked_fill(~valid_BT, 0).amax(dim=(0, 2)) + 1,
        deepstack=_deepstack(arrived, visual_BT),
        block_BT=_image_blocks(visual_BT) if family.bidirectional_images else None,
    )
    flat_grids = [tuple(grid for image in record for grid in image) for record in grids]
    rows = [_tokens_after_last(ids, family.config.image_token_id) for ids in token_ids]
    flops = [sum(of_record) for of_record in _per_record(encoded.flops, counts)]
    return PromptBatch(prompt, flat_grids, [len(ids) for ids in token_ids], rows, flops)


def check_context(batch: PromptBatch, max_new_tokens: Sequence[int], context: int) -> None:
    """Refuse records that outgrow the model's context.

    Raises:
        PromptTooLongError: prompt and answer limit exceed `context` tokens.
    """
    for length, limit in zip(batch.lengths, max_new_tokens, strict=True):
        if length + limit > context:
            raise PromptTooLongError(
                f"{length} prompt tokens and {limit} answer tokens exceed the model's context of "
                f"{context} tokens; shorten the question, shrink the image or lower max_new_tokens"
            )


def _per_record(values: Sequence[T], counts: Sequence[int]) -> list[list[T]]:
    """Hand what is known of each image back to the records."""
    remaining = iter(values)
    return [[next(remaining) for _ in range(count)] for count in counts]


def _numbered(grids: Sequence[tuple[TokenGrid, ...]]) -> list[tuple[TokenGrid, ...]]:
    """Images counted from 0 within their record."""
    return [
        tuple(replace(grid, image=index) for grid in of_image)
        for index, of_image in enumerate(grids)
    ]


def _tokenize(
    tokenizer: Any, family: Family, record: ImageQuestion, grids: Sequence[tuple[TokenGrid, ...]]
) -> list[int]:
    if not record.question.strip():
        raise EmptyQuestionError("the question is empty; every record needs a question")
    image_token = tokenizer.convert_ids_to_tokens(family.config.image_token_id)
    for token in (family.placeholder, image_token):
        if token in record.question:
            raise RecordError(
                f"the question contains the model's image placeholder {token!r}; remove it"
            )
    content = [{"type": "image"} for _ in grids] + [{"type": "text", "text": record.question}]
    text: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    pieces = text.split(family.placeholder)
    assert len(pieces) == len(grids) + 1, "the chat template wrote another number of images"
    expanded = pieces[0] + "".join(
        family.placeholder_tokens(image) + piece
        for image, piece in zip(grids, pieces[1:], strict=True)
    )
    ids: list[int] = tokenizer(expanded, add_special_tokens=False)["input_ids"]
    return ids


def _pad_token(tokenizer: Any) -> int:
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def _left_pad(
    token_ids: Sequence[Sequence[int]], pad: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    width = max(len(ids) for ids in token_ids)
    padded = [[*[pad] * (width - len(ids)), *ids] for ids in token_ids]
    valid = [[*[False] * (width - len(ids)), *[True] * len(ids)] for ids in token_ids]
    return torch.tensor(padded, device=device), torch.tensor(valid, device=device)


def _run_to_text_model(
    model: Any, family: Family, inputs: Mapping[str, Tensor]
) -> Mapping[str, Any]:
    def stop(_module: Any, _args: Any, arguments: Mapping[str, Any]) -> NoReturn:
        raise _TextModelReachedError(arguments)

    family.reset(model)
    hook = model.get_decoder().register_forward_pre_hook(stop, with_kwargs=True)
    try:
        model.model(**inputs)
    except _TextModelReachedError as reached:
        return reached.arguments
    finally:
        hook.remove()
    raise AssertionError("the native forward pass never reached its text model")


def _positions(native: Tensor | None, valid_BT: Tensor) -> Tensor:
    """(A, B, T); families with 1-D positions leave them to be counted, without the padding."""
    if native is None:
        return (valid_BT.long().cumsum(dim=1) - 1).clamp(min=0)[None]
    return native[None] if native.ndim == 2 else native


def _deepstack(arrived: Mapping[str, Any], visual_BT: Tensor) -> tuple[Tensor, ...]:
    """Each (B, T, D): the visual features that the first layers are given, 0 on text.

    Natively they are rows for the image tokens alone; laid over the prompt they follow their tokens
    through pruning and padding.
    """
    embeds_BTD = arrived["inputs_embeds"]
    return tuple(
        torch.zeros_like(embeds_BTD).masked_scatter(
            visual_BT[..., None], features_VD.to(embeds_BTD)
        )
        for features_VD in arrived.get("deepstack_visual_embeds") or ()
    )


def _image_blocks(visual_BT: Tensor) -> Tensor:
    """(B, T) int64: runs of image tokens counted from 0 in each record, -1 on text."""
    starts_BT = visual_BT & ~pad(visual_BT, (1, 0))[:, :-1]
    return (starts_BT.cumsum(dim=1) - 1).masked_fill(~visual_BT, -1)


def _tokens_after_last(ids: Sequence[int], token: int) -> int:
    """How many tokens follow the last occurrence; 0 where there is none."""
    return next((i for i, id_ in enumerate(reversed(ids)) if id_ == token), 0)
