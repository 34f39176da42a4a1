"""From image-question records to what the decoder's first layer sees.

The native model runs up to its text model, so that the vision tower, the packing of its features
and M-RoPE stay the checkpoint's own; there a hook takes what arrived and ends the forward pass.
Shapes: B records, T prompt tokens (left-padded), D hidden, A position axes.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn.functional import pad

from sgl.families.base import Family
from sgl.language_model import Prompt
from sgl.layout import PromptEncoder, PromptLayout
from sgl.types import ImageQuestion
from sgl.vision_attention import VisionAttention


@dataclass(frozen=True)
class PromptBatch:
    """Prompts of a batch, and what must be known of them on the host.

    Attributes:
        prompt: for the decoder.
        layouts: per record.
        vision: what the vision tower attended to; None where nobody asked.
    """

    prompt: Prompt
    layouts: list[PromptLayout]
    vision: VisionAttention | None = None

    @property
    def width(self) -> int:
        """T, padding included."""
        return int(self.prompt.valid_BT.shape[1])


class _TextModelReachedError(Exception):
    """Ends the native forward pass; never leaves this module."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.arguments = arguments


def build_prompts(
    model: Any,
    encoder: PromptEncoder,
    records: Sequence[ImageQuestion],
    layouts: Sequence[PromptLayout],
    *,
    watch_vision: bool = False,
) -> PromptBatch:
    """Preprocess, pad and embed a batch.

    Args:
        model: the native vision-language model.
        encoder: of the model.
        records: at least one.
        layouts: of the records.
        watch_vision: see what the vision tower attends to.

    Raises:
        UnsupportedModelError: that cannot be seen in this family.
    """
    inputs = native_inputs(encoder, records, layouts)
    inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
    valid_BT = inputs["attention_mask"].bool()
    visual_BT = (inputs["input_ids"] == encoder.family.config.image_token_id) & valid_BT
    vision = VisionAttention(model, encoder.family) if watch_vision else None
    with vision or nullcontext():
        arrived = _run_to_text_model(model, encoder.family, inputs)
    positions = _positions(arrived.get("position_ids"), valid_BT)
    prompt = Prompt(
        embeds_BTD=arrived["inputs_embeds"],
        position_ids_ABT=positions,
        valid_BT=valid_BT,
        visual_BT=visual_BT,
        next_position_B=positions.masked_fill(~valid_BT, 0).amax(dim=(0, 2)) + 1,
        deepstack=_deepstack(arrived, visual_BT),
        block_BT=_image_blocks(visual_BT) if encoder.family.bidirectional_images else None,
    )
    return PromptBatch(prompt, list(layouts), vision)


def native_inputs(
    encoder: PromptEncoder, records: Sequence[ImageQuestion], layouts: Sequence[PromptLayout]
) -> dict[str, Tensor]:
    """What the native model's `forward` and `generate` take: a left-padded batch, on the host."""
    images = [image for record in records for image in record.images]
    counts = [len(record.images) for record in records]
    input_ids_BT, valid_BT = _left_pad(
        [layout.token_ids for layout in layouts], _pad_token(encoder.tokenizer)
    )
    return {
        "input_ids": input_ids_BT,
        "attention_mask": valid_BT.long(),
        **(encoder.family.model_inputs(images, counts) if images else {}),
        **encoder.family.text_inputs(input_ids_BT),
    }


def _pad_token(tokenizer: Any) -> int:
    return int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id)


def _left_pad(token_ids: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    width = max(len(ids) for ids in token_ids)
    padded = [[*[pad] * (width - len(ids)), *ids] for ids in token_ids]
    valid = [[*[False] * (width - len(ids)), *[True] * len(ids)] for ids in token_ids]
    return torch.tensor(padded), torch.tensor(valid)


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
